"""A process that runs a command and kills itself on the way: WHERE COUNT COMMAND…

WHERE is "step" (after so many training steps) or a moment of the COUNT-th save of a checkpoint:
"begun" (half of the file is written), "written" (not yet flushed), "flushed" (not yet renamed) or
"renamed" (older ones not yet removed).
"""

import os
import signal
import sys
from pathlib import Path

from cifar_models.cli.main import main
from cifar_models.storage import atomic_files as files


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after_steps(count: int) -> None:
    from cifar_models.runtime.quiet_tensorflow import import_tensorflow

    import_tensorflow()
    from cifar_models.training.callbacks import Stopwatch

    real, steps = Stopwatch.on_train_batch_end, iter(range(1, count))

    def on_train_batch_end(self, batch, logs=None):
        real(self, batch, logs)
        if next(steps, None) is None:
            die()

    Stopwatch.on_train_batch_end = on_train_batch_end


def die_in_a_save(where: str, count: int) -> None:
    saves = iter(range(1, count))
    write, flush, rename = Path.write_bytes, os.fsync, Path.replace
    dying = []

    def write_bytes(self, content):
        is_checkpoint = self.name.startswith(f"{files.PARTIAL}step")
        if is_checkpoint and next(saves, None) is None:
            dying.append(self)
            if where == "begun":
                write(self, content[: len(content) // 2])
                die()
        return write(self, content)

    def fsync(descriptor):
        if dying and where == "written":
            die()
        flush(descriptor)

    def replace(self, target):
        if dying and where == "flushed":
            die()
        result = rename(self, target)
        if dying and where == "renamed":
            die()
        return result

    Path.write_bytes, os.fsync, Path.replace = write_bytes, fsync, replace


if __name__ == "__main__":
    where, count, *command = sys.argv[1:]
    if where == "step":
        die_after_steps(int(count))
    else:
        die_in_a_save(where, int(count))
    sys.exit(main(command))
