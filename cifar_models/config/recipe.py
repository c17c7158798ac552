"""What a run is: frozen tables, one for each concern; no TensorFlow.

`recipe_file.py` reads them from TOML, refuses unknown keys and applies overrides. Every field's
default is what a recipe that leaves it out gets.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from cifar_models.config.model_presets import ModelConfig


@dataclass(frozen=True)
class DataConfig:
    dataset: str = "cifar10"  # a TFDS name, "digits" (bundled), or "folder:PATH"
    data_dir: str = ""  # where TFDS keeps its data; "" is its own default
    # Of the training images, stratified, cut out by the seed; 0: all of them are trained on.
    validation_fraction: float = 0.1
    train_fraction: float = 1.0  # of what is left; stratified, a smaller one is part of a larger
    folder_image_size: int = 32  # pixels; the images of a folder are resized to this square

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields (key, what is wrong with its value)."""
        if not 0 <= self.validation_fraction < 1:
            yield "validation_fraction", "must be at least 0 and below 1"
        if not 0 < self.train_fraction <= 1:
            yield "train_fraction", "must be above 0 and at most 1"
        if self.folder_image_size < 4:
            yield "folder_image_size", "must be at least 4 pixels"


READ_BY = {  # a key of `training` → the optimizers that read it
    "momentum": ("sgd", "muon", "muon_sgd"),
    "sgd_momentum": ("muon_sgd",),
    "sgd_learning_rate_factor": ("muon_sgd",),
    "norm_learning_rate_factor": ("sgd", "muon_sgd"),
    "beta_1": ("adamw", "muon"),
    "beta_2": ("adamw", "muon"),
    "adamw_learning_rate_factor": ("muon",),
}


@dataclass(frozen=True)
class TrainingConfig:
    epochs: int = 20
    batch_size: int = 128  # images
    # "sgd" (Nesterov momentum), "adamw", "muon" (for kernels; AdamW for the rest) or "muon_sgd"
    # (for kernels, which keep their norm; SGD for the rest).
    optimizer: str = "sgd"
    peak_learning_rate: float = 0.1  # warm-up rises to it linearly, the schedule falls from it
    schedule: str = "cosine"  # or "linear"
    warmup_fraction: float = 0.1  # of all steps
    initial_learning_rate_fraction: float = 0.0  # of the peak, where warm-up begins
    final_learning_rate_fraction: float = 0.0  # of the peak
    momentum: float = 0.9  # sgd, muon, muon_sgd's kernels
    sgd_momentum: float = 0.9  # muon_sgd: of the rest
    sgd_learning_rate_factor: float = 1.0  # muon_sgd: its SGD's rate beside Muon's
    norm_learning_rate_factor: float = 1.0  # sgd, muon_sgd: the norms beside the rest
    beta_1: float = 0.9  # adamw, and muon's AdamW
    beta_2: float = 0.98  # likewise
    adamw_learning_rate_factor: float = 1.0  # muon: its AdamW's rate beside its own
    weight_decay: float = 0.0  # decoupled; spares norms, biases, class token and positions
    label_smoothing: float = 0.0
    gradient_clip_norm: float = 0.0  # global norm; 0 is off
    ema_decay: float = 0.0  # of an average of the weights, measured and kept instead; 0 is off
    lookahead_steps: int = 0  # between two pulls of the weights to a slow average; 0 is off
    lookahead_decay: float = 0.95  # of that average, for one step, at the end of the run
    keep: str = "best"  # the weights of the "best" epoch by validation accuracy, or the "last"
    early_stopping_epochs: int = 0  # stop after so many epochs without a better one; 0 is off
    tuning_trials: int = 0  # of the search that chose these values: for comparisons to weigh

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields (key, what is wrong with its value)."""
        for key in ("epochs", "batch_size"):
            if getattr(self, key) < 1:
                yield key, "must be at least 1"
        if self.optimizer not in ("sgd", "adamw", "muon", "muon_sgd"):
            yield "optimizer", 'must be "sgd", "adamw", "muon" or "muon_sgd"'
        if self.schedule not in ("cosine", "linear"):
            yield "schedule", 'must be "cosine" or "linear"'
        for key in (
            "peak_learning_rate",
            "norm_learning_rate_factor",
            "adamw_learning_rate_factor",
            "sgd_learning_rate_factor",
        ):
            if getattr(self, key) <= 0:
                yield key, "must be above 0"
        for key in (
            *("warmup_fraction", "momentum", "sgd_momentum", "beta_1", "beta_2"),
            *("label_smoothing", "ema_decay", "lookahead_decay"),
        ):
            if not 0 <= getattr(self, key) < 1:
                yield key, "must be at least 0 and below 1"
        for key in ("initial_learning_rate_fraction", "final_learning_rate_fraction"):
            if not 0 <= getattr(self, key) <= 1:
                yield key, "must lie between 0 and 1"
        for key in (
            *("weight_decay", "gradient_clip_norm", "early_stopping_epochs"),
            *("tuning_trials", "lookahead_steps"),
        ):
            if getattr(self, key) < 0:
                yield key, "must not be negative"
        for key, optimizers in READ_BY.items():
            is_set = getattr(self, key) != getattr(TrainingConfig, key)
            if is_set and self.optimizer not in optimizers:
                yield key, f"is for the optimizer {' or '.join(optimizers)}; leave it out"
        if self.keep not in ("best", "last"):
            yield "keep", 'must be "best" or "last"'


@dataclass(frozen=True)
class AugmentationConfig:
    crop_padding: int = 0  # pixels of reflection around the image before a random crop
    horizontal_flip: bool = False
    alternating_flip: bool = False  # instead: mirrored in every other epoch
    cutout_size: int = 0  # pixels, the side of a square that is blanked; 0 is off
    rand_augment_layers: int = 0  # transformations an image, drawn from RandAugment's fourteen
    rand_augment_magnitude: float = 9.0  # 0 to 10
    random_erasing: float = 0.0  # probability
    mixup_alpha: float = 0.0  # of the Beta distribution; 0 is off
    cutmix_alpha: float = 0.0  # likewise; where both are on, each image draws one of them
    mix_probability: float = 1.0  # that an image is mixed at all
    mix_until_fraction: float = 1.0  # of all steps; no mixing after it
    tta_views: int = 1  # of an image, whose logits are averaged: 1, 2 (mirrored) or 6 (shifted)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields (key, what is wrong with its value)."""
        for key in (
            *("crop_padding", "cutout_size", "rand_augment_layers"),
            *("mixup_alpha", "cutmix_alpha"),
        ):
            if getattr(self, key) < 0:
                yield key, "must not be negative"
        if self.horizontal_flip and self.alternating_flip:
            yield "alternating_flip", "stands in place of horizontal_flip: choose one"
        if self.tta_views not in (1, 2, 6):
            yield "tta_views", "must be 1, 2 or 6"
        if not 0 <= self.rand_augment_magnitude <= 10:
            yield "rand_augment_magnitude", "must lie between 0 and 10"
        for key in ("random_erasing", "mix_probability", "mix_until_fraction"):
            if not 0 <= getattr(self, key) <= 1:
                yield key, "must lie between 0 and 1"


@dataclass(frozen=True)
class RuntimeConfig:
    seed: int = 0  # of the validation split, the weights, the order and the augmentation
    precision: str = "auto"  # "auto", "float32", "mixed_bfloat16" or "mixed_float16"
    xla: str = "auto"  # "auto" (on a GPU), "on" or "off"
    # Training images in the GPU's own memory, from which a step takes its batch: "auto" (on a
    # GPU with XLA, up to 1 GiB of them), "on" or "off".
    data_on_device: str = "auto"
    deterministic: bool = False  # same bytes out of the same recipe; slower on a GPU
    checkpoint_seconds: float = 300.0  # of training that a kill costs, about; 0: save each step
    # Training steps in one call, with no look at clock, signals and loss in between: the largest
    # divisor of an epoch's steps that is at most this. 0: one on a CPU, up to 32 on a GPU.
    steps_per_execution: int = 0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields (key, what is wrong with its value)."""
        if not 0 <= self.seed < 2**31:
            yield "seed", "must lie between 0 and 2147483647"
        precisions = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
        if self.precision not in precisions:
            yield "precision", f"must be one of {', '.join(precisions)}"
        for key in ("xla", "data_on_device"):
            if getattr(self, key) not in ("auto", "on", "off"):
                yield key, 'must be "auto", "on" or "off"'
        for key in ("steps_per_execution", "checkpoint_seconds"):
            if getattr(self, key) < 0:
                yield key, "must not be negative"
        if self.xla == "on" and self.deterministic:
            yield "xla", 'must be "auto" or "off" for a deterministic run'


@dataclass(frozen=True)
class SearchRange:
    """Numbers from `low` to `high`, both included; whole numbers where the key's are."""

    low: float
    high: float
    scale: str = "linear"  # or "log"


@dataclass(frozen=True)
class SearchChoices:
    """One of the listed values."""

    choices: tuple


@dataclass(frozen=True)
class Recipe:
    name: str
    architecture: str  # the preset that `model` began from
    data: DataConfig
    model: ModelConfig
    training: TrainingConfig
    augmentation: AugmentationConfig
    runtime: RuntimeConfig
    # "table.key" → what `tune` may try for it
    search: dict[str, SearchRange | SearchChoices] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """Yields what does not go together between tables."""
        if not self.data.validation_fraction and self.training.keep == "best":
            yield 'training.keep must be "last" where data.validation_fraction is 0'
        if not self.data.validation_fraction and self.training.early_stopping_epochs:
            yield "training.early_stopping_epochs must be 0 where data.validation_fraction is 0"
