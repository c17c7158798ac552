"""The activation function of transformers and of airbench."""

import functools
import math
from collections.abc import Callable

import keras
import tensorflow as tf
from keras import ops

from cifar_models.layers.serialization import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class GELU(keras.layers.Layer):
    """Gaussian error linear unit, x times the normal distribution function of x: any shape.

    It is computed in float32 at least. TensorFlow takes a dozen passes over the memory for it and
    its gradient. While a network is trained on a CPU, XLA compiles each of the two to a single
    pass, which takes a quarter to a third of the time (experiments/LOG.md).

    Args:
        approximate: Whether to use the approximation by tanh, as the authors of ViT do.

    Source: Hendrycks and Gimpel (2016), arXiv:1606.08415.
    """

    def __init__(self, approximate: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.approximate = approximate

    def call(self, x, training=False):
        # On a GPU, XLA compiles the whole step. Predictions and exports must work without XLA.
        if not training or tf.config.list_physical_devices("GPU"):
            return _gelu(x, self.approximate)
        return _compiled(self.approximate, tuple(x.shape), x.dtype)(x)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "approximate": self.approximate}


def _gelu(x: tf.Tensor, approximate: bool) -> tf.Tensor:
    z = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
    if approximate:
        z = keras.activations.gelu(z, approximate=True)
    else:  # Keras' own exact GELU has no valid ONNX export (tensorflow-onnx issue 2463).
        z = 0.5 * z * (1 + ops.erf(z / math.sqrt(2)))
    return ops.cast(z, x.dtype)


@functools.cache
def _compiled(approximate: bool, shape: tuple, dtype: tf.DType) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function for arrays of one shape; TensorFlow warns of functions for many."""

    @tf.function(jit_compile=True, autograph=False)
    def forward(x: tf.Tensor) -> tf.Tensor:
        return _gelu(x, approximate)

    @tf.function(jit_compile=True, autograph=False)
    def gradient(x: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = _gelu(x, approximate)
        return tape.gradient(y, x, upstream)

    @tf.custom_gradient
    def gelu(x: tf.Tensor):
        return forward(x), lambda upstream: gradient(x, upstream)

    return gelu
