"""Reading many image files with all cores."""

import logging
import multiprocessing
import statistics
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, nullcontext, suppress
from itertools import islice
from pathlib import Path

import numpy as np

from cifar_models.data.dataset import Findings
from cifar_models.data.folder_layout import ImageFiles
from cifar_models.data.image_file import ReadImage, quiet_pillow, read_image, silence_pillow
from cifar_models.data.splits import ArraySplit
from cifar_models.errors import RunError
from cifar_models.runtime.environment import usable_cores
from cifar_models.runtime.signals import obey_stop
from cifar_models.runtime.spawned_processes import end_with_parent, spawning
from cifar_models.runtime.text import duration_in_words

logger = logging.getLogger("cifar_models")

SECONDS_BETWEEN_LINES = 10
FILES_PER_TASK = 8
SMALL_FILES_PER_TASK = 64  # each task costs the time of several small files
WAITING_FILES = 512  # so that no core waits while results are used
WAITING_BYTES = 256 * 2**20  # of their images, at most
# Most of the time in which a small file is read is spent in Python, where only one thread of a
# process runs at a time. Two threads then read fewer images a second than one (LOG.md).
MAX_BYTES_OF_SMALL_FILES = 10_000  # on average
FILES_PER_PROCESS = 2_500  # fewer are read before a process has started
MAX_PROCESSES = 8
SAMPLED_FILES = 100

Result = tuple[str, ReadImage | str]


def read_images(files: ImageFiles, size: int, resize: str, findings: Findings) -> ArraySplit:
    """Read the images of a split with all cores.

    Args:
        files: The N files.
        size: Height and width S of the images, pixels.
        resize: As for `read_image`.
        findings: What is found is added to it.

    Returns:
        The images that can be used, uint8 (M, S, S, 3), in the order of the files.
    """
    images = np.empty((len(files.paths), size, size, 3), np.uint8)
    usable = np.ones(len(files.paths), bool)
    with closing(read_all(files.paths, size, resize)) as results:
        for number, (path, result) in enumerate(results):
            if isinstance(result, ReadImage):
                images[number] = result.pixels
                findings.sizes.extend(result.size)
                for remark in result.remarks:
                    findings.remarks[remark].append(path)
            else:
                usable[number] = False
                findings.unusable.append(f"{path}: {result}".replace("\n", " "))
    whole = ArraySplit(images, files.labels, files.paths)
    return whole if usable.all() else whole.subset(np.flatnonzero(usable))


def read_all(paths: Sequence[str], size: int, resize: str) -> Generator[Result]:
    """Yield each path with its image, or with the reason why it cannot be used.

    Args:
        paths: The paths.
        size: Height and width S of the images, pixels.
        resize: As for `read_image`.

    Raises:
        RunError: A process that reads images has died.
    """
    progress, count = _Progress(len(paths)), 0
    pending: deque[Future[list[Result]]] = deque()
    are_small = _are_small(paths)
    per_task = SMALL_FILES_PER_TASK if are_small else FILES_PER_TASK
    starts = iter(range(0, len(paths), per_task))
    pool, num_workers = _make_pool(len(paths), are_small)
    most = max(WAITING_FILES // per_task, 2 * num_workers)
    max_pending = max(2, min(most, WAITING_BYTES // (per_task * size * size * 3)))
    starting = spawning if isinstance(pool, ProcessPoolExecutor) else nullcontext
    try:
        with quiet_pillow():
            while True:
                for first in islice(starts, max_pending - len(pending)):
                    several = list(paths[first : first + per_task])
                    with starting():  # the pool starts its processes as they are needed
                        pending.append(pool.submit(_read_several, several, size, resize))
                if not pending:
                    return
                results = pending.popleft().result()
                yield from results
                obey_stop()
                count += len(results)
                progress.show(count)
    except BrokenProcessPool:
        obey_stop()  # the signal may have reached all processes
        raise RunError(
            f"a process that read images from {paths[count]} on has died; its memory may have run "
            "out"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _make_pool(count: int, are_small: bool) -> tuple[Executor, int]:
    """Return the pool that reads files fastest, and its number of threads or processes.

    Large files are read by a thread for each core. Small ones are read by one thread or, if there
    are many of them and this process may start others, by processes.

    Args:
        count: Number of files.
        are_small: Whether they are small.
    """
    cores = usable_cores()
    if not are_small:
        return ThreadPoolExecutor(cores), cores
    num_processes = min(cores, MAX_PROCESSES, count // FILES_PER_PROCESS)
    if num_processes > 1 and not multiprocessing.current_process().daemon:
        with suppress(OSError, ImportError):  # such as a system without shared memory
            context = multiprocessing.get_context("spawn")  # TensorFlow's threads forbid to fork
            with spawning():
                pool = ProcessPoolExecutor(num_processes, context, _begin_process)
            return pool, num_processes
    return ThreadPoolExecutor(1), 1


def _are_small(paths: Sequence[str]) -> bool:
    """Return whether most of the time in which files are read is spent in Python."""
    sample = paths[:: max(1, len(paths) // SAMPLED_FILES)]
    return not sample or statistics.mean(map(_bytes_of, sample)) <= MAX_BYTES_OF_SMALL_FILES


def _bytes_of(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:  # `read_image` will say why
        return 0


def _begin_process() -> None:
    end_with_parent()
    silence_pillow()


def _read_several(paths: Sequence[str], size: int, resize: str) -> list[Result]:
    return [(path, _read(path, size, resize)) for path in paths]


def _read(path: str, size: int, resize: str) -> ReadImage | str:
    try:
        return read_image(Path(path), size, resize)
    except Exception as error:  # Pillow raises many, such as struct.error
        return str(error) or type(error).__name__


class _Progress:
    """Lines in the log about long reading."""

    def __init__(self, total: int):
        self.total, self.began = total, time.monotonic()
        self.shown = self.began

    def show(self, count: int) -> None:
        """Log how many images have been read, if the last line is some seconds old."""
        now = time.monotonic()
        if now - self.shown < SECONDS_BETWEEN_LINES or count == self.total:
            return
        self.shown = now
        seconds = (now - self.began) / count * (self.total - count)
        logger.info(
            "read %s of %s images, about %s to go",
            f"{count:,}",
            f"{self.total:,}",
            duration_in_words(seconds),
        )
