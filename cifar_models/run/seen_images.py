"""Images on which a finished run was trained, among those of other data."""

import logging

import numpy as np

from cifar_models.config.recipe import Recipe
from cifar_models.data.duplicates import image_hashes
from cifar_models.data.splits import Split, Splits
from cifar_models.run.load import FinishedRun
from cifar_models.storage.records import DatasetInfo

logger = logging.getLogger("cifar_models")


def warn_of_seen_images(run: FinishedRun, split: Split, what: str = "images") -> None:
    """Log a line if images of a split are training images of a run, which has recorded them.

    Args:
        run: The run.
        split: The split.
        what: What its images are, in words.
    """
    trained = run.folder.read_training_hashes()
    if trained is None:
        return
    if seen := int(np.isin(image_hashes(split), trained).sum()):
        logger.warning(
            "%d of the %d %s are training images of %s; the accuracy will be too high",
            seen,
            len(split),
            what,
            run.path,
        )


def warn_of_images_seen_before(
    start: FinishedRun, recipe: Recipe, data: DatasetInfo, splits: Splits
) -> None:
    """Log which test and validation images the run was trained on from whose weights a run starts.

    Args:
        start: The run whose weights are taken.
        recipe, data, splits: As for `has_seen_validation`.
    """
    then, now = start.dataset.image_shape, data.image_shape
    if then != now or start.recipe.data.resize != recipe.data.resize:  # the hashes are of pixels
        logger.warning(
            "%s was trained on images of another shape, so it is not known whether it has seen "
            "test or validation images of this run",
            start.path,
        )
        return
    warn_of_seen_images(start, splits.test, "test images")
    if has_seen_validation(start, recipe, data, splits):
        logger.warning(
            "%s was trained on validation images of this run, so the validation accuracy will "
            "be too high; if the data are the same, give both runs the same seed and "
            "data.validation_fraction",
            start.path,
        )


def has_seen_validation(
    earlier: FinishedRun, recipe: Recipe, data: DatasetInfo, splits: Splits
) -> bool:
    """Return whether an earlier run was trained on validation images of a new run.

    A validation image that equals a training image of the new run is left out.

    Args:
        earlier: The earlier run.
        recipe: Recipe of the new run.
        data: Description of its data.
        splits: Its splits.
    """
    if not len(splits.validation):
        return False
    trained = earlier.folder.read_training_hashes()
    if trained is not None:
        validation = image_hashes(splits.validation)
        seen = validation[np.isin(validation, trained)]
        # The training images are read again only if there is something to explain.
        return bool(len(seen) and not np.isin(seen, image_hashes(splits.train)).all())
    # The run is of an earlier version.
    then, now = earlier.recipe, recipe
    return earlier.dataset.sha256 == data.sha256 and (
        (then.data.validation_fraction, then.runtime.seed)
        != (now.data.validation_fraction, now.runtime.seed)
    )
