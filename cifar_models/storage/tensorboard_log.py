"""TensorBoard events of a run, keyed by the global step."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cifar_models.storage.atomic_files import write_error

logger = logging.getLogger("cifar_models")


class TensorBoardLog:
    """Writer of scalars, images, and hyperparameters with the final metrics.

    Train and validation are two runs in TensorBoard, so that their curves share a chart.

    Args:
        folder: Folder of the events.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._writers: dict = {}

    def scalars(self, split: str, step: int, values: dict[str, float]) -> None:
        """Write one point of each curve of a split."""
        import tensorflow as tf

        with self._writing(split, step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def images(self, name: str, step: int, images: np.ndarray) -> None:
        """Write images, uint8 (N, H, W, C)."""
        import tensorflow as tf

        with self._writing("", step):
            tf.summary.image(name, images, max_outputs=len(images))

    def figure(self, name: str, step: int, path: Path) -> None:
        """Write a figure that was saved as a PNG file."""
        from PIL import Image

        with Image.open(path) as image:
            self.images(name, step, np.asarray(image.convert("RGB"))[np.newaxis])

    def hyperparameters(
        self, step: int, values: dict[str, object], metrics: dict[str, float]
    ) -> None:
        """Write one row of the HParams tab: the keys of the recipe and the final metrics."""
        import tensorflow as tf
        from tensorboard.plugins.hparams import api

        with self._writing("", step):
            api.hparams({key: _hyperparameter(value) for key, value in values.items()})
            for name, value in metrics.items():
                tf.summary.scalar(name, value)

    def close(self) -> None:
        """Close the files. An error is logged, because every event was flushed when written."""
        for split, writer in self._writers.items():
            try:
                writer.close()
            except Exception as error:
                logger.warning("%s: cannot be closed: %s", self._folder / split, error)

    @contextlib.contextmanager
    def _writing(self, split: str, step: int) -> Iterator[None]:
        """Direct tf.summary to the events of a split, and flush them at the end of the block."""
        import tensorflow as tf

        with self._translated_errors(split):
            if split not in self._writers:
                self._writers[split] = tf.summary.create_file_writer(str(self._folder / split))
            with self._writers[split].as_default(step):
                yield
            self._writers[split].flush()

    @contextlib.contextmanager
    def _translated_errors(self, split: str) -> Iterator[None]:
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            raise write_error(self._folder / split, error.message.splitlines()[0]) from None


def _hyperparameter(value: object) -> bool | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)
