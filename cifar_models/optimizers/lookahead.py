"""Lookahead: every few steps the weights return to a slow average of themselves."""

import keras
import tensorflow as tf


class Lookahead:
    """Keeps slow weights, batch norm's statistics included, and pulls the network to them.

    Every few steps slow = decay * slow + (1 - decay) * weight, and the weight becomes it. The decay
    grows with the cube of the part of the run that is done. The last step leaves the slow weights,
    pulled once more if it is its turn. Zhang et al. 2019, arXiv:1907.08610; Jordan 2024,
    arXiv:2404.00498, section 3.4.

    Args:
        network: what is trained.
        steps: between two pulls.
        decay: for one step at the end of the run, above 0 and below 1.
        total_steps: of the run.
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
        """To be called after each step, counted from 0."""
        done = step + 1
        is_pull = done % self._steps == 0
        is_due = is_pull | (done == self._total_steps)
        progress = tf.cast(done, tf.float32) / self._total_steps
        decay = tf.where(is_pull, self._decay**self._steps * progress**3, 1.0)
        for slow, weight in zip(self.slow, self._weights, strict=True):
            moved = slow * decay + weight * (1 - decay)
            slow.assign(tf.where(is_due, moved, slow))
            weight.assign(tf.where(is_due, moved, weight))
