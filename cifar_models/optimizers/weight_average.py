"""An exponential moving average of the weights, kept as a second network."""

import keras
import tensorflow as tf


class WeightAverage:
    """Averages every weight of a network after each step, batch norm's statistics included.

    The decay grows towards its final value as min(decay, (1 + step) / (10 + step)), so that the
    first, random weights are soon forgotten: the rule of tf.train.ExponentialMovingAverage. The
    averages are the weights of a network of their own, so measuring them swaps nothing.

    Args:
        network: what is trained.
        average: another network of the same recipe; it takes over the weights.
        decay: above 0 and below 1.
    """

    def __init__(self, network: keras.Model, average: keras.Model, decay: float):
        average.set_weights(network.get_weights())
        self.network = average
        self._pairs = list(zip(average.weights, network.weights, strict=True))
        self._decay = decay

    def update(self, step: tf.Tensor) -> None:
        """Moves the averages towards the weights as they are after a step, counted from 0."""
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(self._decay, (1 + step) / (10 + step))
        for average, weight in self._pairs:
            average.assign(average * decay + weight * (1 - decay))
