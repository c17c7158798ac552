"""Decoding and resizing of JPEG and PNG files within a TensorFlow graph, as Pillow does it."""

import functools
import struct

import tensorflow as tf

from cifar_models.data.grey import LUMA
from cifar_models.data.image_file import DRAFT_FACTOR

ORIENTATION_TAG = 0x0112  # of EXIF
EXIF_BYTES = 4096  # the start of a file, in which its orientation is looked for
JPEG_RATIOS = (1, 2, 4, 8)  # by which a decoder can shrink a JPEG file
PNG_BITS_AT = 24  # place of the byte that gives the number of bits of a value
EXIF_MARKS = (b"Exif", b"eXIf")  # before the EXIF data of a JPEG and a PNG file
# Of each EXIF orientation from 1 on, in this order: (transpose, flip sideways, flip upside down).
TURNS = (
    (False, False, False),
    (False, True, False),
    (False, True, True),
    (False, False, True),
    (True, False, False),
    (True, True, False),
    (True, True, True),
    (True, False, True),
)


def decode_batch(encoded: tf.Tensor, size: int, channels: int, resize: str) -> tf.Tensor:
    """Decode a batch of image files, as `read_image` does outside a graph.

    A value differs from Pillow's by at most 1, because Pillow also rounds to whole numbers between
    the two directions of resizing. Larger differences are possible for 12-bit values in 16-bit
    files, and for an orientation that is stored as XMP or after the first EXIF_BYTES. `read_image`
    refuses a file of which every pixel is transparent; here, it is white.

    Args:
        encoded: Contents of JPEG or PNG files, string (B,).
        size: Height and width S of the images, pixels.
        channels: Number of channels C: 3, or 1 for grey images.
        resize: data.resize of the recipe: "crop", "pad" or "stretch".

    Returns:
        Images, uint8 (B, S, S, C).
    """
    images = tf.map_fn(
        lambda content: _resized(_decoded(content, size), size, resize),
        encoded,
        fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
    )
    if channels == 1:
        grey = tf.tensordot(tf.cast(images, tf.float32), LUMA, 1)
        images = tf.cast(tf.round(grey), tf.uint8)[..., tf.newaxis]
    return images


def _decoded(content: tf.Tensor, size: int) -> tf.Tensor:
    """Return an upright RGB image on white, float32 (H, W, 3), 0 to 255."""
    pixels = tf.cond(
        tf.io.is_jpeg(content),
        lambda: tf.cast(_decoded_jpeg(content, size), tf.float32),
        lambda: _on_white(content),
    )
    return _upright(pixels, _orientation(content))


def _decoded_jpeg(content: tf.Tensor, size: int) -> tf.Tensor:
    """Decode a JPEG file as Pillow does after `draft`: a large one to a fraction of its pixels."""
    shape = tf.io.extract_jpeg_shape(content)[:2]
    smallest = tf.cast(tf.reduce_min(shape), tf.float64)
    wanted = tf.round(tf.cast(shape, tf.float64) * (DRAFT_FACTOR * size / smallest))
    ratio = tf.reduce_min(shape // tf.maximum(tf.cast(wanted, tf.int32), 1))
    decoders = [
        functools.partial(
            tf.io.decode_jpeg,
            content,
            channels=3,
            ratio=ratio,
            # Pillow's method. TensorFlow's default is faster and less accurate.
            dct_method="INTEGER_ACCURATE",
        )
        for ratio in JPEG_RATIOS
    ]
    index = tf.reduce_sum(tf.cast(ratio >= JPEG_RATIOS, tf.int32)) - 1
    return tf.switch_case(tf.maximum(index, 0), decoders)


def _on_white(content: tf.Tensor) -> tf.Tensor:
    """Decode a PNG file, and put it on white where it is transparent."""
    pixels = tf.io.decode_png(content, channels=4)
    opacity = tf.cast(pixels[..., 3:], tf.float32) / 255
    # TensorFlow's opacity of an opaque file with 1, 2 or 4 bits is the highest value of these bits.
    bits = tf.io.decode_raw(tf.strings.substr(content, PNG_BITS_AT, 1), tf.uint8)
    highest = tf.bitwise.left_shift(tf.constant(1, tf.uint8), bits) - 1
    opacity = tf.where((bits < 8) & tf.reduce_all(pixels[..., 3] == highest), 1.0, opacity)
    return tf.round(tf.cast(pixels[..., :3], tf.float32) * opacity + 255 * (1 - opacity))


def _orientation(content: tf.Tensor) -> tf.Tensor:
    """Return the EXIF orientation of a file, int32 (): 1 if it has none.

    It is the first entry of an EXIF directory that is an orientation: the tag, the type (3, a short
    integer), the count (1) and the value.
    """
    start = tf.io.decode_raw(tf.strings.substr(content, 0, EXIF_BYTES), tf.uint8)
    windows = tf.signal.frame(tf.cast(start, tf.int32), 10, 1)  # (N, 10)
    values = []
    for byte_order, last_byte in (("<", 8), (">", 9)):  # little and big endian
        entry = struct.pack(f"{byte_order}HHI", ORIENTATION_TAG, 3, 1)
        values.append(tf.boolean_mask(windows[:, last_byte], _starts_with(windows, entry)))
    has_exif = tf.reduce_any([tf.reduce_any(_starts_with(windows, mark)) for mark in EXIF_MARKS])
    orientation = tf.concat([*values, [1]], axis=0)[0]
    is_valid = has_exif & (orientation >= 1) & (orientation <= len(TURNS))
    return tf.where(is_valid, orientation, 1)


def _starts_with(windows: tf.Tensor, content: bytes) -> tf.Tensor:
    """Return whether each row of windows, int32 (N, M), starts with some bytes: bool (N,)."""
    return tf.reduce_all(windows[:, : len(content)] == list(content), axis=1)


def _upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    def turned(transposes: bool, flips_sideways: bool, flips_upside_down: bool) -> tf.Tensor:
        image = tf.transpose(pixels, (1, 0, 2)) if transposes else pixels
        image = image[:, ::-1] if flips_sideways else image
        return image[::-1] if flips_upside_down else image

    return tf.switch_case(orientation - 1, [functools.partial(turned, *turn) for turn in TURNS])


def _resized(image: tf.Tensor, size: int, resize: str) -> tf.Tensor:
    """Resize an image, float32 (H, W, 3), to a square, uint8 (S, S, 3).

    A triangle filter that averages all pixels when it shrinks an image is Pillow's bilinear filter.
    """
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    if resize == "stretch":
        scale, offset = size / shape, tf.zeros(2)
    elif resize == "crop":
        scale = tf.repeat(size / tf.reduce_min(shape), 2)
        offset = (size - shape * scale) / 2
    else:  # "pad"
        sides = tf.cast(tf.shape(image)[:2], tf.float64)
        whole = tf.maximum(tf.round(sides / tf.reduce_max(sides) * size), 1)
        whole = tf.cast(whole, tf.float32)
        scale, offset = whole / shape, tf.round((size - whole) / 2)
    pixels = tf.raw_ops.ScaleAndTranslate(
        images=image[tf.newaxis],
        size=(size, size),
        scale=scale,
        translation=offset,
        kernel_type="triangle",
        antialias=True,
    )[0]
    return tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)
