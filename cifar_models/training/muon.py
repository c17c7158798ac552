"""Muon for every kernel, those of convolutions and attention too."""

import keras
import tensorflow as tf


class KernelMuon(keras.optimizers.Muon):
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


def _matrix_shape(variable: keras.Variable) -> tuple[int, int]:
    """(inputs, outputs) of a kernel; -1 is what is left."""
    shape = variable.shape
    # Attention's projections are (D, heads, key_dim), but for the last: (heads, key_dim, D).
    if len(shape) == 3 and "attention_output" not in variable.path:
        return shape[0], -1
    return -1, shape[-1]
