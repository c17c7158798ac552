"""Exponential moving average of the weights, kept in a second network."""

import keras
import tensorflow as tf


class WeightAverage:
    """Moving average of every weight of a network, including the statistics of batch norm.

    The decay of a step is min(decay, (1 + step) / (10 + step)), so that the random initial weights
    are forgotten soon. The averages are the weights of a second network, so that evaluating them
    swaps nothing.

    Args:
        network: The trained network.
        average: A network of the same architecture, which gets the averages.
        decay: Final decay, in (0, 1).

    Source: tf.train.ExponentialMovingAverage, for the rule.
    """

    def __init__(self, network: keras.Model, average: keras.Model, decay: float):
        average.set_weights(network.get_weights())
        self.network = average
        self._pairs = list(zip(average.weights, network.weights, strict=True))
        self._decay = decay

    def update(self, step: tf.Tensor) -> None:
        """Update the averages.

        Args:
            step: The step that was just taken, integer scalar, counted from 0.
        """
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(self._decay, (1 + step) / (10 + step))
        for average, weight in self._pairs:
            average.assign(average * decay + weight * (1 - decay))
