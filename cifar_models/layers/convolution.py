"""A convolution with gradients that are fast and right on CPUs."""

import itertools

import keras
import tensorflow as tf

from cifar_models.layers.serialization import PACKAGE

# Largest number of output positions for which a CPU multiplies matrices to get the gradient of a
# bfloat16 kernel. That was 1.4 to 4.6 times as fast up to 8 x 8 positions, and slower from 15 x 15
# (experiments/LOG.md).
MAX_MULTIPLIED_POSITIONS = 64


@keras.saving.register_keras_serializable(PACKAGE)
class MirroredGradientConv2D(keras.layers.Conv2D):
    """Keras' Conv2D, with gradients that are fast on a CPU.

    For stride 1 and "same" padding, the input gradient is a convolution of the output gradient
    with the kernel rotated by 180 degrees. TensorFlow's own gradient kernel is up to seven times
    slower on a CPU than its forward kernel. The gradient of a kernel in bfloat16 is one matrix
    product for each position of the kernel, if the output is small. So is that of a 1x1 kernel
    with strides, because oneDNN writes past its memory for few channels (oneDNN issue 6035).
    Everything else, and convolutions with groups or dilation, use TensorFlow's gradients.

    Source: Dumoulin and Visin (2016), arXiv:1603.07285, section 4.
    """

    def convolution_op(self, inputs, kernel):
        is_dense = self.dilation_rate == (1, 1) and self.groups == 1
        if not is_dense or self.data_format != "channels_last":
            return super().convolution_op(inputs, kernel)
        kernel = tf.cast(tf.convert_to_tensor(kernel), inputs.dtype)
        return _convolve(inputs, kernel, self.strides, self.padding.upper())


def _convolve(
    images: tf.Tensor, kernel: tf.Tensor, strides: tuple[int, int], padding: str
) -> tf.Tensor:
    """Convolve images (B, H, W, C) with a kernel (P, Q, C, F) to (B, H', W', F)."""
    is_odd = all(size % 2 for size in kernel.shape[:2])
    can_mirror = is_odd and strides == (1, 1) and padding == "SAME"

    @tf.custom_gradient
    def convolve(images: tf.Tensor, kernel: tf.Tensor):
        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            if can_mirror:
                rotated = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])  # (P, Q, F, C)
                of_images = tf.nn.conv2d(upstream, rotated, 1, "SAME")  # (B, H, W, C)
            else:
                of_images = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(images),
                    filter=kernel,
                    out_backprop=upstream,
                    strides=[1, *strides, 1],
                    padding=padding,
                )
            return of_images, _kernel_gradient(images, upstream, kernel.shape, strides, padding)

        return tf.nn.conv2d(images, kernel, strides, padding), gradients

    return convolve(images, kernel)


def _kernel_gradient(
    images: tf.Tensor,
    upstream: tf.Tensor,
    kernel_shape: tf.TensorShape,
    strides: tuple[int, int],
    padding: str,
) -> tf.Tensor:
    """Return the gradient (P, Q, C, F) from images (B, H, W, C) and upstream (B, H', W', F)."""
    _, height, width, filters = upstream.shape
    rows, columns, channels, _ = kernel_shape
    if not _takes_products(upstream, (rows, columns), strides):
        return tf.raw_ops.Conv2DBackpropFilter(
            input=images,
            filter_sizes=kernel_shape,
            out_backprop=upstream,
            strides=[1, *strides, 1],
            padding=padding,
        )
    images = _pad(images, (rows, columns), (height, width), strides, padding)
    # Blocks of as many pixels as a step of the kernel, so that the slices below are contiguous.
    shape = images.shape[1] // strides[0], strides[0], images.shape[2] // strides[1], strides[1]
    blocks = tf.reshape(images, (-1, *shape, channels))
    upstream = tf.reshape(upstream, (-1, filters))  # (B H' W', F)
    products = []
    for row, column in itertools.product(range(rows), range(columns)):
        (top, y), (left, x) = divmod(row, strides[0]), divmod(column, strides[1])
        pixels = blocks[:, top : top + height, y, left : left + width, x]  # (B, H', W', C)
        pixels = tf.reshape(pixels, (-1, channels))
        products.append(tf.matmul(pixels, upstream, transpose_a=True))  # (C, F)
    return tf.reshape(tf.stack(products), kernel_shape)


def _takes_products(
    upstream: tf.Tensor, kernel_size: tuple[int, int], strides: tuple[int, int]
) -> bool:
    """Return whether TensorFlow's own gradient of a kernel is slow or wrong for (B, H', W', F)."""
    _, height, width, _ = upstream.shape
    if None in (height, width) or tf.config.list_physical_devices("GPU"):
        return False
    is_slow = upstream.dtype == tf.bfloat16 and height * width <= MAX_MULTIPLIED_POSITIONS
    is_wrong = kernel_size == (1, 1) and max(strides) > 1
    return is_slow or is_wrong


def _pad(
    images: tf.Tensor,
    kernel_size: tuple[int, int],
    output_size: tuple[int, int],
    strides: tuple[int, int],
    padding: str,
) -> tf.Tensor:
    """Pad images as the convolution does, and pad or crop them to whole blocks after that."""
    margins, ends = [], []
    for axis, (kernel, output, stride) in enumerate(
        zip(kernel_size, output_size, strides, strict=True), start=1
    ):
        size = images.shape[axis]
        used = (output - 1) * stride + kernel
        before = max(used - size, 0) // 2 if padding == "SAME" else 0
        ends.append(-(-used // stride) * stride)
        margins.append((before, max(ends[-1] - before - size, 0)))
    images = tf.pad(images, [(0, 0), *margins, (0, 0)])
    return images[:, : ends[0], : ends[1]]
