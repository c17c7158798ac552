"""RandAugment, with transformations drawn for each image (arXiv:1909.13719).

Every transformation is computed for the whole batch and selected by a mask, so that it compiles
under XLA and costs a few passes over the images instead of a branch for each image.
"""

import math

import tensorflow as tf

from cifar_models.augmentation.batch import Batch
from cifar_models.augmentation.stateless_random import split_key, uniform, uniform_integers
from cifar_models.config.augmentation import AugmentationConfig

# The fourteen transformations of the paper's table.
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
COLOUR = (
    "identity",
    "auto_contrast",
    "equalize",
    "solarize",
    "posterize",
    "color",
    "contrast",
    "brightness",
    "sharpness",
)
# Strengths at magnitude 10. A shift is a fraction of the side of the image.
MAX_DEGREES, MAX_SHEAR, MAX_SHIFT, MAX_BLEND = 30.0, 0.3, 0.45, 0.9
FILL = 128.0  # grey, for pixels that a geometric transformation takes from outside the image


def rand_augment(batch: Batch, key: tf.Tensor, config: AugmentationConfig) -> Batch:
    """Apply RandAugment to a batch with the recipe's number of layers and magnitude."""
    images = apply_rand_augment(
        batch.images, key, config.rand_augment_layers, config.rand_augment_magnitude
    )
    return batch._replace(images=images)


def apply_rand_augment(
    images: tf.Tensor, key: tf.Tensor, num_layers: int, magnitude: float
) -> tf.Tensor:
    """Apply random transformations to each image.

    Args:
        images: Images, uint8 (B, H, W, C), C = 1 or 3.
        key: Random key, int32 (2,).
        num_layers: Number of transformations of each image.
        magnitude: Strength, 0 (hardly visible) to 10.

    Returns:
        Images, uint8 (B, H, W, C).
    """
    batch = images.shape[0]
    pixels = tf.cast(images, tf.float32)
    for layer_key in split_key(key, num_layers):
        which_key, sign_key = split_key(layer_key, 2)
        which = uniform_integers((batch,), which_key, len(GEOMETRIC) + len(COLOUR))
        sign = tf.where(uniform((batch,), sign_key) < 0.5, -1.0, 1.0)
        pixels = apply_transformations(pixels, which, sign * magnitude / 10)
    return tf.cast(tf.round(pixels), tf.uint8)


def apply_transformations(pixels: tf.Tensor, which: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Apply one transformation to each image.

    Args:
        pixels: Images, float32 (B, H, W, C), 0 to 255.
        which: Indices into GEOMETRIC + COLOUR, int32 (B,).
        strength: Strength, float32 (B,), in [-1, 1]; the sign is a direction.

    Returns:
        Images, float32 (B, H, W, C), 0 to 255.
    """
    moved = _apply_affine(pixels, *_inverse_affine(which, strength, pixels.shape[1:3]))
    result = tf.where(_per_image(which < len(GEOMETRIC)), moved, pixels)
    for index, name in enumerate(COLOUR, start=len(GEOMETRIC)):
        if name != "identity":
            changed = _COLOUR_FUNCTIONS[name](pixels, _per_image(strength))
            result = tf.where(_per_image(which == index), changed, result)
    return result


def _per_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]  # (B,) → (B, 1, 1, 1)


def _inverse_affine(which, strength, size) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the map from output to input (y, x): matrices (B, 2, 2) and shifts (B, 2)."""
    height, width = size

    def only(name: str) -> tf.Tensor:
        return tf.where(which == GEOMETRIC.index(name), strength, 0.0)

    angle = only("rotate") * MAX_DEGREES * math.pi / 180
    cosine, sine = tf.cos(angle), tf.sin(angle)
    shear_x, shear_y = only("shear_x") * MAX_SHEAR, only("shear_y") * MAX_SHEAR
    # Only one transformation is active in an image, so the terms do not interact.
    rows = [tf.stack([cosine, sine + shear_y], 1), tf.stack([-sine + shear_x, cosine], 1)]
    shift = [only("translate_y") * MAX_SHIFT * height, only("translate_x") * MAX_SHIFT * width]
    return tf.stack(rows, axis=1), tf.stack(shift, axis=1)


def _apply_affine(pixels: tf.Tensor, matrix: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Sample each image bilinearly at matrix @ (y, x) + shift around its centre."""
    _, height, width, channels = pixels.shape
    y, x = tf.meshgrid(tf.range(height), tf.range(width), indexing="ij")
    grid = tf.cast(tf.stack([y, x], axis=-1), tf.float32)  # (H, W, 2)
    centre = tf.constant([(height - 1) / 2, (width - 1) / 2])
    source = tf.einsum("bij,hwj->bhwi", matrix, grid - centre) + centre
    source += shift[:, None, None, :]  # (B, H, W, 2)
    low = tf.floor(source)
    weight = source - low
    frame = [[0, 0], [1, 1], [1, 1], [0, 0]]
    padded = tf.pad(pixels, frame, constant_values=FILL)  # one pixel of grey all around
    flat = tf.reshape(padded, (-1, (height + 2) * (width + 2), channels))

    def corner(dy: int, dx: int) -> tf.Tensor:
        row = tf.clip_by_value(tf.cast(low[..., 0], tf.int32) + dy + 1, 0, height + 1)
        column = tf.clip_by_value(tf.cast(low[..., 1], tf.int32) + dx + 1, 0, width + 1)
        return tf.gather(flat, row * (width + 2) + column, axis=1, batch_dims=1)  # (B, H, W, C)

    wy, wx = weight[..., :1], weight[..., 1:]
    top = (1 - wx) * corner(0, 0) + wx * corner(0, 1)
    bottom = (1 - wx) * corner(1, 0) + wx * corner(1, 1)
    return (1 - wy) * top + wy * bottom


def _blend(degenerate: tf.Tensor, pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Blend as PIL's ImageEnhance does, with weight 1 + 0.9 * strength for the image."""
    factor = 1 + MAX_BLEND * strength
    return tf.clip_by_value(degenerate + factor * (pixels - degenerate), 0.0, 255.0)


def grey(pixels: tf.Tensor) -> tf.Tensor:
    """Return the brightness of pixels, float32: (B, H, W, C) → (B, H, W, 1)."""
    if pixels.shape[-1] == 1:
        return pixels
    weights = tf.constant([0.299, 0.587, 0.114])  # ITU-R BT.601, as in PIL
    return tf.reduce_sum(pixels * weights, axis=-1, keepdims=True)


def _color(pixels, strength):
    return _blend(grey(pixels), pixels, strength)


def _contrast(pixels, strength):
    return _blend(tf.reduce_mean(grey(pixels), axis=[1, 2], keepdims=True), pixels, strength)


def _brightness(pixels, strength):
    return _blend(tf.zeros_like(pixels), pixels, strength)


def _sharpness(pixels, strength):
    """Blend with the image that PIL smooths by (1 1 1, 1 5 1, 1 1 1) / 13, except at the border."""
    height, width, channels = pixels.shape[1:]
    kernel = tf.reshape(tf.constant([1.0, 1, 1, 1, 5, 1, 1, 1, 1]) / 13, (3, 3, 1, 1))
    kernel = tf.tile(kernel, (1, 1, channels, 1))
    smooth = tf.nn.depthwise_conv2d(pixels, kernel, (1, 1, 1, 1), "VALID")
    smooth = tf.pad(smooth, [[0, 0], [1, 1], [1, 1], [0, 0]])
    inner = tf.pad(tf.ones((1, height - 2, width - 2, 1)), [[0, 0], [1, 1], [1, 1], [0, 0]])
    return _blend(tf.where(inner > 0, smooth, pixels), pixels, strength)


def _solarize(pixels, strength):
    """Invert pixels at or above a threshold that falls from 256 to 0 with the strength."""
    return tf.where(pixels >= 256 * (1 - tf.abs(strength)), 255 - pixels, pixels)


def _posterize(pixels, strength):
    """Keep the highest 8 to 4 bits."""
    bits = tf.cast(tf.round(4 * tf.abs(strength)), tf.int32)
    step = tf.cast(tf.bitwise.left_shift(tf.ones_like(bits), bits), tf.float32)
    return tf.floor(pixels / step) * step


def _auto_contrast(pixels, strength):
    low = tf.reduce_min(pixels, axis=[1, 2], keepdims=True)
    high = tf.reduce_max(pixels, axis=[1, 2], keepdims=True)
    stretched = (pixels - low) * (255 / tf.maximum(high - low, 1.0))
    return tf.where(high > low, stretched, pixels)


def _equalize(pixels, strength):
    """Equalize the histogram of each channel as PIL's ImageOps.equalize does."""
    batch, height, width, channels = pixels.shape
    values = tf.cast(tf.clip_by_value(tf.round(pixels), 0.0, 255.0), tf.int32)
    values = tf.reshape(tf.transpose(values, (0, 3, 1, 2)), (batch * channels, height * width))
    rows = tf.range(batch * channels)[:, None] * 256
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(values), rows + values, batch * channels * 256
    )
    counts = tf.reshape(counts, (batch * channels, 256))
    last = 255 - tf.argmax(counts[:, ::-1] > 0, axis=1, output_type=tf.int32)
    highest = tf.gather(counts, last, axis=1, batch_dims=1)  # pixels with the highest value
    step = (height * width - highest) // 255
    table = (step[:, None] // 2 + tf.cumsum(counts, axis=1, exclusive=True)) // tf.maximum(
        step[:, None], 1
    )
    table = tf.where(step[:, None] > 0, tf.minimum(table, 255), tf.range(256))
    levelled = tf.gather(table, values, axis=1, batch_dims=1)
    levelled = tf.reshape(levelled, (batch, channels, height, width))
    return tf.cast(tf.transpose(levelled, (0, 2, 3, 1)), tf.float32)


_COLOUR_FUNCTIONS = {
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "solarize": _solarize,
    "posterize": _posterize,
    "color": _color,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
}
