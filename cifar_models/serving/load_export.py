"""An exported model, which classifies image files."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_models.data.image_paths import find_image_files
from cifar_models.errors import RequestError
from cifar_models.runtime.device import let_gpu_memory_grow
from cifar_models.runtime.memory import refuse_if_too_large
from cifar_models.runtime.quiet_tensorflow import import_tensorflow
from cifar_models.serving.formats import find_format
from cifar_models.serving.model_card import JSON_FILE, ModelCard, read_card

if TYPE_CHECKING:
    import numpy as np

    from cifar_models.evaluation.image_predictions import ImageClassifier, ImagePrediction

BATCH = 64  # images


@dataclass(frozen=True)
class Export:
    """An export of a finished run.

    Attributes:
        path: Path of its folder.
        card: Its model card.
    """

    path: Path
    card: ModelCard

    @property
    def class_names(self) -> list[str]:
        return self.card.class_names

    def load(self) -> "Callable[[np.ndarray], np.ndarray]":
        """Return the function from images, uint8 (B, H, W, C), to probabilities (B, K).

        Raises:
            RequestError: The model does not fit its card, which may be untrusted.
        """
        import numpy as np

        card = self.card
        if card.format == "saved_model":
            import_tensorflow()
            let_gpu_memory_grow()
        what = f"{self.path}: {BATCH} images of {card.image_shape[1]}x{card.image_shape[0]} pixels"
        refuse_if_too_large(BATCH * math.prod(card.image_shape), what, "export the run again")
        expected = 1, len(card.class_names)
        try:
            predict = find_format(card.format).load_model(self.path)
            found = predict(np.zeros((1, *card.image_shape), np.uint8)).shape
        except Exception as error:  # each runtime has types of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RequestError(
                f"{self.path}: cannot be loaded, or does not take the images of {JSON_FILE}: "
                f"{reason}; export the run again"
            ) from None
        if found != expected:
            raise RequestError(
                f"{self.path}: the model returns an array of shape {found}, and {JSON_FILE} says "
                f"{expected}; export the run again"
            )
        return predict

    @cached_property
    def classifier(self) -> "ImageClassifier":
        """The model, with what it takes to classify image files."""
        from cifar_models.evaluation.image_predictions import ImageClassifier

        card, predict = self.card, self.load()
        return ImageClassifier(
            image_shape=card.image_shape,
            class_names=tuple(card.class_names),
            resize=card.resize,
            probabilities=lambda images, size: predict(images),
            batch_size_for=lambda count: min(count, BATCH),
        )

    def predict(self, inputs: Sequence[str | Path]) -> "Iterator[ImagePrediction]":
        """Yield the predictions for image files and for those in folders, in order.

        Raises:
            RequestError: A path does not exist, there is no image file, or the model does not fit
                its card.
        """
        paths = find_image_files(inputs)  # an error comes before the model is loaded
        return self.classifier.predict(paths)


def is_export(path: Path) -> bool:
    """Return whether a folder is an export."""
    return (path / JSON_FILE).is_file()


def load_export(path: Path | str) -> Export:
    """Open an export. A SavedModel can run code, so open only those that you trust.

    Args:
        path: Path of the folder that `export` wrote.

    Raises:
        RequestError: The folder is no export, its model card is damaged, or a package that its
            format needs is missing.
    """
    card = read_card(Path(path))
    find_format(card.format)
    return Export(Path(path), card)
