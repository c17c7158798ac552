"""Batch normalization through TensorFlow's fused kernel."""

import keras
import tensorflow as tf

from cifar_models.layers.serialization import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' BatchNormalization of images (B, H, W, C), trained through one fused kernel.

    Keras 3 composes batch normalization of a dozen elementwise operations, each of which reads
    and writes all activations. On a CPU, where XLA does not fuse them, they take a large fraction
    of a training step. Weights, configuration and results are the same as in Keras.

    Source: Ioffe and Szegedy (2015), arXiv:1502.03167.
    """

    def call(self, inputs, training=None, mask=None):
        if not training or not self.trainable:
            return super().call(inputs, training=False, mask=mask)
        ones, zeros = tf.ones(inputs.shape[-1:]), tf.zeros(inputs.shape[-1:])
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            self.gamma if self.scale else ones,
            self.beta if self.center else zeros,
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel returns the unbiased variance, but Keras averages the biased one.
        count = tf.cast(tf.size(inputs) / tf.size(mean), variance.dtype)
        variance *= (count - 1) / count
        self._update_moving_average(self.moving_mean, mean)
        self._update_moving_average(self.moving_variance, variance)
        return outputs

    def _update_moving_average(self, average: keras.Variable, value: tf.Tensor) -> None:
        average.assign(average * self.momentum + value * (1 - self.momentum))
