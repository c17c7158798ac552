"""Predictions for image files, by the network of a finished run."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifar_models.config.paths import user_path
from cifar_models.data.folder_layout import SYSTEM_NAMES
from cifar_models.data.image_file import SUFFIXES, ReadImage, as_grey
from cifar_models.data.read_images import read_all
from cifar_models.errors import RequestError
from cifar_models.run.load import FinishedRun
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


def find_image_files(inputs: Sequence[str | Path]) -> list[str]:
    """Return the paths of image files: each input that is a file, and what folders hold.

    Of a folder, the files with the suffix of an image are taken, in subfolders too, in the order of
    their names. Hidden files are left out.

    Args:
        inputs: Paths of files and folders.

    Raises:
        RequestError: A path does not exist, or there is no image file.
    """
    paths: list[str] = []
    for each in inputs:
        path = user_path(str(each))
        if not path.exists():
            raise RequestError(f"{path}: no such file or folder; check the path")
        paths += _files_below(path) if path.is_dir() else [str(path)]
    if not paths:
        raise RequestError(f"{inputs[0]}: holds no image files ({', '.join(sorted(SUFFIXES))})")
    return paths


def _files_below(folder: Path) -> list[str]:
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_visible(name))
        found += [
            os.path.join(root, name)  # noqa: PTH118  # a Path for each of a million files is slow
            for name in sorted(names)
            if _is_visible(name) and name.lower().endswith(tuple(SUFFIXES))
        ]
    return found


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in SYSTEM_NAMES


def predict_files(run: FinishedRun, paths: Sequence[str]) -> Iterator[ImagePrediction]:
    """Predict image files, which are read exactly as images of a folder are for training.

    Predictions for the test images of a run equal its recorded ones to the last bit, on the machine
    that trained it.

    Args:
        run: The finished run.
        paths: Paths of the files.

    Yields:
        One prediction for each path, in order.

    Raises:
        RequestError: The network takes images that are not square.
    """
    height, width, channels = run.dataset.image_shape
    if height != width:
        raise RequestError(
            f"{run.path}: its network takes images of {width}x{height} pixels, and files become "
            "squares"
        )
    from cifar_models.evaluation.predictions import batch_size_for, probabilities_of

    network, class_names = run.network, tuple(run.dataset.class_names)
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
    for path, result in read_all(paths, height, run.recipe.data.resize):
        waiting.append((path, result))
        num_images += isinstance(result, ReadImage)
        if num_images == size:
            yield from predicted()
            num_images = 0
    yield from predicted()
