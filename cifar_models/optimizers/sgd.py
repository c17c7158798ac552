"""SGD with Nesterov momentum."""

import keras
import tensorflow as tf

from cifar_models.config.training import TrainingConfig
from cifar_models.optimizers.schedules import CachedLearningRate, Schedule

NORM_NAMES = ("gamma", "beta")


class NesterovSGD(CachedLearningRate, keras.optimizers.SGD):
    """SGD with Nesterov momentum, and with a separate learning rate for norm layers.

    Args:
        momentum: Momentum, in [0, 1).
        norm_factor: Learning rate of the scales and shifts of norms, relative to the rest.
        form: "torch" or "keras", as in `nesterov_step`.
        **options: Arguments of keras.optimizers.SGD.
    """

    def __init__(self, momentum: float, norm_factor: float, form: str, **options):
        super().__init__(momentum=momentum, nesterov=True, **options)
        self._norm_factor = norm_factor
        self._form = form
        self._factors: list[float] = []

    def build(self, variables):
        super().build(variables)
        self._factors = norm_factors(variables, self._norm_factor)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        rate = self.rate_of(variable, learning_rate) * self._factors[index]
        if not self.momentum:
            keras.optimizers.SGD.update_step(self, gradient, variable, rate)
            return
        sums = self.momentums[index]
        new_sums, change = nesterov_step(sums, gradient, rate, self.momentum, self._form)
        self.assign(sums, new_sums)
        self.assign_add(variable, change)


def make_sgd(config: TrainingConfig, schedule: Schedule) -> NesterovSGD:
    """Build SGD with Nesterov momentum and decoupled weight decay."""
    return NesterovSGD(
        config.momentum,
        config.norm_learning_rate_factor,
        config.momentum_form,
        learning_rate=schedule,
        weight_decay=config.weight_decay or None,  # 0 would cost a pass over the weights
        global_clipnorm=config.gradient_clip_norm or None,
    )


def nesterov_step(
    sums: tf.Tensor, gradient: tf.Tensor, rate: tf.Tensor | float, momentum: float, form: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the sums of momentum after a step, and the change of the weight.

    As long as the learning rate is constant, both forms change the weight alike.

    Args:
        sums: Sums of momentum before the step.
        gradient: Gradient of the weight, of the same shape.
        rate: Learning rate of the step.
        momentum: Momentum, in [0, 1).
        form: "torch": sum gradients, and multiply the sum by the rate of this step. "keras": sum
            gradients that were multiplied by the rates of their own steps, with a minus sign.

    Source: Sutskever et al. (2013), "On the importance of initialization and momentum in deep
    learning", in the formulas of torch.optim.SGD and keras.optimizers.SGD.
    """
    step = gradient if form == "torch" else -rate * gradient
    sums = momentum * sums + step
    change = momentum * sums + step
    return sums, -rate * change if form == "torch" else change


def norm_factors(variables: list[keras.Variable], factor: float) -> list[float]:
    """Return the factor on each variable's learning rate: `factor` for norm layers, otherwise 1."""
    return [factor if variable.name in NORM_NAMES else 1.0 for variable in variables]
