"""Learning-rate schedules, evaluated once per step."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import keras
import tensorflow as tf

from cifar_models.config.training import TrainingConfig

TIMED_STEPS = 1_000_000  # into which `TimedSchedule` divides a run

Schedule: TypeAlias = keras.optimizers.schedules.LearningRateSchedule


def make_schedule(config: TrainingConfig, total_steps: int) -> Schedule:
    """Build a linear warm-up to the peak, and a cosine or linear decay to the final fraction.

    Args:
        config: The `training` table.
        total_steps: Number of steps of the run.

    Source: Loshchilov and Hutter (2016), arXiv:1608.03983, without restarts, for the cosine.
    """
    warmup_steps = round(config.warmup_fraction * total_steps)
    peak, final = config.peak_learning_rate, config.final_learning_rate_fraction
    initial = peak * config.initial_learning_rate_fraction
    if config.schedule == "linear":
        return LinearSchedule(initial, peak, peak * final, warmup_steps, total_steps)
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(peak, total_steps, alpha=final)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=initial,
        decay_steps=max(total_steps - warmup_steps, 1),
        alpha=final,
        warmup_target=peak,
        warmup_steps=warmup_steps,
    )


class TimedSchedule(Schedule):
    """A schedule over the finished fraction of a run instead of its steps.

    Args:
        config: The `training` table.
        finished_fraction: Variable in [0, 1], float32.
    """

    def __init__(self, config: TrainingConfig, finished_fraction: keras.Variable):
        self._schedule = make_schedule(config, TIMED_STEPS)
        self._finished_fraction = finished_fraction

    def __call__(self, step):
        return self._schedule(self._finished_fraction * TIMED_STEPS)

    def get_config(self):
        raise NotImplementedError("a schedule over time belongs to one trainer")


class LinearSchedule(Schedule):
    """Linear warm-up to a peak, and linear decay from it.

    Args:
        initial: Learning rate at the first step.
        peak: Learning rate after warm-up.
        final: Learning rate at the last step.
        warmup_steps: Number of warm-up steps.
        total_steps: Number of steps of the run.
    """

    def __init__(
        self, initial: float, peak: float, final: float, warmup_steps: int, total_steps: int
    ):
        self.initial = initial
        self.peak = peak
        self.final = final
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps

    def __call__(self, step):
        step = tf.cast(step, tf.float32)
        risen = step / max(self.warmup_steps, 1)
        fallen = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        up = self.initial + (self.peak - self.initial) * risen
        down = self.peak + (self.final - self.peak) * tf.minimum(fallen, 1.0)
        return tf.where(step < self.warmup_steps, up, down)

    def get_config(self):
        return dict(vars(self))


class CachedLearningRate(keras.optimizers.Optimizer):
    """Mixin that computes the learning rate once per step, and may scale it for some variables.

    Keras computes it again for every variable with weight decay, and each time the schedule is
    traced into the graph. List this mixin before the Keras optimizer in the bases.
    """

    _rate = None
    _rate_factors: Mapping[str, float] = MappingProxyType({})  # path of a variable → factor

    def set_rate_factor(self, variables: Sequence[keras.Variable], factor: float) -> None:
        """Multiply the learning rate of some variables by a factor. Weight decay stays as it is."""
        self._rate_factors = {variable.path: factor for variable in variables}

    def rate_of(self, variable, learning_rate):
        """Return the learning rate of a variable."""
        if not self._rate_factors:
            return learning_rate
        path = self._trainable_variables[self._get_variable_index(variable)].path
        return learning_rate * self._rate_factors.get(path, 1.0)

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, self.rate_of(variable, learning_rate))

    def apply(self, grads, trainable_variables=None):
        self._rate = super()._get_current_learning_rate()
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._rate = None  # valid only for this trace

    def _get_current_learning_rate(self):
        return super()._get_current_learning_rate() if self._rate is None else self._rate
