"""Muon for kernels, including those of convolutions and attention; AdamW or SGD for the rest."""

import math

import keras
import tensorflow as tf

from cifar_models.config.training import TrainingConfig
from cifar_models.layers.feature_projection import TEACHER_PROJECTION
from cifar_models.optimizers.schedules import CachedLearningRate, Schedule
from cifar_models.optimizers.sgd import nesterov_step, norm_factors

WITHOUT_MUON = ["classifier", TEACHER_PROJECTION]  # layers that use the other optimizer
AIRBENCH_NEWTON_SCHULZ_STEPS = 3


class KernelMuon(CachedLearningRate, keras.optimizers.Muon):
    """Keras' Muon extended from matrices to kernels of any shape; AdamW for the rest.

    The update of a kernel is its momentum, orthogonalized as a matrix of inputs by outputs:
    (P, Q, C, F) → (P Q C, F). The update is scaled to the size of AdamW's. AdamW updates embeddings
    and the layers in `exclude_layers`.

    Source: Jordan et al. (2024), "Muon: an optimizer for hidden layers"; Liu et al. (2025),
    arXiv:2502.16982, for the scale.
    """

    def build(self, variables):
        super().build(variables)
        self._matrix_shapes = [
            None if self._should_use_adamw(variable) else _matrix_shape(variable)
            for variable in variables
        ]
        # Traced once for each shape of a matrix, not for each kernel: a run starts sooner.
        self._orthogonalize = tf.function(self._orthogonalized)

    def _should_use_adamw(self, variable):
        if variable.name != "kernel" or "embedding" in variable.path:
            return True
        return any(name in variable.path for name in self.exclude_layers)

    def _muon_update_step(self, gradient, variable, lr, m):
        self.assign_add(m, gradient + m * (self.momentum - 1))
        direction = gradient + self.momentum * m if self.nesterov else m
        matrix = tf.reshape(direction, self._matrix_shapes[self._get_variable_index(variable)])
        matrix = self._orthogonalize(matrix)
        self.assign_sub(variable, lr * tf.reshape(matrix, variable.shape))

    def _orthogonalized(self, matrix):  # (inputs, outputs)
        return self.lr_adjust(self.zeropower_via_newtonschulz5(matrix, self.ns_steps))


class MuonBesideSGD(KernelMuon):
    """Muon for kernels of constant norm, and SGD with Nesterov momentum for the rest.

    Before each step, a kernel with F outputs is scaled to the norm sqrt(F). Its update is a nearly
    orthogonal matrix times the learning rate, so the rate sets the angle of a step, and weight
    decay would have no effect.

    Args:
        sgd_momentum: Momentum of the SGD; `momentum` is that of the kernels.
        sgd_form: Form of the SGD's momentum, as in `nesterov_step`; that of kernels sums gradients.
        sgd_factor: Learning rate of the SGD, relative to Muon's.
        norm_factor: Learning rate of the scales and shifts of norms, relative to the SGD's.
        sgd_weight_decay: Decoupled weight decay, multiplied by the learning rate of the SGD.
        **options: Arguments of keras.optimizers.Muon.

    Source: Jordan (2024), airbench94_muon, github.com/KellerJordan/cifar10-airbench.
    """

    def __init__(
        self,
        sgd_momentum: float,
        sgd_form: str,
        sgd_factor: float,
        norm_factor: float,
        sgd_weight_decay: float,
        **options,
    ):
        super().__init__(
            adam_lr_ratio=sgd_factor,
            # Keras multiplies it by Muon's rate.
            adam_weight_decay=sgd_weight_decay * sgd_factor,
            weight_decay=None,
            rms_rate=None,
            **options,
        )
        self._sgd_momentum = sgd_momentum
        self._sgd_form = sgd_form
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
        """Take a step of SGD instead of AdamW. The second moment `v` is not used."""
        rate = learning_rate * self._factors[self._get_variable_index(variable)]
        sums, change = nesterov_step(m, gradient, rate, self._sgd_momentum, self._sgd_form)
        self.assign(m, sums)
        self.assign_add(variable, change)


def make_muon(config: TrainingConfig, schedule: Schedule) -> KernelMuon:
    """Build Muon for kernels and AdamW for the rest."""
    return KernelMuon(
        learning_rate=schedule,
        momentum=config.momentum,
        adam_beta_1=config.beta_1,
        adam_beta_2=config.beta_2,
        epsilon=config.adamw_epsilon,
        adam_lr_ratio=config.adamw_learning_rate_factor,
        # Keras multiplies it by Muon's rate, not by AdamW's.
        adam_weight_decay=config.weight_decay * config.adamw_learning_rate_factor,
        weight_decay=config.weight_decay,
        global_clipnorm=config.gradient_clip_norm or None,
        exclude_layers=WITHOUT_MUON,
    )


def make_muon_sgd(config: TrainingConfig, schedule: Schedule) -> MuonBesideSGD:
    """Build Muon for kernels of constant norm and SGD for the rest."""
    return MuonBesideSGD(
        sgd_momentum=config.sgd_momentum,
        sgd_form=config.momentum_form,
        sgd_factor=config.sgd_learning_rate_factor,
        norm_factor=config.norm_learning_rate_factor,
        sgd_weight_decay=config.weight_decay,
        learning_rate=schedule,
        momentum=config.momentum,
        ns_steps=AIRBENCH_NEWTON_SCHULZ_STEPS,
        global_clipnorm=config.gradient_clip_norm or None,
        exclude_layers=WITHOUT_MUON,
    )


def _matrix_shape(variable: keras.Variable) -> tuple[int, int]:
    """Return (inputs, outputs) of a kernel; -1 stands for all remaining axes."""
    shape = variable.shape
    # Projections of attention are (D, heads, key_dim), except the last one: (heads, key_dim, D).
    if len(shape) == 3 and "attention_output" not in variable.path:
        return shape[0], -1
    return -1, shape[-1]
