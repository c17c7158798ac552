"""SGD with Nesterov momentum."""

import keras

from cifar_models.config.training import TrainingConfig
from cifar_models.optimizers.schedules import CachedLearningRate, Schedule

NORM_NAMES = ("gamma", "beta")


class NesterovSGD(CachedLearningRate, keras.optimizers.SGD):
    """SGD with Nesterov momentum, and with a separate learning rate for norm layers.

    Args:
        momentum: Momentum, in [0, 1).
        norm_factor: Learning rate of the scales and shifts of norms, relative to the rest.
        **options: Arguments of keras.optimizers.SGD.
    """

    def __init__(self, momentum: float, norm_factor: float, **options):
        super().__init__(momentum=momentum, nesterov=True, **options)
        self._norm_factor = norm_factor
        self._factors: list[float] = []

    def build(self, variables):
        super().build(variables)
        self._factors = norm_factors(variables, self._norm_factor)

    def update_step(self, gradient, variable, learning_rate):
        factor = self._factors[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * factor)


def make_sgd(config: TrainingConfig, schedule: Schedule) -> NesterovSGD:
    """Build SGD with Nesterov momentum and decoupled weight decay."""
    return NesterovSGD(
        config.momentum,
        config.norm_learning_rate_factor,
        learning_rate=schedule,
        weight_decay=config.weight_decay or None,  # 0 would cost a pass over the weights
        global_clipnorm=config.gradient_clip_norm or None,
    )


def norm_factors(variables: list[keras.Variable], factor: float) -> list[float]:
    """Return the factor on each variable's learning rate: `factor` for norm layers, otherwise 1."""
    return [factor if variable.name in NORM_NAMES else 1.0 for variable in variables]
