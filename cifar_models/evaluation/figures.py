"""Figures of one run, as PNG files.

What a figure cannot show, such as too many classes or a name in a script that the font lacks, is
left out, and the figure and the log say so.
"""

from typing import BinaryIO

import keras
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifar_models.data.splits import Split, evenly_spaced
from cifar_models.evaluation.figure_text import (
    OWN_STYLE,
    add_notes,
    readable_names,
    readable_title,
    unreadable_names,
)
from cifar_models.evaluation.metrics import (
    MAX_SHOWN_CLASSES,
    confusion_matrix,
    most_confused_classes,
)
from cifar_models.evaluation.predictions import Predictions

TRAIN_COLOUR, VALIDATION_COLOUR = "#9a6324", "#1f5fa8"
MAX_FILTERS = 64
SAMPLE_ROWS, SAMPLE_COLUMNS = 4, 6
MAX_CLASSES_WITH_NUMBERS = 20  # a larger confusion matrix shows only colours


@matplotlib.rc_context(OWN_STYLE)
def draw_curves(history: list[dict[str, float]], title: str, file: BinaryIO) -> None:
    """Draw loss and accuracy by epoch, for train and validation, on two axes."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, colour in (("train", TRAIN_COLOUR), ("validation", VALIDATION_COLOUR)):
            if f"{part}_{name}" not in history[0]:
                continue  # a run without a validation split
            values = [row[f"{part}_{name}"] for row in history]
            axes.plot(epochs, values, color=colour, label=part, marker="." * (len(epochs) < 40))
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(readable_title(title))
    figure.savefig(file, format="png", dpi=120)


@matplotlib.rc_context(OWN_STYLE)
def draw_confusion_matrix(predictions: Predictions, title: str, file: BinaryIO) -> None:
    """Draw a confusion matrix of counts, coloured by the fraction of each true class.

    Of more than MAX_SHOWN_CLASSES classes, those with the most mistakes are drawn.
    """
    labels, probabilities = predictions.labels, predictions.probabilities
    classes = most_confused_classes(labels, probabilities, MAX_SHOWN_CLASSES)  # (C,)
    counts = confusion_matrix(labels, probabilities, classes)  # (C, C)
    images = np.bincount(labels, minlength=len(predictions.class_names))[classes]
    fractions = counts / images[:, None].clip(1)
    num_classes, notes = len(classes), []
    if num_classes < len(predictions.class_names):
        mistakes = int((probabilities.argmax(axis=1) != labels).sum())
        notes.append(
            f"shown: the {num_classes} of {len(predictions.class_names):,} classes with the most "
            f"mistakes; {counts.sum() - counts.trace():,} of {mistakes:,} mistakes are among them"
        )
    side = min(max(4, 0.6 * num_classes + 2), 14)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    all_names = readable_names(predictions.class_names)
    names = [all_names[number] for number in classes]
    fontsize = 10 if num_classes <= MAX_CLASSES_WITH_NUMBERS else 5
    axes.set_xticks(range(num_classes), names, rotation=90, fontsize=fontsize)
    axes.set_yticks(range(num_classes), names, fontsize=fontsize)
    axes.set(xlabel="predicted", ylabel="true", title=readable_title(title))
    if num_classes <= MAX_CLASSES_WITH_NUMBERS:
        for row, column in np.ndindex(*counts.shape):
            colour = "white" if fractions[row, column] > 0.5 else "black"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    notes += unreadable_names(predictions.class_names, classes)
    add_notes(figure, "confusion matrix", notes)
    figure.savefig(file, format="png", dpi=120)


@matplotlib.rc_context(OWN_STYLE)
def draw_first_layer(network: keras.Model, title: str, file: BinaryIO) -> None:
    """Draw the kernels of the first layer as small images, each scaled to its own range."""
    kernels = first_layer_kernels(network)[:MAX_FILTERS]  # (F, P, P, C)
    low = kernels.min(axis=(1, 2, 3), keepdims=True)
    high = kernels.max(axis=(1, 2, 3), keepdims=True)
    images = (kernels - low) / np.maximum(high - low, 1e-12)
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(columns, rows + 0.6), layout="constrained")
    figure.subplots(rows, columns)
    for axes in figure.axes:
        axes.axis("off")
    for axes, image in zip(figure.axes, images, strict=False):
        axes.imshow(image, cmap="gray")  # the colour map applies only if there is one channel
    figure.suptitle(readable_title(title))
    figure.savefig(file, format="png", dpi=120)


def first_layer_kernels(network: keras.Model) -> np.ndarray:
    """Return the kernels of the first convolution or patch embedding, (F, P, P, C).

    Raises:
        ValueError: The network has neither.
    """
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            return np.transpose(np.asarray(layer.kernel), (3, 0, 1, 2))
        if isinstance(layer, keras.layers.Dense):
            patch_size = network.get_layer("patches").patch_size
            kernel = np.asarray(layer.kernel)  # (P * P * C, F)
            return kernel.T.reshape(kernel.shape[1], patch_size, patch_size, -1)
    raise ValueError(f"network {network.name} has neither a convolution nor a patch embedding")


@matplotlib.rc_context(OWN_STYLE)
def draw_sample_predictions(split: Split, predictions: Predictions, file: BinaryIO) -> None:
    """Draw images spread evenly over a split with the predicted class; mistakes are red."""
    figure = Figure(figsize=(1.6 * SAMPLE_COLUMNS, 1.9 * SAMPLE_ROWS), layout="constrained")
    figure.subplots(SAMPLE_ROWS, SAMPLE_COLUMNS)
    indices = evenly_spaced(len(split), SAMPLE_ROWS * SAMPLE_COLUMNS)
    for axes in figure.axes:
        axes.axis("off")
    names, shown = readable_names(predictions.class_names), set()
    samples = zip(indices, split.images_at(indices), strict=True)
    for axes, (index, image) in zip(figure.axes, samples, strict=False):
        label, probabilities = predictions.labels[index], predictions.probabilities[index]
        best = probabilities.argmax()
        shown |= {best, label}
        text = f"{names[best]} {probabilities[best]:.0%}"
        if best != label:
            text += f"\n(is {names[label]})"
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(text, fontsize=8, color="black" if best == label else "#b00020")
    figure.suptitle("Predicted class and confidence")
    add_notes(figure, "sample predictions", unreadable_names(predictions.class_names, shown))
    figure.savefig(file, format="png", dpi=120)
