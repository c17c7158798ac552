"""A small network that looks at each batch first and picks the images worth training on."""

import keras
import tensorflow as tf


class Proxy:
    """Learns beside the network, from the images that are hardest for itself; both get these alone.

    Selective backpropagation (Jiang et al. 2019, arXiv:1910.00762), with another network's loss in
    place of its own as in airbench96_faster (github.com/KellerJordan/cifar10-airbench), by the
    author of arXiv:2404.00498. There the proxy is trained before the network and updated at every
    fourth step; here both learn in one step, so that a run has one beginning. The proxy sees
    the whole batch, batch norm's statistics included, and draws no random numbers.

    Args:
        network: uint8 (B, H, W, C) → float32 logits (B, K), compiled with an optimizer of its own.
        number: N, of the images that are picked from a batch.
    """

    def __init__(self, network: keras.Model, number: int):
        network.optimizer.build(network.trainable_variables)
        self.network = network
        self._number = number

    @property
    def variables(self) -> list[keras.Variable]:
        """All that it has learned, the optimizer's state included."""
        return [*self.network.weights, *self.network.optimizer.variables]

    def pick(self, images: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Takes one step on the hardest images of a batch, and picks them.

        Args:
            images: uint8 (B, H, W, C), augmented.
            targets: float32 (B, K).

        Returns:
            uint8 (N, H, W, C) and float32 (N, K), the hardest first, and the mean of their losses.
        """
        variables, optimizer = self.network.trainable_variables, self.network.optimizer
        with tf.GradientTape() as tape:
            logits = self.network(images, training=True)
            losses = keras.losses.categorical_crossentropy(targets, logits, from_logits=True)
            highest, hardest = tf.math.top_k(losses, self._number)  # float32 (N,), int32 (N,)
            loss = tf.reduce_mean(highest)
            scaled = optimizer.scale_loss(loss)
        optimizer.apply(tape.gradient(scaled, variables), variables)
        return tf.gather(images, hardest), tf.gather(targets, hardest), loss
