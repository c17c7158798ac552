"""Whether a recipe fits the training images: batches, steps, crops and cutouts."""

import logging

from cifar_models.config.keys import MAX_WHOLE_NUMBER
from cifar_models.config.model_tables import TransformerConfig, ViTConfig
from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import with_values
from cifar_models.data.splits import Split
from cifar_models.errors import RequestError

logger = logging.getLogger("cifar_models")

MAX_TOKENS = 1024  # without a warning
USUAL_TOKENS = 256  # ViT-B/16 has 196 on images of 224 pixels


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


def warn_of_many_tokens(recipe: Recipe) -> None:
    """Log a line if there are so many tokens that attention takes most of the time and memory."""
    model = recipe.model
    if not isinstance(model, TransformerConfig) or model.num_tokens <= MAX_TOKENS:
        return
    advice = model.fewer_tokens
    if isinstance(model, ViTConfig):
        side = model.image_size
        fitting = next(
            size
            for size in range(model.patch_size, side + 1)
            if side % size == 0 and (side // size) ** 2 <= USUAL_TOKENS
        )
        advice += f"; with model.patch_size={fitting} there are {(side // fitting) ** 2}"
    logger.warning(
        "%d tokens an image (model.image_size %d): attention takes most of the time and memory; %s",
        model.num_tokens,
        model.image_size,
        advice,
    )


def check_fits(recipe: Recipe, train: Split) -> None:
    """Raise RequestError if the steps, crops or cutouts of a recipe do not fit the images.

    A line is logged if there are very many tokens.
    """
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
    warn_of_many_tokens(recipe)
