"""A run's TensorBoard events, every point keyed by the global step."""

from pathlib import Path

import numpy as np


class TensorBoardLog:
    """Writes scalars of each split, images, and hyperparameters with their final metrics.

    Train and validation are two runs in TensorBoard, so their curves share a chart.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._writers: dict = {}

    def scalars(self, split: str, step: int, values: dict[str, float]) -> None:
        import tensorflow as tf

        with self._writer(split).as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def images(self, name: str, step: int, images: np.ndarray) -> None:
        """images: uint8 (N, H, W, C)."""
        import tensorflow as tf

        with self._writer("").as_default(step):
            tf.summary.image(name, images, max_outputs=len(images))

    def picture(self, name: str, step: int, path: Path) -> None:
        """A figure that was drawn to a PNG file."""
        from PIL import Image

        with Image.open(path) as image:
            self.images(name, step, np.asarray(image.convert("RGB"))[np.newaxis])

    def hyperparameters(
        self, step: int, values: dict[str, object], metrics: dict[str, float]
    ) -> None:
        """One row of the HParams tab: what the run was given, and what came out."""
        import tensorflow as tf
        from tensorboard.plugins.hparams import api

        with self._writer("").as_default(step):
            api.hparams({key: _hyperparameter(value) for key, value in values.items()})
            for name, value in metrics.items():
                tf.summary.scalar(name, value)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, split: str):
        import tensorflow as tf

        if split not in self._writers:
            self._writers[split] = tf.summary.create_file_writer(str(self._folder / split))
        return self._writers[split]


def _hyperparameter(value: object) -> bool | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)
