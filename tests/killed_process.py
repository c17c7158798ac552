"""Run a command in a process that kills itself with SIGKILL.

    python -m tests.killed_process MOMENT COUNT COMMAND…

MOMENT "step" kills it after COUNT training steps. The other moments are within the COUNT-th save of
a checkpoint: "writing" (half of the file is written), "written" (all of it, but not flushed),
"flushed" (not yet renamed) and "renamed" (older checkpoints not yet removed).
"""

import os
import signal
import sys
from typing import BinaryIO

from cifar_models.cli.main import main
from cifar_models.storage import atomic_files


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_after_steps(count: int) -> None:
    """Patch training so that the process is killed after `count` steps."""
    from cifar_models.runtime.quiet_tensorflow import import_tensorflow

    import_tensorflow()
    from cifar_models.training.stopwatch import Stopwatch

    real, earlier_steps = Stopwatch.on_train_batch_end, iter(range(1, count))

    def on_train_batch_end(self, batch, logs=None):
        real(self, batch, logs)
        if next(earlier_steps, None) is None:
            kill_this_process()

    Stopwatch.on_train_batch_end = on_train_batch_end


class HalfAFile:
    """A file that is open for writing, and whose process is killed when half of it is written."""

    def __init__(self, file: BinaryIO):
        self._file = file

    def __enter__(self) -> "HalfAFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, content: bytes) -> None:
        self._file.write(content[: len(content) // 2])
        self._file.flush()
        kill_this_process()


def kill_in_a_save(moment: str, count: int) -> None:
    """Patch the functions that write files so that the `count`-th save is not completed."""
    earlier_saves = iter(range(1, count))
    create, flush, rename = atomic_files.create_file, os.fsync, os.replace
    is_last_save = False

    def create_file(name, folder):
        nonlocal is_last_save
        file = create(name, folder)
        is_checkpoint = name.startswith(f"{atomic_files.PARTIAL}step")
        if is_checkpoint and next(earlier_saves, None) is None:
            is_last_save = True
            return HalfAFile(file) if moment == "writing" else file
        return file

    def fsync(descriptor):
        if is_last_save and moment == "written":
            kill_this_process()
        flush(descriptor)

    def replace(source, target, **folders):
        if is_last_save and moment == "flushed":
            kill_this_process()
        rename(source, target, **folders)
        if is_last_save and moment == "renamed":
            kill_this_process()

    atomic_files.create_file, os.fsync, os.replace = create_file, fsync, replace


if __name__ == "__main__":
    moment, count, *command = sys.argv[1:]
    if moment == "step":
        kill_after_steps(int(count))
    else:
        kill_in_a_save(moment, int(count))
    sys.exit(main(command))
