"""Predictions for image files."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from cifar_models.data.image_file import ReadImage, as_grey
from cifar_models.data.read_images import read_all
from cifar_models.errors import RequestError
from cifar_models.evaluation.predictions import batch_size_for, probabilities_of
from cifar_models.runtime.signals import obey_stop


@dataclass(frozen=True)
class ImagePrediction:
    """The prediction for one image file.

    Attributes:
        path: Path of the file.
        probabilities: Predicted probabilities, float32 (K,), in the order of `class_names`. None:
            the file cannot be read.
        class_names: Names of the K classes.
        problem: Why the file cannot be read, or "".
    """

    path: str
    probabilities: np.ndarray | None
    class_names: tuple[str, ...]
    problem: str = ""

    def top(self, count: int = 1) -> list[tuple[str, float]]:
        """Return the most probable classes with their probabilities, the highest first."""
        if self.probabilities is None:
            return []
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.class_names[index], float(self.probabilities[index])) for index in order]


def predict_files(
    network: keras.Model, class_names: tuple[str, ...], paths: Sequence[str], resize: str
) -> Iterator[ImagePrediction]:
    """Predict image files, which are read exactly as images of a folder are for training.

    Predictions for the test images of a run equal its recorded ones to the last bit, on the machine
    that trained it.

    Args:
        network: uint8 images (B, H, W, C) → logits (B, K).
        class_names: Names of the K classes.
        paths: Paths of the files.
        resize: data.resize of the recipe.

    Yields:
        One prediction for each path, in order.

    Raises:
        RequestError: The network takes images that are not square.
    """
    height, width, channels = network.input_shape[1:]
    if height != width:
        raise RequestError(
            f"the network takes images of {width}x{height} pixels, and files become squares"
        )
    size = batch_size_for(network, len(paths))
    waiting: list[tuple[str, ReadImage | str]] = []

    def predicted() -> Iterator[ImagePrediction]:
        images = [each.pixels for _, each in waiting if isinstance(each, ReadImage)]
        rows: Iterable[np.ndarray] = []
        if images:
            batch = np.stack(images)
            rows = probabilities_of(network, batch if channels == 3 else as_grey(batch), size)
        row = iter(rows)
        for path, each in waiting:
            if isinstance(each, str):
                yield ImagePrediction(path, None, class_names, each.replace("\n", " "))
            else:
                yield ImagePrediction(path, next(row), class_names)
        waiting.clear()
        obey_stop()

    num_images = 0
    for path, result in read_all(paths, height, resize):
        waiting.append((path, result))
        num_images += isinstance(result, ReadImage)
        if num_images == size:
            yield from predicted()
            num_images = 0
    yield from predicted()
