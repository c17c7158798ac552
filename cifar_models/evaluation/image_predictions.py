"""Predictions for image files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from cifar_models.data.grey import as_grey
from cifar_models.data.image_file import ReadImage
from cifar_models.data.read_images import read_all
from cifar_models.errors import RequestError
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


def refuse_other_shapes(image_shape: tuple[int, int, int]) -> None:
    """Raise RequestError if images of a shape (H, W, C) are not square, as files become."""
    height, width, _ = image_shape
    if height != width:
        raise RequestError(
            f"the network takes images of {width}x{height} pixels, and files become squares"
        )


@dataclass(frozen=True)
class ImageClassifier:
    """A trained model, of a run or an export, that classifies image files.

    Attributes:
        image_shape: Shape (H, W, C) of its images.
        class_names: Names of the K classes.
        resize: data.resize of the recipe.
        probabilities: Function (images, size) of images, uint8 (B, H, W, C), and the largest batch
            size, which returns their probabilities, float32 (B, K).
        batch_size_for: Function of the number of images, which returns the largest batch size.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    resize: str
    probabilities: Callable[[np.ndarray, int], np.ndarray]
    batch_size_for: Callable[[int], int]

    def predict(self, paths: Sequence[str]) -> Iterator[ImagePrediction]:
        """Return the predictions for image files, in order, as they are made.

        The files are read exactly as images of a folder are for training. Predictions for the test
        images of a run equal its recorded ones to the last bit, on the machine that trained it.

        Raises:
            RequestError: The model takes images that are not square.
        """
        refuse_other_shapes(self.image_shape)
        return self._predictions(paths)

    def _predictions(self, paths: Sequence[str]) -> Iterator[ImagePrediction]:
        height, size = self.image_shape[0], self.batch_size_for(len(paths))
        waiting: list[tuple[str, ReadImage | str]] = []
        num_images = 0
        with closing(read_all(paths, height, self.resize)) as results:
            for path, result in results:
                waiting.append((path, result))
                num_images += isinstance(result, ReadImage)
                if num_images == size:
                    yield from self._predict_batch(waiting, size)
                    waiting, num_images = [], 0
        yield from self._predict_batch(waiting, size)

    def _predict_batch(
        self, files: Sequence[tuple[str, ReadImage | str]], size: int
    ) -> Iterator[ImagePrediction]:
        images = [each.pixels for _, each in files if isinstance(each, ReadImage)]
        rows: Iterable[np.ndarray] = []
        if images:
            batch = np.stack(images)
            rows = self.probabilities(batch if self.image_shape[2] == 3 else as_grey(batch), size)
        row = iter(rows)
        for path, each in files:
            if isinstance(each, str):
                problem = each.replace("\n", " ")
                yield ImagePrediction(path, None, self.class_names, problem)
            else:
                yield ImagePrediction(path, next(row), self.class_names)
        obey_stop()
