"""The `training` table of a recipe, and the optimizers that it can name.

To add an optimizer, write its builder in a file of its own, and add the keys that it reads and a
line of OPTIMIZERS here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from cifar_models.config.keys import (
    AT_LEAST_ONE,
    BELOW_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    UNIT_INTERVAL,
    any_of,
    default_of,
    key,
)
from cifar_models.config.paths import absolute_path, path_problem


@dataclass(frozen=True)
class OptimizerSpec:
    """An entry of OPTIMIZERS.

    Attributes:
        builder: "module:function" of a function (config, schedule) → keras Optimizer, which is
            imported when the optimizer is built. The schedule is that of the learning rate.
        reads: Keys of the `training` table that this optimizer reads and some others do not.
        description: One line for docs/recipe_keys.md.
    """

    builder: str
    reads: tuple[str, ...]
    description: str


OPTIMIZERS = {
    "sgd": OptimizerSpec(
        "cifar_models.optimizers.sgd:make_sgd",
        ("momentum", "momentum_form", "norm_learning_rate_factor"),
        "SGD with Nesterov momentum",
    ),
    "adamw": OptimizerSpec(
        "cifar_models.optimizers.adamw:make_adamw",
        ("beta_1", "beta_2", "adamw_epsilon"),
        "AdamW (arXiv:1711.05101)",
    ),
    "muon": OptimizerSpec(
        "cifar_models.optimizers.muon:make_muon",
        ("momentum", "beta_1", "beta_2", "adamw_epsilon", "adamw_learning_rate_factor"),
        "Muon for kernels, AdamW for the rest",
    ),
    "muon_sgd": OptimizerSpec(
        "cifar_models.optimizers.muon:make_muon_sgd",
        (
            "momentum",
            "momentum_form",
            "sgd_momentum",
            "sgd_learning_rate_factor",
            "norm_learning_rate_factor",
        ),
        "Muon for kernels that keep their norm, SGD for the rest (airbench94_muon)",
    ),
}


CLASS_WEIGHTS = ("none", "balanced")


@dataclass(frozen=True)
class TrainingConfig:
    """The `training` table."""

    epochs: int = key(
        20, "Passes over the training images; 0: budget_seconds decides.", NOT_NEGATIVE
    )
    budget_seconds: float = key(
        0.0,
        "Training time that the run takes, without compilation, seconds; 0: epochs decide.",
        NOT_NEGATIVE,
    )
    batch_size: int = key(128, "Images in a training step.", AT_LEAST_ONE)
    min_steps_per_epoch: int = key(
        8, "The batch size is lowered until an epoch has this many steps.", AT_LEAST_ONE
    )
    optimizer: str = key("sgd", "Name of an optimizer.", choices=OPTIMIZERS)
    peak_learning_rate: float = key(0.1, "Learning rate after warm-up.", POSITIVE)
    schedule: str = key("cosine", "Decay after warm-up.", choices=("cosine", "linear"))
    warmup_fraction: float = key(0.1, "Fraction of all steps in which the rate rises.", BELOW_ONE)
    initial_learning_rate_fraction: float = key(
        0.0, "Learning rate at the first step, as a fraction of the peak.", UNIT_INTERVAL
    )
    final_learning_rate_fraction: float = key(
        0.0, "Learning rate at the last step, as a fraction of the peak.", UNIT_INTERVAL
    )
    momentum: float = key(0.9, "Momentum; in muon and muon_sgd, of kernels only.", BELOW_ONE)
    momentum_form: str = key(
        "torch",
        'What the momentum of SGD sums: gradients ("torch"), or gradients times the learning rate '
        'of their step ("keras").',
        choices=("torch", "keras"),
    )
    sgd_momentum: float = key(0.9, "Momentum of the SGD in muon_sgd.", BELOW_ONE)
    sgd_learning_rate_factor: float = key(
        1.0, "Learning rate of the SGD in muon_sgd, relative to that of Muon.", POSITIVE
    )
    norm_learning_rate_factor: float = key(
        1.0, "Learning rate of scales and shifts of norm layers, relative to the rest.", POSITIVE
    )
    beta_1: float = key(0.9, "Decay of AdamW's first moment.", BELOW_ONE)
    beta_2: float = key(0.98, "Decay of AdamW's second moment.", BELOW_ONE)
    adamw_epsilon: float = key(1e-7, "Added to the denominator of AdamW's step.", POSITIVE)
    adamw_learning_rate_factor: float = key(
        1.0, "Learning rate of the AdamW in muon, relative to that of Muon.", POSITIVE
    )
    weight_decay: float = key(
        0.0,
        "Decoupled weight decay of kernels, relative to the learning rate.",
        NOT_NEGATIVE,
    )
    label_smoothing: float = key(
        0.0, "Fraction of each target spread evenly over the classes.", BELOW_ONE
    )
    class_weights: str | Mapping[str, float] = key(
        "none",
        'Weights of the classes in the loss: "none"; "balanced", in inverse proportion to their '
        "training images; or {NAME = weight, ...}, where a class that is left out has 1.",
    )
    gradient_clip_norm: float = key(
        0.0, "Largest global norm of the gradients; 0: off.", NOT_NEGATIVE
    )
    ema_decay: float = key(
        0.0, "Decay of the weight average that is evaluated and saved instead; 0: off.", BELOW_ONE
    )
    lookahead_steps: int = key(0, "Steps between Lookahead synchronizations; 0: off.", NOT_NEGATIVE)
    lookahead_decay: float = key(
        0.95, "Decay of the slow weights for one step at the end of the run.", BELOW_ONE
    )
    teacher: str = key(
        "", 'Run folder of a trained CNN whose features the tokens learn to predict; "": none.'
    )
    teacher_weight: float = key(
        0.0, "Weight of the loss of the teacher's features; 0: no teacher.", NOT_NEGATIVE
    )
    start_from: str = key(
        "", 'Run folder whose weights the network starts from; "": initial weights.'
    )
    frozen_body: bool = key(False, "With start_from: train the classifier only.")
    body_learning_rate_factor: float = key(
        1.0, "Learning rate of all but the classifier, relative to that of the optimizer.", POSITIVE
    )
    keep: str = key(
        "best",
        "Saved weights: of the best epoch by validation accuracy, or of the last.",
        choices=("best", "last"),
    )
    early_stopping_epochs: int = key(
        0, "Stop after this many epochs without improvement; 0: never.", NOT_NEGATIVE
    )
    tuning_trials: int = key(
        0, "Trials of the search that chose these values; comparisons report them.", NOT_NEGATIVE
    )

    def with_absolute_paths(self) -> "TrainingConfig":
        """Return the table with absolute paths, which mean the same from every folder."""
        return replace(
            self,
            teacher=self.teacher and absolute_path(self.teacher),
            start_from=self.start_from and absolute_path(self.start_from),
        )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, what is wrong) for values that do not fit each other or the optimizer."""
        if self.epochs and self.budget_seconds:
            yield "budget_seconds", "cannot be set together with epochs; set epochs to 0"
        if not self.epochs and not self.budget_seconds:
            yield "epochs", "must be at least 1, unless budget_seconds is set"
        if self.budget_seconds and self.lookahead_steps:
            yield "lookahead_steps", "must be 0 with budget_seconds: it needs the number of steps"
        if isinstance(self.class_weights, str) and self.class_weights not in CLASS_WEIGHTS:
            yield "class_weights", f"must be {any_of(map(repr, CLASS_WEIGHTS))}, or a table"
        if isinstance(self.class_weights, Mapping) and not all(
            map(POSITIVE.allow, self.class_weights.values())
        ):
            yield "class_weights", f"must hold only numbers that are {POSITIVE}"
        if problem := path_problem(self.start_from):
            yield "start_from", problem
        if self.frozen_body and not self.start_from:
            yield "frozen_body", "needs start_from: a body that is not trained must be trained"
        if problem := path_problem(self.teacher):
            yield "teacher", problem
        elif self.teacher and not self.teacher_weight:
            yield "teacher_weight", "must be above 0 with a teacher"
        readers: dict[str, list[str]] = {}
        for name, spec in OPTIMIZERS.items():
            for read in spec.reads:
                readers.setdefault(read, []).append(name)
        for read, names in readers.items():
            is_set = getattr(self, read) != default_of(type(self), read)
            if is_set and self.optimizer not in names:
                yield read, f"is for the optimizer {any_of(names)}; leave it out"
