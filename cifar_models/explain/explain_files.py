"""`explain`: pictures beside maps of what speaks for their class."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cifar_models.data.grey import as_grey
from cifar_models.data.image_paths import find_image_files
from cifar_models.data.read_images import read_all
from cifar_models.errors import RequestError, RunError
from cifar_models.evaluation.figure_text import readable_names
from cifar_models.evaluation.image_predictions import refuse_other_shapes
from cifar_models.evaluation.predictions import predict_images
from cifar_models.explain.map_figure import draw_contact_sheet, draw_maps
from cifar_models.explain.saliency import (
    deletion_and_insertion,
    enlarged_map,
    fitting_method,
    occlusion,
)
from cifar_models.models.test_time_augmentation import without_test_time_augmentation
from cifar_models.run.load import FinishedRun
from cifar_models.runtime.signals import obey_stop
from cifar_models.storage.disk_errors import disk_errors

logger = logging.getLogger("cifar_models")

JSON_FILE, SHEET_FILE = "explanations.json", "contact-sheet.png"
MAX_ON_SHEET = 60  # images
SHOWN_CLASSES = 5
OCCLUDED_PART = 4  # a square hides this part of a side
STRIDES = 4  # of a square in its side


@dataclass(frozen=True)
class Explanation:
    """What speaks for the class of a picture, without the maps.

    Attributes:
        path: Path of the picture.
        figure: Name of its figure.
        label: The class that is explained.
        probability: Its probability.
        classes: Classes with their probabilities, the highest first.
        deletion: Method → area under the curve of deletion, 0 to 1.
        insertion: Method → area under the curve of insertion, 0 to 1.
    """

    path: str
    figure: str
    label: str
    probability: float
    classes: dict[str, float]
    deletion: dict[str, float]
    insertion: dict[str, float]


def explain_files(
    run: FinishedRun, inputs: Sequence[str | Path], out: Path, label: str | None = None
) -> Iterator[Explanation]:
    """Write a figure for each picture, and yield its explanation; then write two more files.

    These are contact-sheet.png and explanations.json. The maps are Grad-CAM for a network of
    convolutions or the attention for the class for one with attention, and occlusion for both.

    Args:
        run: The finished run.
        inputs: Paths of image files and folders.
        out: Folder of the figures. It must be empty or new.
        label: Class to explain. None: the most probable class of each picture.

    Raises:
        RequestError: A path does not exist, there is no picture, no class has this name, the images
            of the run are not square, or the folder holds files.
        RunError: A picture cannot be read. The others are explained first.
    """
    paths, height = find_image_files(inputs), run.dataset.image_shape[0]
    refuse_other_shapes(run.dataset.image_shape)
    if label is not None and label not in run.class_names:
        raise RequestError(f"--class {label}: must be one of {', '.join(run.class_names)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"{out}: holds files; choose another --out or remove it")
    explainer, found, unreadable = _Explainer(run, label), [], 0
    with disk_errors(out, "repeat the command"):
        out.mkdir(parents=True, exist_ok=True)
        images = read_all(paths, height, run.recipe.data.resize)
        try:
            for number, (path, image) in enumerate(images, start=1):
                if isinstance(image, str):
                    logger.warning("%s: cannot be read: %s", path, image)
                    unreadable += 1
                    continue
                figure = f"{number:04d}-{Path(path).stem[:60]}.png"
                found.append(explainer.explain(path, image.pixels, out / figure))
                yield found[-1]
                obey_stop()
        finally:  # after an interruption, those that exist
            images.close()
            explainer.draw_sheet(out / SHEET_FILE)
            text = json.dumps([asdict(each) for each in found], indent=1) + "\n"
            (out / JSON_FILE).write_text(text)
    if unreadable:
        raise RunError(f"{unreadable:,} of {len(paths):,} files could not be read")


class _Explainer:
    """The network of a run and its methods, which are built once."""

    def __init__(self, run: FinishedRun, label: str | None):
        self._whole_network = run.network  # with test-time augmentation, as `predict` has it
        self._network = without_test_time_augmentation(run.network)
        self._names, self._label = run.class_names, label
        self._shown_as = readable_names(run.class_names)
        self._method = fitting_method(self._network)
        self._is_grey = run.dataset.image_shape[2] == 1
        self._on_sheet: list[tuple[np.ndarray, np.ndarray, str]] = []  # image, map, class

    def explain(self, path: str, rgb: np.ndarray, figure: Path) -> Explanation:
        """Explain a picture, uint8 (H, W, 3), and draw its figure."""
        image = as_grey(rgb[np.newaxis])[0] if self._is_grey else rgb
        (scores,) = predict_images(self._whole_network, image[np.newaxis])
        target = int(scores.argmax()) if self._label is None else self._names.index(self._label)
        maps = self._maps(image, target)
        areas = {
            method: deletion_and_insertion(self._network, image, target, values)
            for method, values in maps.items()
        }
        best = np.argsort(-scores, kind="stable")[:SHOWN_CLASSES]
        bars = [(self._shown_as[index], float(scores[index])) for index in best]
        draw_maps(image, maps, bars, self._shown_as[target], figure)
        if len(self._on_sheet) < MAX_ON_SHEET:
            self._on_sheet.append((image, maps[self._method.name], self._shown_as[target]))
        return Explanation(
            path=path,
            figure=figure.name,
            label=self._names[target],
            probability=float(scores[target]),
            classes={self._names[index]: float(scores[index]) for index in best},
            deletion={method: deletion for method, (deletion, _) in areas.items()},
            insertion={method: insertion for method, (_, insertion) in areas.items()},
        )

    def _maps(self, image: np.ndarray, target: int) -> dict[str, np.ndarray]:
        """Return method → map, float32 (H, W), of an image, uint8 (H, W, C)."""
        side = image.shape[0]
        patch = max(side // OCCLUDED_PART, 1)
        (found,) = self._method(image[np.newaxis], np.array([target]))
        return {
            self._method.name: enlarged_map(found, side),
            "occlusion": occlusion(self._network, image, target, patch, max(patch // STRIDES, 1)),
        }

    def draw_sheet(self, path: Path) -> None:
        """Draw the contact sheet, if a picture was explained."""
        if self._on_sheet:
            draw_contact_sheet(self._on_sheet, path)
