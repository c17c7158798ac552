"""Figures of images: samples, patches, attention maps and position embeddings."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cifar_models.data.splits import Split
from cifar_models.explain.attention import attention_rollout, attention_to_patches

SAMPLES_PER_CLASS = 3
MAX_CLASSES = 12  # columns of the figure of samples
FRAME_STYLE: dict[str, Any] = {"edgecolor": "#ff6a00", "fill": False, "lw": 2}


def draw_samples(split: Split, class_names: tuple[str, ...], path: Path) -> None:
    """Draw the first images of each class, one column per class.

    Args:
        split: Images and labels.
        class_names: K names; classes after the first MAX_CLASSES are left out.
        path: File of the figure.
    """
    shown = class_names[:MAX_CLASSES]
    figure = Figure(figsize=(0.9 * len(shown), 1.1 * SAMPLES_PER_CLASS), layout="constrained")
    grid = figure.subplots(SAMPLES_PER_CLASS, len(shown), squeeze=False)
    for label, column in enumerate(grid.T):
        of_class = split.images_at(np.flatnonzero(split.labels == label))
        for axes in column:
            axes.axis("off")
        for axes, image in zip(column, of_class, strict=False):
            _show_image(axes, image)
        # A name may contain dollar signs, which are not mathematics.
        column[0].set_title(shown[label], fontsize=9, parse_math=False)
    figure.savefig(path, dpi=120)


def draw_patches(image: np.ndarray, patch_size: int, path: Path) -> None:
    """Draw an image, its patches, and the patches as the input sequence of a transformer.

    Args:
        image: Image, uint8 (H, W, C).
        patch_size: Side of a patch in pixels; divides H and W.
        path: File of the figure.
    """
    height, width, _ = image.shape
    # Row-major order, as in PatchExtraction.
    corners = np.mgrid[0:height:patch_size, 0:width:patch_size].reshape(2, -1).T  # (N, 2)
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(4, 1)).flat
    whole, divided = above.subplots(1, 2)
    _show_image(whole, image)
    whole.set_title(f"image of {height}x{width} pixels", fontsize=10)
    _show_image(divided, image)
    divided.set_title(f"{len(corners)} patches of {patch_size}x{patch_size} pixels", fontsize=10)
    for top, left in corners:
        corner = (left - 0.5, top - 0.5)  # integer coordinates are the centers of pixels
        _draw_frame(divided, corner, patch_size)
    below.suptitle("input sequence of the transformer", fontsize=10)
    sequence = below.subplots(1, len(corners), squeeze=False)[0]
    for number, (axes, (top, left)) in enumerate(zip(sequence, corners, strict=True)):
        _show_image(axes, image[top : top + patch_size, left : left + patch_size])
        axes.set_title(str(number), fontsize=8)
    figure.savefig(path, dpi=120)


def draw_attention(images: np.ndarray, maps: np.ndarray, path: Path) -> None:
    """Draw the attention that patches receive: mean over heads per layer, and rollout.

    Args:
        images: Images, uint8 (B, H, W, C); one row each.
        maps: Attention weights (B, L, heads, N, N), as from `attention_maps`.
        path: File of the figure.
    """
    layers = attention_to_patches(maps.mean(axis=2))  # (B, L, rows, columns)
    rollout = attention_to_patches(attention_rollout(maps))  # (B, rows, columns)
    figure, grid = _draw_maps(images, np.concatenate([layers, rollout[:, np.newaxis]], axis=1))
    titles = [f"layer {number}" for number in range(1, maps.shape[1] + 1)]
    for axes, title in zip(grid[0], ["image", *titles, "rollout"], strict=True):
        axes.set_title(title, fontsize=9)
    figure.savefig(path, dpi=120)


def draw_heads(image: np.ndarray, maps: np.ndarray, patch: int, path: Path) -> None:
    """Draw the attention of one query patch; rows are layers, columns are heads.

    Args:
        image: Image, uint8 (H, W, C).
        maps: Attention weights of the image (L, heads, N, N) of N patches without a class token.
        patch: Index of the query patch, 0 to N - 1; framed in the figure.
        path: File of the figure.
    """
    num_layers, num_heads, num_patches, _ = maps.shape
    side = math.isqrt(num_patches)
    of_patch = maps[:, :, patch].reshape(num_layers, num_heads, side, side)
    figure, grid = _draw_maps(np.stack([image] * num_layers), of_patch)
    titles = [f"head {number}" for number in range(1, num_heads + 1)]
    for axes, title in zip(grid[0], ["query patch", *titles], strict=True):
        axes.set_title(title, fontsize=9)
    for number, axes in enumerate(grid[:, 0], start=1):
        axes.set_ylabel(f"layer {number}")
        corner = (patch % side, patch // side)
        _draw_frame(axes, corner, 1)
    figure.savefig(path, dpi=120)


def draw_position_similarities(similarities: np.ndarray, path: Path) -> None:
    """Draw the similarity of each position embedding to all others, one small map per position.

    Args:
        similarities: Cosine similarities (N, N), as from `position_similarities`.
        path: File of the figure.
    """
    side = math.isqrt(len(similarities))
    figure = Figure(figsize=(4.6, 4), layout="constrained")
    for axes, row in zip(figure.subplots(side, side).flat, similarities, strict=True):
        colored = axes.imshow(row.reshape(side, side), cmap="viridis", vmin=-1, vmax=1)
        axes.set(xticks=[], yticks=[])
    figure.colorbar(colored, ax=figure.axes, label="cosine similarity")
    figure.savefig(path, dpi=120)


def _draw_maps(images: np.ndarray, maps: np.ndarray) -> tuple[Figure, np.ndarray]:
    """Draw each image (B, H, W, C) beside its maps (B, M, rows, columns), on one color scale.

    Returns:
        The figure and its axes (B, 1 + M).
    """
    num_images, num_maps, side, _ = maps.shape
    figure = Figure(figsize=(1.2 * num_maps + 2, 1.2 * num_images + 0.3), layout="constrained")
    grid = figure.subplots(num_images, num_maps + 1, squeeze=False)
    scale = PowerNorm(0.5, vmin=0, vmax=maps.max())  # a linear scale shows only the largest values
    for row, image, maps_of_image in zip(grid, images, maps, strict=True):
        _show_image(row[0], image, extent=(0, side, side, 0))  # axes in units of patches
        for axes, attention in zip(row[1:], maps_of_image, strict=True):
            colored = axes.imshow(attention, norm=scale)
            axes.set(xticks=[], yticks=[])
    figure.colorbar(colored, ax=figure.axes, label="attention weight")
    return figure, grid


def _show_image(axes: Axes, image: np.ndarray, **options) -> None:
    """Show an image (H, W, C); the color map applies only if C is 1."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, **options)
    axes.set(xticks=[], yticks=[])


def _draw_frame(axes: Axes, corner: tuple[float, float], side: float) -> None:
    axes.add_patch(Rectangle(corner, side, side, clip_on=False, **FRAME_STYLE))
