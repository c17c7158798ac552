"""Lookahead: slow weights with which the trained weights are synchronized every few steps."""

import keras
import tensorflow as tf


class Lookahead:
    """Slow weights of a network, including the statistics of batch norm.

    Every few steps, slow = decay * slow + (1 - decay) * weight, and then weight = slow. The decay
    grows with the cube of the finished fraction of the run. After the last step, the network holds
    the slow weights.

    Args:
        network: The trained network.
        steps: Number of steps between two synchronizations.
        decay: Decay for one step at the end of the run, in (0, 1).
        total_steps: Number of steps of the run.

    Source: Zhang et al. (2019), arXiv:1907.08610; Jordan (2024), arXiv:2404.00498, section 3.4.
    """

    def __init__(self, network: keras.Model, steps: int, decay: float, total_steps: int):
        self.slow = [
            keras.Variable(weight, trainable=False, dtype=weight.dtype, name="slow")
            for weight in network.weights
        ]
        self._weights = network.weights
        self._steps = steps
        self._decay = decay
        self._total_steps = total_steps

    def update(self, step: tf.Tensor) -> None:
        """Synchronize the weights if that is due.

        Args:
            step: The step that was just taken, integer scalar, counted from 0.
        """
        done = step + 1
        is_synchronization = done % self._steps == 0
        is_due = is_synchronization | (done == self._total_steps)
        progress = tf.cast(done, tf.float32) / self._total_steps
        decay = tf.where(is_synchronization, self._decay**self._steps * progress**3, 1.0)
        for slow, weight in zip(self.slow, self._weights, strict=True):
            moved = slow * decay + weight * (1 - decay)
            slow.assign(tf.where(is_due, moved, slow))
            weight.assign(tf.where(is_due, moved, weight))
