"""Muon for every kernel, those of convolutions and attention too; AdamW or SGD for the rest."""

import math

import keras
import tensorflow as tf

from cifar_models.optimizers.schedules import CachedLearningRate

NORM_NAMES = ("gamma", "beta")


class KernelMuon(CachedLearningRate, keras.optimizers.Muon):
    """Keras' Muon, which takes matrices alone, for kernels of any shape; AdamW for the rest.

    A kernel's step is its momentum made orthogonal as a matrix of inputs by outputs: (P, Q, C, F)
    → (P Q C, F). Jordan et al. 2024, "Muon: an optimizer for hidden layers"; the size of the step
    is that of Liu et al. 2025, arXiv:2502.16982, so that it is AdamW's. Embeddings, and what
    `exclude_layers` names, are left to AdamW.
    """

    def build(self, variables):
        super().build(variables)
        self._matrix_shapes = [
            None if self._should_use_adamw(variable) else _matrix_shape(variable)
            for variable in variables
        ]

    def _should_use_adamw(self, variable):
        if variable.name != "kernel" or "embedding" in variable.path:
            return True
        return any(name in variable.path for name in self.exclude_layers)

    def _muon_update_step(self, gradient, variable, lr, m):
        self.assign_add(m, gradient + m * (self.momentum - 1))
        direction = gradient + self.momentum * m if self.nesterov else m
        matrix = tf.reshape(direction, self._matrix_shapes[self._get_variable_index(variable)])
        matrix = self.lr_adjust(self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        self.assign_sub(variable, lr * tf.reshape(matrix, variable.shape))


class MuonBesideSGD(KernelMuon):
    """Muon for kernels that keep their norm, Nesterov's SGD for the rest.

    Before each step a kernel of F outputs is scaled to the norm sqrt(F), and its step is a nearly
    orthogonal matrix times the learning rate: the rate is about the angle it turns by, and weight
    decay would do nothing to it. Jordan 2024, airbench94_muon,
    github.com/KellerJordan/cifar10-airbench.

    Args:
        sgd_momentum: Nesterov's, of the rest; `momentum` is that of the kernels.
        sgd_factor: on the learning rate, for the rest.
        norm_factor: on that of the rest, for the scales and shifts of norms.
        sgd_weight_decay: decoupled, times the learning rate of the rest.
        **options: Keras' own of Muon.
    """

    def __init__(
        self,
        sgd_momentum: float,
        sgd_factor: float,
        norm_factor: float,
        sgd_weight_decay: float,
        **options,
    ):
        super().__init__(
            adam_lr_ratio=sgd_factor,
            # Keras multiplies it with Muon's rate.
            adam_weight_decay=sgd_weight_decay * sgd_factor,
            weight_decay=None,
            rms_rate=None,
            **options,
        )
        self._sgd_momentum = sgd_momentum
        self._norm_factor = norm_factor
        self._factors: list[float] = []

    def build(self, variables):
        super().build(variables)
        self._factors = norm_factors(variables, self._norm_factor)

    def _muon_update_step(self, gradient, variable, lr, m):
        filters = variable.shape[-1]
        variable.assign(variable * (math.sqrt(filters) / (tf.norm(variable) + 1e-7)))
        super()._muon_update_step(gradient, variable, lr, m)

    def _adamw_update_step(self, gradient, variable, learning_rate, m, v):
        """SGD's, where Keras has AdamW's; v stays as it began."""
        factor = self._factors[self._get_variable_index(variable)]
        step = -learning_rate * factor * gradient
        self.assign(m, self._sgd_momentum * m + step)
        self.assign_add(variable, self._sgd_momentum * m + step)


def norm_factors(variables: list[keras.Variable], factor: float) -> list[float]:
    """Returns what multiplies each variable's learning rate: the factor for those of norms."""
    return [factor if variable.name in NORM_NAMES else 1.0 for variable in variables]


def _matrix_shape(variable: keras.Variable) -> tuple[int, int]:
    """(inputs, outputs) of a kernel; -1 is what is left."""
    shape = variable.shape
    # Attention's projections are (D, heads, key_dim), but for the last: (heads, key_dim, D).
    if len(shape) == 3 and "attention_output" not in variable.path:
        return shape[0], -1
    return -1, shape[-1]
