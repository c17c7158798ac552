"""Whether a recipe fits the training images: batches, steps, crops and cutouts."""

import logging

from cifar_models.config.keys import MAX_WHOLE_NUMBER
from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import with_values
from cifar_models.data.splits import Split
from cifar_models.errors import RequestError

logger = logging.getLogger("cifar_models")


def with_fitting_batch(recipe: Recipe, train: Split) -> Recipe:
    """Lower the batch size of a recipe if an epoch would have too few steps, and say so.

    Args:
        recipe: The recipe, with training.min_steps_per_epoch.
        train: The training images.
    """
    training = recipe.training
    fitting = max(1, len(train) // training.min_steps_per_epoch)
    if training.batch_size <= fitting:
        return recipe
    logger.warning(
        "batches of %d images instead of %d: an epoch of %d images has at least %d steps "
        "(training.min_steps_per_epoch)",
        fitting,
        training.batch_size,
        len(train),
        training.min_steps_per_epoch,
    )
    return with_values(recipe, {"training.batch_size": fitting})


def check_fits(recipe: Recipe, train: Split) -> None:
    """Raise RequestError if the steps, crops or cutouts of a recipe do not fit the images."""
    size = min(train.image_shape[:2])
    steps = recipe.training.epochs * (len(train) // recipe.training.batch_size)
    if steps > MAX_WHOLE_NUMBER:
        raise RequestError(
            f"{recipe.name}: training.epochs = {recipe.training.epochs} are {steps:,} steps, more "
            f"than {MAX_WHOLE_NUMBER:,}; lower it"
        )
    for key in ("crop_padding", "cutout_size"):
        if getattr(recipe.augmentation, key) >= size:
            raise RequestError(
                f"{recipe.name}: augmentation.{key} = {getattr(recipe.augmentation, key)} must "
                f"be below {size}, the side of the images of {recipe.data.dataset} in pixels"
            )
