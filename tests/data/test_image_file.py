"""Reading one image file: formats, bit depths, transparency, orientation and geometry."""

import io
import os
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cifar_models.data.image_file import (
    FOURTEEN_BITS,
    LONG_SIDE,
    ONE_COLOUR,
    SEVERAL_FRAMES,
    TWELVE_BITS,
    read_image,
)
from cifar_models.data.read_images import read_all


def write_bmp_with_unused_alpha(path: Path, colour: tuple[int, int, int], alpha: int = 0) -> None:
    """Write a BMP of 8x8 pixels with 32 bits each, a header of version 5 and a mask for alpha."""
    red, green, blue = colour
    pixels = bytes((blue, green, red, alpha)) * 64
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 124, 8, 8, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    header += masks + struct.pack("<I", 0x73524742) + bytes(124 - len(header) - len(masks) - 4)
    offset = 14 + len(header)
    path.write_bytes(
        struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset) + header + pixels
    )


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 255)])
def test_the_unused_fourth_byte_of_a_bmp_is_no_transparency(colour, tmp_path):
    write_bmp_with_unused_alpha(tmp_path / "x.bmp", colour)
    assert Image.open(tmp_path / "x.bmp").mode == "RGBA"  # as Pillow sees it
    assert (read_image(tmp_path / "x.bmp", 8, "crop").pixels == colour).all()


def test_an_alpha_channel_of_a_bmp_that_is_used_is_transparency(tmp_path):
    write_bmp_with_unused_alpha(tmp_path / "x.bmp", (255, 0, 0), alpha=128)
    red, green, blue = read_image(tmp_path / "x.bmp", 8, "crop").pixels[0, 0]
    assert (red, green, blue) == (255, 127, 127)


def test_an_image_without_a_visible_pixel_is_unusable(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match="every pixel is transparent"):
        read_image(tmp_path / "x.png", 8, "crop")


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("I;16", 0x8000, 0x80),  # half of the range of 16 bits
        ("I;16", 0x4000, 0x40),
        ("I;16", 0x0FFF, 0xFF),  # the largest value of 12 bits
        ("I;16", 0x0800, 0x80),
        ("RGBA", (0, 0, 0, 255), 0),
        ("LA", (0, 127), 128),  # half of black on white
        ("L", 7, 7),
        ("1", 1, 255),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_modes_of_an_image_are_converted(mode, colour, expected, suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    Image.new(mode, (20, 10), colour).save(path)
    image = read_image(path, 8, "crop")
    assert image.pixels.shape == (8, 8, 3) and image.pixels.dtype == np.uint8
    assert (image.pixels == expected).all()
    is_12_bits = mode == "I;16" and colour < 4096
    assert image.remarks == (TWELVE_BITS,) * is_12_bits + (ONE_COLOUR,)


def png_of_16_bits(values: np.ndarray, transparent: int | None = None) -> bytes:
    """Return a PNG file with 16 bits a value, (H, W, C): grey, grey with alpha, RGB or RGBA.

    Pillow cannot write it. With `transparent`, it names the grey value that is transparent.
    """

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    if transparent is not None:
        chunks.insert(1, (b"tRNS", struct.pack(">H", transparent)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_16_bits_that_would_be_black_are_unusable(channels, tmp_path):
    values = np.full((8, 8, channels), 0x8000)
    values[..., -1] = 0xFFFF if channels != 3 else 0x8000
    (tmp_path / "x.png").write_bytes(png_of_16_bits(values))
    assert (read_image(tmp_path / "x.png", 8, "crop").pixels == 0x80).all()
    values[..., : channels - (channels != 3)] = 0x0FFF
    (tmp_path / "x.png").write_bytes(png_of_16_bits(values))
    with pytest.raises(ValueError, match="16-bit colours of at most 4,095"):
        read_image(tmp_path / "x.png", 8, "crop")


def test_values_of_14_bits_get_a_remark(tmp_path):
    Image.new("I;16", (8, 8), 0x3FFF).save(tmp_path / "x.png")
    read = read_image(tmp_path / "x.png", 8, "crop")
    assert (read.pixels == 0x3F).all()
    assert FOURTEEN_BITS in read.remarks and TWELVE_BITS not in read.remarks


def test_colours_of_14_bits_get_a_remark(tmp_path):
    (tmp_path / "x.png").write_bytes(png_of_16_bits(np.full((8, 8, 3), 0x3FFF)))
    read = read_image(tmp_path / "x.png", 8, "crop")
    assert (read.pixels == 0x3F).all() and FOURTEEN_BITS in read.remarks


def test_the_transparent_value_of_16_bits_is_white(tmp_path):
    values = np.full((8, 8, 1), 0x4000)
    values[:4] = 0x8000
    (tmp_path / "x.png").write_bytes(png_of_16_bits(values, transparent=0x8000))
    pixels = read_image(tmp_path / "x.png", 8, "crop").pixels
    assert (pixels[:4] == 255).all() and (pixels[4:] == 0x40).all()
    (tmp_path / "x.png").write_bytes(png_of_16_bits(values[:4], transparent=0x8000))
    with pytest.raises(ValueError, match="every pixel is transparent"):
        read_image(tmp_path / "x.png", 8, "crop")


@pytest.mark.parametrize(("photometric", "expected"), [(0, 0xBF), (1, 0x40)])
def test_a_tiff_of_16_bits_whose_zero_is_white_is_inverted(photometric, expected, tmp_path):
    tags = {256: 8, 257: 8, 258: 16, 259: 1, 262: photometric, 273: 0, 277: 1, 278: 8, 279: 128}
    tags[273] = 8 + 2 + 12 * len(tags) + 4  # where the pixels begin
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    (tmp_path / "x.tif").write_bytes(header + struct.pack("<H", 0x4000) * 64)
    assert Image.open(tmp_path / "x.tif").mode == "I;16"
    assert (read_image(tmp_path / "x.tif", 8, "crop").pixels == expected).all()


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("CMYK", (0, 255, 255, 0), ".tif", (255, 0, 0)),
        ("CMYK", (255, 255, 0, 0), ".jpg", (0, 0, 255)),
        ("P", 1, ".png", (255, 0, 0)),  # the second colour of the palette
        ("P", 1, ".gif", (255, 0, 0)),
    ],
)
def test_inks_and_palettes_are_colours(mode, colour, suffix, expected, tmp_path):
    image = Image.new(mode, (16, 16), colour)
    if mode == "P":
        image.putpalette([0, 255, 0, 255, 0, 0])
    image.save(tmp_path / f"x{suffix}", **({"quality": 100} if suffix == ".jpg" else {}))
    pixels = read_image(tmp_path / f"x{suffix}", 8, "crop").pixels.astype(int)
    assert abs(pixels - expected).max() <= 2


def test_the_transparent_colour_of_a_palette_is_white(tmp_path):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (0, 0, 8, 4))
    image.save(tmp_path / "x.png", transparency=0)
    pixels = read_image(tmp_path / "x.png", 8, "crop").pixels
    assert (pixels[:4] == (255, 0, 0)).all() and (pixels[4:] == 255).all()


def test_values_of_32_bits_are_unusable(tmp_path):
    Image.new("F", (8, 8), 0.5).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match="32 bits per value"):
        read_image(tmp_path / "x.tif", 8, "crop")


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".jpe", ".jfif", ".JPG"])
def test_every_suffix_of_a_jpeg_is_read(suffix, tmp_path):
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / f"x{suffix}", format="jpeg")
    assert (read_image(tmp_path / f"x{suffix}", 8, "crop").pixels == 9).all()


# Where the first row and the first column of the stored pixels are seen, by EXIF 2.3, table 6.
SEEN = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


@pytest.mark.parametrize("orientation", SEEN)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_the_orientation_of_exif_is_applied(orientation, suffix, tmp_path):
    stored = np.full((16, 16, 3), 128, np.uint8)
    stored[:, 0] = 0  # the first column is black
    stored[0] = 255  # the first row is white
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / f"x{suffix}", exif=exif, quality=100, subsampling=0)
    pixels = read_image(tmp_path / f"x{suffix}", 16, "crop").pixels[..., 0].astype(int)
    sides = {"top": pixels[0], "bottom": pixels[-1], "left": pixels[:, 0], "right": pixels[:, -1]}
    row, column = SEEN[orientation]
    assert np.median(sides[row]) > 240 and np.median(sides[column]) < 15


def test_odd_exif_data_do_not_hide_the_orientation(tmp_path):
    """A signed fraction of -1/0 as the resolution makes Pillow's `exif_transpose` fail."""
    entries = struct.pack("<HHIHxx", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x011A, 10, 1, 38)
    tiff = b"II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<I", 0)
    tiff += struct.pack("<ii", -1, 0)
    image = Image.new("RGB", (16, 16), "white")
    image.paste("black", (0, 0, 16, 8))  # the upper half of the stored pixels
    image.save(tmp_path / "x.jpg", exif=b"Exif\0\0" + tiff, quality=100)
    pixels = read_image(tmp_path / "x.jpg", 16, "crop").pixels
    assert pixels[:, -1].max() < 15 and pixels[:, 0].min() > 240  # the upper half is at the right


def test_an_animation_gives_its_first_frame_with_a_remark(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    image = read_image(tmp_path / "x.gif", 8, "crop")
    assert (image.pixels == (255, 0, 0)).all()
    assert SEVERAL_FRAMES in image.remarks


def test_the_first_picture_of_a_jpeg_with_several_is_read(tmp_path):
    """Cameras store a second view or a preview in a JPEG (the format MPO)."""
    views = [Image.new("RGB", (8, 8), (grey,) * 3) for grey in (50, 200)]
    views[0].save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=views[1:])
    image = read_image(tmp_path / "x.jpg", 8, "crop")
    assert (image.pixels == 50).all() and SEVERAL_FRAMES not in image.remarks


@pytest.mark.parametrize(
    ("resize", "expected"),
    [
        ("crop", [[93.75, 93.75]] * 2),  # the middle of the image as 4 x 2 pixels
        ("pad", [[0] * 4, [57.1, 93.75, 93.75, 57.1], [57.1, 93.75, 93.75, 57.1], [0] * 4]),
        ("stretch", [[100 - 50 * 3 / 7] * 2] * 2),
    ],
)
def test_the_geometry_of_a_wide_image(resize, expected, tmp_path):
    """The image is 16 x 8 pixels. Its middle square is 100, and its left and right edges are 50.

    Shrunk to a quarter, a pixel is a mean of 8 pixels with weights 1, 3, 5, 7, 7, 5, 3 and 1, of
    which the first two are outside of the image at its edge: 100 - 50 * 4 / 32 and
    100 - 50 * 24 / 28. Shrunk to an eighth in one direction, the weights of 50 are 3 of 7.
    """
    pixels = np.full((8, 16), 50, np.uint8)
    pixels[:, 4:12] = 100
    Image.fromarray(pixels).save(tmp_path / "x.png")
    image = read_image(tmp_path / "x.png", len(expected), resize).pixels[..., 0]
    np.testing.assert_allclose(image, expected, atol=1)


def test_a_very_long_image_is_padded_to_a_line_and_not_to_nothing(tmp_path):
    Image.new("RGB", (2, 200), (255, 0, 0)).save(tmp_path / "x.png")
    pixels = read_image(tmp_path / "x.png", 8, "pad").pixels  # 0.08 pixels wide
    assert (pixels == (255, 0, 0)).all(axis=-1).sum() == 8


def test_shrinking_averages_all_pixels(tmp_path):
    """A checkerboard of single pixels becomes grey. A filter that skips pixels gives 0 or 255."""
    checkerboard = np.indices((64, 64)).sum(axis=0) % 2 * 255
    Image.fromarray(checkerboard.astype(np.uint8)).save(tmp_path / "x.png")
    pixels = read_image(tmp_path / "x.png", 8, "crop").pixels.astype(int)
    assert abs(pixels - 127.5).max() < 2


def test_a_large_jpeg_is_read_like_its_pixels(tmp_path):
    """A JPEG is decoded at a fraction of its size, which may change the last bits only."""
    ramp = np.linspace(0, 255, 800)[None, :, None].repeat(600, 0).repeat(3, 2).astype(np.uint8)
    for suffix in (".png", ".jpg"):
        Image.fromarray(ramp).save(tmp_path / f"x{suffix}", quality=95)
    png, jpeg = (
        read_image(tmp_path / f"x{suffix}", 32, "crop").pixels.astype(int)
        for suffix in (".png", ".jpg")
    )
    assert abs(png - jpeg).max() <= 2


def test_a_long_image_gets_a_remark(tmp_path):
    for width in (31, 33):
        Image.new("L", (width, 8)).save(tmp_path / f"{width}.png")
    assert LONG_SIDE not in read_image(tmp_path / "31.png", 8, "crop").remarks
    assert LONG_SIDE in read_image(tmp_path / "33.png", 8, "crop").remarks


@pytest.mark.parametrize("side", [8_000, 20_000])  # above the limit, and above that of Pillow
def test_an_image_of_too_many_pixels_names_the_limit(side, tmp_path):
    Image.new("1", (side, side)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"more than 50,000,000 ?(pixels)?; shrink it"):
        read_image(tmp_path / "x.png", 8, "crop")


def encoded_images() -> list[tuple[str, bytes]]:
    """Return (suffix, content) of a small image in every format."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    contents = []
    for suffix, name in ((".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP"), (".bmp", "BMP")):
        contents.append((suffix, _encoded(Image.fromarray(pixels), name)))
    contents.append((".gif", _encoded(Image.fromarray(pixels[..., 0]), "GIF")))
    contents.append((".tif", _encoded(Image.fromarray(pixels), "TIFF")))
    return contents


def _encoded(image: Image.Image, name: str) -> bytes:
    file = io.BytesIO()
    image.save(file, format=name)
    return file.getvalue()


ENCODED = encoded_images()


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(ENCODED),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
    st.floats(0, 1),
    st.sampled_from(["crop", "pad", "stretch"]),
)
def test_damaged_images_are_read_or_have_a_reason(image, changes, kept, resize):
    suffix, content = image
    damaged = bytearray(content)
    for position, value in changes:
        damaged[int(position * (len(damaged) - 1))] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        path.write_bytes(damaged[: max(1, int((0.5 + kept) * len(damaged)))])
        (result,) = (result for _, result in read_all([str(path)], 8, resize))
    if isinstance(result, str):
        assert result
    else:
        assert result.pixels.shape == (8, 8, 3) and result.pixels.dtype == np.uint8
        is_flat = (result.pixels == result.pixels[0, 0]).all()
        assert is_flat == (ONE_COLOUR in result.remarks)


@pytest.mark.slow
@pytest.mark.skipif("PILLOW_IMAGES" not in os.environ, reason="needs the source of Pillow")
def test_the_test_images_of_pillow_are_read_or_have_a_reason():
    """PILLOW_IMAGES is the folder Tests/images of the source of Pillow."""
    folder = Path(os.environ["PILLOW_IMAGES"])
    paths = [str(path) for path in folder.rglob("*") if path.is_file()]
    results = dict(read_all(paths, 32, "crop"))
    read = {path: each for path, each in results.items() if not isinstance(each, str)}
    assert len(results) == len(paths) and len(read) > 200
    for path, each in read.items():
        assert each.pixels.std() > 0 or ONE_COLOUR in each.remarks, path
    assert all(reason for reason in results.values() if isinstance(reason, str))
