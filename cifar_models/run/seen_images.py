"""Images on which a finished run was trained, among those of other data."""

import logging

import numpy as np

from cifar_models.config.recipe import Recipe
from cifar_models.data.duplicates import image_hashes
from cifar_models.data.splits import Split, Splits
from cifar_models.run.load import FinishedRun
from cifar_models.storage.records import DatasetInfo

logger = logging.getLogger("cifar_models")


def warn_of_seen_images(run: FinishedRun, split: Split) -> None:
    """Log a line if images of a split are training images of a run, which has recorded them."""
    trained = run.folder.read_training_hashes()
    if trained is None:
        return
    if seen := int(np.isin(image_hashes(split), trained).sum()):
        logger.warning(
            "%d of the %d images are training images of %s; the accuracy will be too high",
            seen,
            len(split),
            run.path,
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
