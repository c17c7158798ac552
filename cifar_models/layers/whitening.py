"""A whitening convolution, fitted to images instead of trained."""

import keras
import numpy as np

from cifar_models.layers.serialization import PACKAGE

# Added to the variance of every component, relative to the mean variance of a pixel, so that
# components of almost no variance do not amplify noise.
RELATIVE_NOISE_FLOOR = 5e-4


@keras.saving.register_keras_serializable(PACKAGE)
class WhiteningConvolution(keras.layers.Conv2D):
    """Convolution with the whitened principal components of patches, and with their negatives.

    (B, H, W, C) → (B, H - P + 1, W - P + 1, 2 * P * P * C). `adapt` sets kernel and bias from
    images. Training changes only the bias.

    Args:
        kernel_size: Side P of the square patches in pixels.

    Source: Jordan (2024), arXiv:2404.00498, section 3.2, after Page (2019).
    """

    def __init__(self, kernel_size: int | tuple[int, int], **kwargs):
        super().__init__(**{"filters": 1, "kernel_size": kernel_size, **kwargs})

    def build(self, input_shape):
        self.filters = 2 * self.kernel_size[0] * self.kernel_size[1] * input_shape[-1]
        super().build(input_shape)
        self._kernel.trainable = False

    def adapt(self, images: np.ndarray) -> None:
        """Fit kernel and bias to the patches of images.

        Args:
            images: Images in the units of the layer's input, float32 (N, H, W, C).
        """
        height, width = self.kernel_size
        rows, columns = images.shape[1] - height + 1, images.shape[2] - width + 1
        shifted = [
            images[:, row : row + rows, column : column + columns]
            for row in range(height)
            for column in range(width)
        ]
        patches = np.concatenate(shifted, axis=-1).reshape(-1, self.filters // 2)  # (_, P * P * C)
        mean = patches.mean(axis=0, dtype=np.float64)
        patches -= mean.astype(np.float32)
        covariance = patches.T @ patches / np.float32(len(patches) - 1)  # numpy.cov in float32
        variances, components = np.linalg.eigh(covariance)  # one component per column
        mean_variance = np.trace(covariance) / len(variances)
        noise = RELATIVE_NOISE_FLOOR * (mean_variance + 1e-6)  # positive for constant images too
        components /= np.sqrt(np.maximum(variances, 0) + noise)
        kernel = np.concatenate([components, -components], axis=1)
        self.kernel.assign(kernel.reshape(self.kernel.shape))
        self.bias.assign(-mean @ kernel)
