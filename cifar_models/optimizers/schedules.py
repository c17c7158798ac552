"""Learning-rate schedules, evaluated once per step."""

import keras
import tensorflow as tf

from cifar_models.config.recipe import TrainingConfig


def make_schedule(
    recipe: TrainingConfig, total_steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns a linear warm-up to the peak, then a cosine or a line down to its final fraction.

    The cosine is that of Loshchilov & Hutter 2016, arXiv:1608.03983, without restarts.
    """
    warmup_steps = round(recipe.warmup_fraction * total_steps)
    peak, final = recipe.peak_learning_rate, recipe.final_learning_rate_fraction
    initial = peak * recipe.initial_learning_rate_fraction
    if recipe.schedule == "linear":
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


class LinearSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A line up from `initial` to `peak` in the first steps, and one down to `final`."""

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
    """Asks the schedule once a step, where Keras asks for every variable that decays.

    The answer is the same each time, but each is a part of the graph that has to be traced. To be
    named before the one of Keras' optimizers that it is to change.
    """

    _rate = None

    def apply(self, grads, trainable_variables=None):
        self._rate = super()._get_current_learning_rate()
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._rate = None  # of this trace alone

    def _get_current_learning_rate(self):
        return super()._get_current_learning_rate() if self._rate is None else self._rate
