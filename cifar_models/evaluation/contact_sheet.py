"""A contact sheet: a few images of each class in one figure."""

from typing import BinaryIO

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from cifar_models.data.splits import Split, evenly_spaced
from cifar_models.evaluation.figure_text import OWN_STYLE, add_notes, readable_names

IMAGES_PER_CLASS = 10
MAX_CLASSES = 30
INCHES = 0.9  # of an image and its margin


@matplotlib.rc_context(OWN_STYLE)
def draw_contact_sheet(split: Split, class_names: tuple[str, ...], file: BinaryIO) -> None:
    """Draw a row of images for each class, spread evenly over its images.

    Args:
        split: The images.
        class_names: Names of the K classes. The first MAX_CLASSES are drawn.
        file: Open file of the PNG image.
    """
    names = readable_names(class_names)[:MAX_CLASSES]
    figure = Figure(
        figsize=((IMAGES_PER_CLASS + 2) * INCHES, (len(names) + 0.5) * INCHES), layout="constrained"
    )
    grid = figure.subplots(len(names), IMAGES_PER_CLASS, squeeze=False)
    for label, name in enumerate(names):
        of_class = np.flatnonzero(split.labels == label)
        chosen = of_class[evenly_spaced(len(of_class), IMAGES_PER_CLASS)] if len(of_class) else []
        for axes in grid[label]:
            axes.set(xticks=[], yticks=[])
            axes.set_frame_on(False)
        for axes, image in zip(grid[label], split.images_at(np.array(chosen, int)), strict=False):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        grid[label, 0].set_ylabel(
            f"{name}\n{len(of_class):,}", rotation=0, ha="right", va="center", fontsize=8
        )
    hidden = len(class_names) - len(names)
    add_notes(figure, "contact sheet", [f"{hidden:,} more classes are not shown"] * (hidden > 0))
    figure.savefig(file, format="png", dpi=100)
