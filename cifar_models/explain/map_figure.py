"""Figures of pictures beside saliency maps."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_models.evaluation.figure_text import OWN_STYLE

INCHES = 2.4  # of a picture
MAX_OPACITY = 0.75  # of a map over its picture
SHEET_COLUMNS = 6  # pairs of a picture and its map


@matplotlib.rc_context(OWN_STYLE)
def draw_maps(
    image: np.ndarray,
    maps: dict[str, np.ndarray],
    classes: Sequence[tuple[str, float]],
    label: str,
    path: Path,
) -> None:
    """Draw a picture, its maps, and the probabilities of its classes.

    Args:
        image: Image, uint8 (H, W, C).
        maps: Method → map, float (H, W).
        classes: Class and probability, the highest first. Here and below, classes are
            written as `readable_names` gives them.
        label: The class that the maps explain.
        path: File of the figure.
    """
    figure = Figure(figsize=((len(maps) + 2) * INCHES, INCHES + 0.3), layout="constrained")
    axes = figure.subplots(1, len(maps) + 2)
    _show(axes[0], image)
    axes[0].set_title("picture", fontsize=9)
    for each, (method, values) in zip(axes[1:], maps.items(), strict=False):
        _overlay(each, image, values)
        each.set_title(f"{method}: {label}", fontsize=9)
    bars = axes[-1]
    names, heights = zip(*classes, strict=True)
    bars.barh(range(len(names)), heights, color="#4477aa")
    bars.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 1), xlabel="probability")
    bars.tick_params(labelsize=8)
    bars.invert_yaxis()
    figure.savefig(path, dpi=110)


@matplotlib.rc_context(OWN_STYLE)
def draw_contact_sheet(shown: Sequence[tuple[np.ndarray, np.ndarray, str]], path: Path) -> None:
    """Draw pictures beside their maps, several in a row.

    Args:
        shown: Image, uint8 (H, W, C); map, float (H, W); and class of each picture.
        path: File of the figure.
    """
    columns = min(SHEET_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(2.2 * columns, 1.3 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False).reshape(-1, 2)
    for pair in grid[len(shown) :]:
        for axes in pair:
            axes.axis("off")
    for (left, right), (image, values, label) in zip(grid, shown, strict=False):
        _show(left, image)
        _overlay(right, image, values)
        left.set_title(label, fontsize=7)
    figure.savefig(path, dpi=110)


def _show(axes: Axes, image: np.ndarray, **options) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, **options)
    axes.set(xticks=[], yticks=[])


def _overlay(axes: Axes, image: np.ndarray, values: np.ndarray) -> None:
    _show(axes, overlaid(image, values))


def overlaid(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a map over a grey copy of a picture, uint8 (H, W, 3); negative values are left out.

    Args:
        image: Image, uint8 (H, W, C).
        values: Map, float (H, W).
    """
    positive = np.maximum(values, 0)
    peak = positive.max()
    strength = positive / peak if peak > 0 else positive
    colours = 255 * matplotlib.colormaps["inferno"](strength)[..., :3]
    opacity = MAX_OPACITY * strength[..., np.newaxis]
    grey = image.mean(axis=-1, keepdims=True)
    return (opacity * colours + (1 - opacity) * grey).round().astype(np.uint8)
