"""The `augmentation` table of a recipe, and the augmentations of the train step.

To add one, write its function in a file of its own, and add its keys and a line of AUGMENTATIONS
here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cifar_models.config.keys import NOT_NEGATIVE, UNIT_INTERVAL, Bounds, key

# Of the parameter of a Beta distribution. Above it, every number that is drawn is almost 1/2.
BETA = Bounds(0, 1000)


@dataclass(frozen=True)
class AugmentationSpec:
    """An entry of AUGMENTATIONS.

    Attributes:
        apply: "module:function" of a function (batch, key, config) → Batch, which is imported when
            a step is compiled. See `augmentation/batch.py`.
        keys: Keys of the `augmentation` table; the augmentation is on if one of them is not 0.
        stream: Number of its random stream, unique among the entries. It never changes, because
            another number would change the results of recipes. Those from 100 are for additions
            from outside of this package.
        description: One line for docs/recipe_keys.md.
    """

    apply: str
    keys: tuple[str, ...]
    stream: int
    description: str


# In the order in which they are applied.
AUGMENTATIONS = {
    "resized_crop": AugmentationSpec(
        "cifar_models.augmentation.resized_crop:resized_crop",
        ("resized_crop_min_area",),
        6,
        "cut out a random rectangle and resize it (arXiv:1409.4842)",
    ),
    "random_crop": AugmentationSpec(
        "cifar_models.augmentation.crop:random_crop",
        ("crop_padding",),
        0,
        "shift by a random number of pixels, filling by reflection",
    ),
    "horizontal_flip": AugmentationSpec(
        "cifar_models.augmentation.flip:horizontal_flip",
        ("horizontal_flip",),
        1,
        "flip left to right with probability 1/2",
    ),
    "colour_jitter": AugmentationSpec(
        "cifar_models.augmentation.colour_jitter:colour_jitter",
        ("jitter_brightness", "jitter_contrast", "jitter_saturation", "jitter_hue"),
        7,
        "change brightness, contrast, saturation and hue",
    ),
    "cutout": AugmentationSpec(
        "cifar_models.augmentation.erase:cutout",
        ("cutout_size",),
        5,
        "blank a square (arXiv:1708.04552)",
    ),
    "rand_augment": AugmentationSpec(
        "cifar_models.augmentation.rand_augment:rand_augment",
        ("rand_augment_layers",),
        2,
        "random transformations (arXiv:1909.13719)",
    ),
    "random_erasing": AugmentationSpec(
        "cifar_models.augmentation.erase:random_erasing",
        ("random_erasing",),
        3,
        "fill a rectangle with noise (arXiv:1708.04896)",
    ),
    "mix": AugmentationSpec(
        "cifar_models.augmentation.mix:mix",
        ("mixup_alpha", "cutmix_alpha"),
        4,
        "MixUp (arXiv:1710.09412) and CutMix (arXiv:1905.04899)",
    ),
}


@dataclass(frozen=True)
class AugmentationConfig:
    """The `augmentation` table."""

    resized_crop_min_area: float = key(
        0.0, "Smallest area of a random rectangle, fraction of the image; 0: off.", UNIT_INTERVAL
    )
    crop_padding: int = key(0, "Largest shift of a random crop, pixels; 0: off.", NOT_NEGATIVE)
    horizontal_flip: bool = key(False, "Flip each image with probability 1/2.")
    alternating_flip: bool = key(
        False, "Flip each image in every other epoch instead (arXiv:2404.00498, section 3.6)."
    )
    jitter_brightness: float = key(
        0.0, "Largest relative change of the brightness; 0: off.", NOT_NEGATIVE
    )
    jitter_contrast: float = key(
        0.0, "Largest relative change of the contrast; 0: off.", NOT_NEGATIVE
    )
    jitter_saturation: float = key(
        0.0, "Largest relative change of the saturation; 0: off.", NOT_NEGATIVE
    )
    jitter_hue: float = key(
        0.0, "Largest shift of the hue, fraction of the colour circle; 0: off.", Bounds(0, 0.5)
    )
    cutout_size: int = key(0, "Side of a blanked square, pixels; 0: off.", NOT_NEGATIVE)
    rand_augment_layers: int = key(0, "Transformations of RandAugment; 0: off.", Bounds(0, 100))
    rand_augment_magnitude: float = key(9.0, "Strength of RandAugment.", Bounds(0, 10))
    random_erasing: float = key(0.0, "Probability of random erasing.", UNIT_INTERVAL)
    mixup_alpha: float = key(0.0, "Parameter of MixUp's Beta distribution; 0: off.", BETA)
    cutmix_alpha: float = key(
        0.0,
        "Parameter of CutMix's Beta distribution; 0: off. If MixUp is on too, each image uses one.",
        BETA,
    )
    mix_probability: float = key(1.0, "Probability that an image is mixed.", UNIT_INTERVAL)
    mix_until_fraction: float = key(
        1.0, "Fraction of all steps after which no image is mixed.", UNIT_INTERVAL
    )
    tta_views: int = key(
        1,
        "Test-time augmentation views whose logits are averaged; 2: flips, 6: flips and shifts.",
        choices=(1, 2, 6),
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, what is wrong) for values that do not fit each other."""
        if self.horizontal_flip and self.alternating_flip:
            yield "alternating_flip", "replaces horizontal_flip: choose one"
