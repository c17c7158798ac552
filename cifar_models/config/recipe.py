"""A recipe: the complete, frozen configuration of a run. Nothing here imports TensorFlow.

`recipe_file.py` reads recipes from TOML. A key that is left out has the default of its field.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from cifar_models.config.architectures import ModelConfig
from cifar_models.config.augmentation import AugmentationConfig
from cifar_models.config.keys import BELOW_ONE, NOT_NEGATIVE, Bounds, key
from cifar_models.config.model_tables import TransformerConfig
from cifar_models.config.paths import absolute_dataset, absolute_path, dataset_problem, path_problem
from cifar_models.config.search import SearchEntry
from cifar_models.config.training import TrainingConfig

SWITCH = ("auto", "on", "off")


@dataclass(frozen=True)
class DataConfig:
    """The `data` table."""

    dataset: str = key(
        "cifar10", 'A TFDS name, "digits" (bundled), "folder:PATH" or "folder:TABLE.csv".'
    )
    data_dir: str = key("", 'Folder in which TFDS keeps its data; "": the default of TFDS.')
    validation_fraction: float = key(
        0.1, "Fraction of the training images that is held out, stratified; 0: none.", BELOW_ONE
    )
    train_fraction: float = key(
        1.0,
        "Fraction of the rest to train on; larger subsets contain the smaller ones.",
        Bounds(0, 1, exclusive="minimum"),
    )
    resize: str = key(
        "crop",
        "How an image of a folder becomes a square: its middle, all of it with bars, or squashed.",
        choices=("crop", "pad", "stretch"),
    )
    storage: str = key(
        "auto",
        "Where the images are while they are used; auto: on the disk above 256 MB.",
        choices=("auto", "memory", "disk"),
    )
    bad_files: str = key(
        "fail",
        "What to do about files of a folder that cannot be used as images.",
        choices=("fail", "skip"),
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, what is wrong) for paths that cannot exist."""
        if problem := dataset_problem(self.dataset):
            yield "dataset", problem
        if problem := path_problem(self.data_dir):
            yield "data_dir", problem

    def with_absolute_paths(self) -> "DataConfig":
        """Return the table with absolute paths, which mean the same from every folder."""
        data_dir = self.data_dir and absolute_path(self.data_dir)
        return replace(self, dataset=absolute_dataset(self.dataset), data_dir=data_dir)


@dataclass(frozen=True)
class RuntimeConfig:
    """The `runtime` table."""

    seed: int = key(
        0,
        "Seed of splits, initial weights, order of images and augmentation.",
        Bounds(0, 2**31 - 1),
    )
    precision: str = key(
        "auto",
        "Keras dtype policy; auto: mixed on a GPU, and on a CPU with AMX or AVX512_BF16 unless XLA "
        "is on, oneDNN is off or the run is deterministic.",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    )
    xla: str = key(
        "auto", "Compile with XLA; auto: on a GPU, unless deterministic.", choices=SWITCH
    )
    onednn: str = key(
        "on",
        "Kernels of oneDNN on a CPU; auto: on new processors only. TF_ENABLE_ONEDNN_OPTS wins.",
        choices=SWITCH,
    )
    devices: str = key(
        "one", "GPUs that share each batch; XLA compiles for each of them.", choices=("one", "all")
    )
    data_on_device: str = key(
        "auto",
        "Keep training images in GPU memory; auto: with XLA on one GPU, up to 1 GiB.",
        choices=SWITCH,
    )
    deterministic: bool = key(False, "Same bytes from the same recipe, on a CPU.")
    checkpoint_seconds: float = key(
        300.0, "Maximum time between checkpoints, seconds; 0: save every step.", NOT_NEGATIVE
    )
    steps_per_execution: int = key(
        0,
        "Maximum number of steps in one call. Signals and the loss are read only between calls. "
        "The largest divisor of an epoch's steps is used. 0: 1 on a CPU, 32 on a GPU.",
        NOT_NEGATIVE,
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, what is wrong) for values that do not fit each other."""
        if self.xla == "on" and self.deterministic:
            yield "xla", 'must be "auto" or "off" for a deterministic run'


@dataclass(frozen=True)
class Recipe:
    """The complete configuration of a run.

    Attributes:
        name: Name of the recipe.
        architecture: Entry of ARCHITECTURES from which `model` started.
        data: The `data` table.
        model: The `model` table.
        training: The `training` table.
        augmentation: The `augmentation` table.
        runtime: The `runtime` table.
        search: "table.key" → the values that `tune` may try.
        oracle: How `tune` chooses among them, one of ORACLES. Empty: the first one.
    """

    name: str
    architecture: str
    data: DataConfig
    model: ModelConfig
    training: TrainingConfig
    augmentation: AugmentationConfig
    runtime: RuntimeConfig
    search: dict[str, SearchEntry] = field(default_factory=dict)
    oracle: str = ""

    def with_absolute_paths(self) -> "Recipe":
        """Return the recipe with absolute paths, which mean the same from every folder."""
        return replace(
            self,
            data=self.data.with_absolute_paths(),
            training=self.training.with_absolute_paths(),
        )

    def problems(self) -> Iterator[str]:
        """Yield one sentence for each conflict between tables."""
        if not self.data.validation_fraction and self.training.keep == "best":
            yield 'training.keep must be "last" if data.validation_fraction is 0'
        if not self.data.validation_fraction and self.training.early_stopping_epochs:
            yield "training.early_stopping_epochs must be 0 if data.validation_fraction is 0"
        yield from self._teacher_problems()
        if self.runtime.deterministic and self.training.budget_seconds:
            yield (
                "runtime.deterministic must be false with training.budget_seconds, because the "
                "number of steps depends on the speed of the machine"
            )

    def _teacher_problems(self) -> Iterator[str]:
        if not self.training.teacher_weight:
            return
        if not isinstance(self.model, TransformerConfig):
            yield (
                f"training.teacher_weight must be 0 for {self.architecture}, because only tokens "
                "of a transformer learn from a teacher"
            )
        # The teacher's features are computed once, of each image and of its mirror image.
        for name in ("horizontal_flip", "mixup_alpha", "cutmix_alpha"):
            if getattr(self.augmentation, name):
                instead = "; use alternating_flip" if name == "horizontal_flip" else ""
                yield f"augmentation.{name} must be off with training.teacher_weight{instead}"


# Table → its class; `model` is missing, because its class depends on the architecture.
TABLES: dict[str, type] = {
    "data": DataConfig,
    "training": TrainingConfig,
    "augmentation": AugmentationConfig,
    "runtime": RuntimeConfig,
}
