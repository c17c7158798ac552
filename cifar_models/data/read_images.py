"""Reading many image files with all cores."""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from cifar_models.data.dataset import Findings
from cifar_models.data.folder_layout import ImageFiles
from cifar_models.data.image_file import ReadImage, quiet_pillow, read_image
from cifar_models.data.splits import ArraySplit
from cifar_models.runtime.environment import usable_cores
from cifar_models.runtime.signals import obey_stop
from cifar_models.runtime.text import duration_in_words

logger = logging.getLogger("cifar_models")

SECONDS_BETWEEN_LINES = 10
FILES_PER_TASK = 8  # of a thread
WAITING_TASKS = 32  # so that no thread waits while results are used


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
    for number, (path, result) in enumerate(read_all(files.paths, size, resize)):
        if isinstance(result, ReadImage):
            images[number] = result.pixels
            findings.sizes.extend(result.size)
            for remark in result.remarks:
                findings.remarks[remark].append(path)
        else:
            usable[number] = False
            findings.unusable.append(f"{path}: {result}".replace("\n", " "))
    whole = ArraySplit(images, files.labels, np.array(files.paths, object))
    return whole if usable.all() else whole.subset(np.flatnonzero(usable))


def read_all(paths: Sequence[str], size: int, resize: str) -> Iterator[tuple[str, ReadImage | str]]:
    """Yield each path with its image, or with the reason why it cannot be used."""

    def read(path: str) -> ReadImage | str:
        try:
            return read_image(Path(path), size, resize)
        except Exception as error:  # Pillow raises many, such as struct.error
            return str(error) or type(error).__name__

    def read_several(several: Sequence[str]) -> list[tuple[str, ReadImage | str]]:
        return [(path, read(path)) for path in several]

    progress, count = _Progress(len(paths)), 0
    pending: deque[Future] = deque()
    starts = iter(range(0, len(paths), FILES_PER_TASK))
    pool = ThreadPoolExecutor(usable_cores())
    try:
        with quiet_pillow():
            while True:
                for first in islice(starts, WAITING_TASKS - len(pending)):
                    pending.append(pool.submit(read_several, paths[first : first + FILES_PER_TASK]))
                if not pending:
                    return
                results = pending.popleft().result()
                yield from results
                obey_stop()
                count += len(results)
                progress.show(count)
    finally:
        pool.shutdown(cancel_futures=True)


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
