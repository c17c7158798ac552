"""Images become figures: samples, patches, and what a transformer looks at."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cifar_models.data.splits import Split
from cifar_models.explain.attention import attention_rollout, attention_to_patches

SAMPLES_A_CLASS = 3
MAX_CLASSES = 12  # columns of the samples
FRAME = "#ff6a00"


def draw_samples(split: Split, class_names: tuple[str, ...], path: Path) -> None:
    """Draws the first images of each class, a column a class."""
    shown = class_names[:MAX_CLASSES]
    figure = Figure(figsize=(0.9 * len(shown), 1.1 * SAMPLES_A_CLASS), layout="constrained")
    grid = figure.subplots(SAMPLES_A_CLASS, len(shown), squeeze=False)
    for label, column in enumerate(grid.T):
        of_class = split.images_at(np.flatnonzero(split.labels == label))
        for axes in column:
            axes.axis("off")
        for axes, image in zip(column, of_class, strict=False):
            _show_image(axes, image)
        column[0].set_title(shown[label], fontsize=9)
    figure.savefig(path, dpi=120)


def draw_patches(image: np.ndarray, patch_size: int, path: Path) -> None:
    """Draws an image (H, W, C), how it is cut into patches, and the sequence that they become.

    Patches run row by row, as in `layers.patches.PatchExtraction`.
    """
    height, width, _ = image.shape
    corners = np.mgrid[0:height:patch_size, 0:width:patch_size].reshape(2, -1).T  # (N, 2)
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(4, 1)).flat
    whole, cut = above.subplots(1, 2)
    _show_image(whole, image)
    whole.set_title(f"the image: {height}x{width} pixels", fontsize=10)
    _show_image(cut, image)
    cut.set_title(f"{len(corners)} patches of {patch_size}x{patch_size} pixels", fontsize=10)
    for top, left in corners:
        square = (left - 0.5, top - 0.5)  # a pixel's centre is its whole number
        _frame(cut, square, patch_size)
    below.suptitle("the sequence that the transformer reads", fontsize=10)
    line = below.subplots(1, len(corners), squeeze=False)[0]
    for number, (axes, (top, left)) in enumerate(zip(line, corners, strict=True)):
        _show_image(axes, image[top : top + patch_size, left : left + patch_size])
        axes.set_title(str(number), fontsize=8)
    figure.savefig(path, dpi=120)


def draw_attention(images: np.ndarray, maps: np.ndarray, path: Path) -> None:
    """Draws what each layer looks at, the mean of its heads, and the rollout; a row an image.

    images: uint8 (B, H, W, C); maps: (B, layers, heads, N, N), of `attention_maps`.
    """
    layers = attention_to_patches(maps.mean(axis=2))  # (B, layers, rows, columns)
    rollout = attention_to_patches(attention_rollout(maps))  # (B, rows, columns)
    pictures = np.concatenate([layers, rollout[:, np.newaxis]], axis=1)
    titles = [f"layer {number}" for number in range(1, maps.shape[1] + 1)]
    figure, grid = _images_beside_maps(images, pictures)
    for axes, title in zip(grid[0], ["image", *titles, "rollout"], strict=True):
        axes.set_title(title, fontsize=9)
    figure.savefig(path, dpi=120)


def draw_heads(image: np.ndarray, maps: np.ndarray, patch: int, path: Path) -> None:
    """Draws what one patch of an image looks at, framed; a row a layer and a column a head.

    image: uint8 (H, W, C); maps: (layers, heads, N, N) of N patches; patch: 0 to N - 1.
    """
    num_layers, num_heads, num_patches, _ = maps.shape
    side = math.isqrt(num_patches)
    pictures = maps[:, :, patch].reshape(num_layers, num_heads, side, side)
    figure, grid = _images_beside_maps(np.stack([image] * num_layers), pictures)
    titles = [f"head {number}" for number in range(1, num_heads + 1)]
    for axes, title in zip(grid[0], ["looking from", *titles], strict=True):
        axes.set_title(title, fontsize=9)
    for number, axes in enumerate(grid[:, 0], start=1):
        axes.set_ylabel(f"layer {number}")
        corner = (patch % side, patch // side)
        _frame(axes, corner, 1)
    figure.savefig(path, dpi=120)


def draw_position_similarities(similarities: np.ndarray, path: Path) -> None:
    """Draws how alike the vector of each place is to all others: (N, N), a small map a place."""
    side = math.isqrt(len(similarities))
    figure = Figure(figsize=(4.6, 4), layout="constrained")
    for axes, row in zip(figure.subplots(side, side).flat, similarities, strict=True):
        drawn = axes.imshow(row.reshape(side, side), cmap="viridis", vmin=-1, vmax=1)
        axes.set(xticks=[], yticks=[])
    figure.colorbar(drawn, ax=figure.axes, label="cosine similarity")
    figure.savefig(path, dpi=120)


def _images_beside_maps(images: np.ndarray, maps: np.ndarray) -> tuple[Figure, np.ndarray]:
    """Shows each image (B, H, W, C), and beside it its maps (B, M, rows, columns), on one scale.

    Returns the figure and its axes (B, 1 + M).
    """
    num_images, num_maps, side, _ = maps.shape
    figure = Figure(figsize=(1.2 * num_maps + 2, 1.2 * num_images + 0.3), layout="constrained")
    grid = figure.subplots(num_images, num_maps + 1, squeeze=False)
    scale = PowerNorm(0.5, vmin=0, vmax=maps.max())  # a linear one hides all but the highest
    for row, image, pictures in zip(grid, images, maps, strict=True):
        _show_image(row[0], image, extent=(0, side, side, 0))  # in patches, as the maps are
        for axes, picture in zip(row[1:], pictures, strict=True):
            drawn = axes.imshow(picture, norm=scale)
            axes.set(xticks=[], yticks=[])
    figure.colorbar(drawn, ax=figure.axes, label="share of the attention")
    return figure, grid


def _show_image(axes: Axes, image: np.ndarray, **options) -> None:
    """Shows (H, W, C); the map counts for one channel only."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, **options)
    axes.set(xticks=[], yticks=[])


def _frame(axes: Axes, corner: tuple[float, float], side: float) -> None:
    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=FRAME, lw=2, clip_on=False))
