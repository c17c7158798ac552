"""The optimizer of a recipe, and the variables without weight decay."""

from pkgutil import resolve_name

import keras

from cifar_models.config.training import OPTIMIZERS, TrainingConfig
from cifar_models.optimizers.schedules import Schedule, TimedSchedule, make_schedule

# Weights with two or more axes that are not kernels.
NO_DECAY_NAMES = ("position_embedding", "class_token")
# Keras shapes the biases of the projections of attention (heads, key_dim).
ATTENTION_PROJECTIONS = ("query", "key", "value", "attention_output")


def make_optimizer(
    config: TrainingConfig,
    network: keras.Model,
    total_steps: int,
    finished_fraction: keras.Variable | None = None,
) -> keras.optimizers.Optimizer:
    """Build the optimizer that a recipe names, with its learning-rate schedule.

    Weight decay is decoupled and multiplied by the learning rate. Biases, norms, position
    embeddings and class tokens have none.

    Args:
        config: The `training` table.
        network: The network that is trained.
        total_steps: Number of steps of the run.
        finished_fraction: Variable in [0, 1] that drives the schedule of a run with a time budget.
    """
    schedule: Schedule
    if finished_fraction is None:
        schedule = make_schedule(config, total_steps)
    else:
        schedule = TimedSchedule(config, finished_fraction)
    optimizer = resolve_name(OPTIMIZERS[config.optimizer].builder)(config, schedule)
    optimizer.exclude_from_weight_decay(var_list=variables_without_decay(network))
    return optimizer


def variables_without_decay(network: keras.Model) -> list[keras.Variable]:
    """Return the trainable variables without weight decay."""
    return [
        variable
        for variable in network.trainable_variables
        if len(variable.shape) < 2
        or variable.name in NO_DECAY_NAMES
        or _is_attention_bias(variable.path)
    ]


def _is_attention_bias(path: str) -> bool:
    layer, _, name = path.rpartition("/")
    return name == "bias" and layer.rpartition("/")[2] in ATTENTION_PROJECTIONS
