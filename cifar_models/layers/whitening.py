"""A first convolution that whitens the image, fitted to the data instead of trained."""

import keras
import numpy as np

from cifar_models.layers.serialization import PACKAGE

SMALLEST_VARIANCE = 5e-4  # of a pixel's, added to each component's, so that noise is not blown up


@keras.saving.register_keras_serializable(PACKAGE)
class WhiteningConvolution(keras.layers.Conv2D):
    """Patches → their principal components at variance one, and their negatives.

    (B, H, W, C) → (B, H - P + 1, W - P + 1, 2 P P C). The kernel is fixed once `adapt` has seen
    images, the bias is trained. Jordan 2024, arXiv:2404.00498, section 3.2, after Page 2019.

    Args:
        kernel_size: P, pixels.
    """

    def __init__(self, kernel_size: int | tuple[int, int], **kwargs):
        super().__init__(**{"filters": 1, "kernel_size": kernel_size, **kwargs})

    def build(self, input_shape):
        self.filters = 2 * self.kernel_size[0] * self.kernel_size[1] * input_shape[-1]
        super().build(input_shape)
        self._kernel.trainable = False

    def adapt(self, images: np.ndarray) -> None:
        """Takes kernel and bias from the patches of images, float32 (N, H, W, C)."""
        height, width = self.kernel_size
        rows, columns = images.shape[1] - height + 1, images.shape[2] - width + 1
        shifted = [
            images[:, row : row + rows, column : column + columns]
            for row in range(height)
            for column in range(width)
        ]
        patches = np.concatenate(shifted, axis=-1).reshape(-1, self.filters // 2)
        mean = patches.mean(axis=0, dtype=np.float64)
        patches -= mean.astype(np.float32)
        covariance = patches.T @ patches / np.float32(len(patches) - 1)  # numpy.cov's, in float32
        variances, components = np.linalg.eigh(covariance)  # a component a column
        noise = SMALLEST_VARIANCE * (np.trace(covariance) / len(variances) + 1e-6)  # above 0
        components /= np.sqrt(np.maximum(variances, 0) + noise)
        kernel = np.concatenate([components, -components], axis=1)
        self.kernel.assign(kernel.reshape(self.kernel.shape))
        self.bias.assign(-mean @ kernel)
