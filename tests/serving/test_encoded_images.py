"""Image files that a SavedModel decodes itself are what Pillow reads for training."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from cifar_models.data.grey import as_grey
from cifar_models.data.image_file import read_image
from cifar_models.serving.encoded_images import decode_batch

RESIZES = ("crop", "pad", "stretch")
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return Image.fromarray(load_sample_images().images[0])


def largest_difference(path: Path, size: int, resize: str) -> int:
    """Return the largest difference of a pixel of a file from what Pillow reads."""
    decoded = decode_batch(tf.constant([path.read_bytes()]), size, 3, resize).numpy()[0]
    assert decoded.dtype == np.uint8 and decoded.shape == (size, size, 3)
    expected = read_image(path, size, resize).pixels
    return int(np.abs(decoded.astype(int) - expected).max())


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_in_every_orientation(orientation, resize, photograph, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    photograph.crop((0, 0, 300, 201)).save(tmp_path / "x.jpg", exif=exif, quality=95)
    assert largest_difference(tmp_path / "x.jpg", 32, resize) <= 1
    photograph.crop((0, 0, 50, 31)).save(tmp_path / "x.png", exif=exif)
    assert largest_difference(tmp_path / "x.png", 32, resize) <= 1


@pytest.mark.parametrize("byte_order", [b"II*\0", b"MM\0*"], ids=["little-endian", "big-endian"])
def test_both_byte_orders_of_exif_data(byte_order, photograph, tmp_path):
    order = "little" if byte_order == b"II*\0" else "big"

    def number(value: int, length: int) -> bytes:
        return value.to_bytes(length, order)

    entry = number(ORIENTATION, 2) + number(3, 2) + number(1, 4) + number(6, 2) + number(0, 2)
    exif = b"Exif\0\0" + byte_order + number(8, 4) + number(1, 2) + entry + number(0, 4)
    photograph.crop((0, 0, 60, 40)).save(tmp_path / "x.jpg", exif=exif)
    assert Image.open(tmp_path / "x.jpg").getexif()[ORIENTATION] == 6  # as Pillow reads it
    assert largest_difference(tmp_path / "x.jpg", 16, "crop") <= 1


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(1, 200),
    height=st.integers(1, 200),
    size=st.sampled_from([1, 8, 32, 65]),
    resize=st.sampled_from(RESIZES),
    mode=st.sampled_from(["L", "RGB", "RGBA", "LA", "P", "1"]),
    suffix=st.sampled_from([".png", ".jpg"]),
)
def test_files_of_any_shape_and_mode(width, height, size, resize, mode, suffix, tmp_path_factory):
    rng = np.random.default_rng(width * height)
    pixels = rng.integers(0, 256, (height, width, 4), np.uint8)
    pixels[..., 3] = np.maximum(pixels[..., 3], 1)  # a file without a visible pixel is refused
    image = Image.fromarray(pixels).convert(mode)
    path = tmp_path_factory.mktemp("images") / f"x{suffix}"
    image.convert("RGB" if suffix == ".jpg" else mode).save(path)
    assert largest_difference(path, size, resize) <= 1


def test_a_large_jpeg_file_is_decoded_at_the_reduced_size_that_pillow_chooses(photograph, tmp_path):
    photograph.resize((1280, 854)).save(tmp_path / "x.jpg", quality=80)
    for size in (16, 32, 64, 150, 224, 500):  # eighths, quarters, halves and the whole
        assert largest_difference(tmp_path / "x.jpg", size, "crop") <= 1


def test_a_grey_model_gets_the_luma(photograph):
    content = io.BytesIO()
    photograph.crop((0, 0, 32, 32)).save(content, "PNG")
    images = decode_batch(tf.constant([content.getvalue()] * 2), 32, 1, "crop").numpy()
    assert images.shape == (2, 32, 32, 1)
    expected = as_grey(np.asarray(photograph.crop((0, 0, 32, 32)))[np.newaxis])
    assert np.abs(images.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"\xff\xd8\xff truncated", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_image_is_an_error_of_tensorflow(content):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_batch(tf.constant([content]), 8, 3, "crop")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True], ids=["opaque", "transparent"])
def test_palettes_of_few_colours(bits, transparent, tmp_path):
    image = Image.new("P", (4, 4))
    image.putpalette([value for colour in range(2**bits) for value in (colour, 0, 255 - colour)])
    image.putdata([number % 2**bits for number in range(16)])
    options = {"transparency": 1} if transparent else {}
    image.save(tmp_path / "x.png", bits=bits, **options)
    assert largest_difference(tmp_path / "x.png", 4, "stretch") <= 1
