"""Reading one image file: as an image viewer shows it, in 8-bit RGB, as a square."""

import contextlib
import logging
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff")
)
MAX_PIXELS = 50_000_000  # of one image; a larger one may be a decompression bomb
MAX_FILE_BYTES = 8 * MAX_PIXELS  # of one image; some decoders read the whole file first
MAX_ASPECT_RATIO = 4  # without a remark
MAX_12_BITS, MAX_14_BITS = 2**12 - 1, 2**14 - 1
# A JPEG is decoded to at least this multiple of the size that it is resized to, as in Pillow's
# `thumbnail`, and not to all its pixels.
DRAFT_FACTOR = 2
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # tag of a TIFF, and one of its values
PADDING = "black"
UPRIGHT = {  # EXIF orientation → what turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What is worth a look, in the words of a warning: "3 images have …".
ONE_COLOUR = "a single colour"
SEVERAL_FRAMES = "several frames or pages, of which the first is read"
LONG_SIDE = f"a side that is more than {MAX_ASPECT_RATIO} times the other"
TWELVE_BITS = "16-bit values of at most 4,095, which are read as 12-bit values"
ALL_TRANSPARENT = "every pixel is transparent"  # of an error
FOURTEEN_BITS = "16-bit values of at most 16,383, so that it is dark"


class ReadImage(NamedTuple):
    """An image, and what was seen in its file.

    Attributes:
        pixels: uint8 (S, S, 3).
        size: Width and height in the file, pixels.
        remarks: Some of the constants above.
        file_status: `status_of` the file before it was read. () of a file that has no name.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    remarks: tuple[str, ...]
    file_status: tuple[int, ...] = ()


def read_image(path: Path, size: int, resize: str) -> ReadImage:
    """Read an image file as a square of RGB pixels.

    The image is rotated by its EXIF orientation, put on white where it is transparent, converted to
    8-bit RGB (the upper 8 of 16 bits) and resized with Pillow's bilinear filter, which averages all
    pixels when it shrinks an image. Only the first frame of an animation is read.

    Args:
        path: Path of the file.
        size: Height and width S of the result, pixels.
        resize: "crop": the middle square of the image; "pad": the whole image with black bars;
            "stretch": the whole image, whatever its aspect ratio.

    Raises:
        Exception: The file cannot be used as an image. Pillow raises many types, such as
            struct.error and SyntaxError.
    """
    before = _status_of_readable(path)
    image = decode_image(path, size, resize)
    now = path.stat()
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise ValueError("it changed while it was read")
    return image._replace(file_status=status_of(before))


def decode_image(file: Path | BinaryIO, size: int, resize: str) -> ReadImage:
    """Decode an image as `read_image` does, from a file that may have no name.

    Args:
        file: Path of the file, or an open file.
        size: Height and width S of the result, pixels.
        resize: As for `read_image`.

    Raises:
        Exception: The file cannot be used as an image.
    """
    with _opened(file) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(
                f"{image.width}x{image.height} pixels, more than {MAX_PIXELS:,}; shrink it"
            )
        size_in_file, remarks = image.size, []
        if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
            remarks.append(LONG_SIDE)
        # `n_frames` would read all of a file, in a time that grows with the square of their number.
        if getattr(image, "is_animated", False) and image.format != "MPO":
            remarks.append(SEVERAL_FRAMES)
        scale = DRAFT_FACTOR * size / min(image.size)
        image.draft("RGB", (round(scale * image.width), round(scale * image.height)))
        has_16_bits = any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))
        image.load()
        orientation = _orientation(image)
        if image.mode.startswith("I;16"):
            rgb, remark = _from_16_bits(image)
            remarks += filter(None, [remark])
        else:
            if has_16_bits:
                remarks += filter(None, [_checked_16_bit_colours(image)])
            rgb = _as_rgb(image)
    if orientation in UPRIGHT:
        rgb = rgb.transpose(UPRIGHT[orientation])
    pixels = np.asarray(_as_square(rgb, size, resize))
    # The first row decides for most images, in a fraction of the time.
    if (pixels[0] == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all():
        remarks.append(ONE_COLOUR)
    return ReadImage(pixels, size_in_file, tuple(remarks))


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's messages about odd metadata, also those of other threads."""
    with warnings.catch_warnings():
        silence_pillow()
        yield


def silence_pillow() -> None:
    """Silence Pillow's messages and all warnings for good."""
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")


def _opened(file: Path | BinaryIO) -> Image.Image:
    """Open an image file. No pixel is read yet."""
    try:
        return Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels; shrink it") from None


def status_of(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return what changes if a file is changed, replaced or exchanged for another one.

    That is its size in bytes, its number in the file system, and the times at which its content
    and its metadata were changed, nanoseconds. A program can set all of them but the last one.
    """
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _status_of_readable(path: Path) -> os.stat_result:
    """Return the status of a file; raise ValueError if it should not be opened."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"the suffix is not one of {', '.join(sorted(SUFFIXES))}")
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for ever
        raise ValueError("it is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise ValueError(f"{status.st_size:,} bytes, more than {MAX_FILE_BYTES:,}")
    return status


def _orientation(image: Image.Image) -> object:
    """Return the EXIF orientation, or None if there is none that can be read.

    Pillow's `exif_transpose` also writes the other EXIF data anew, which fails for odd values.
    """
    try:
        return image.getexif().get(Base.Orientation)
    except Exception:  # damaged EXIF data; the pixels are good
        return None


def _from_16_bits(image: Image.Image) -> tuple[Image.Image, str]:
    """Return a grey image with 16 bits a pixel in RGB, and a remark or "".

    Cameras and microscopes often store 12-bit values in 16 bits. Their upper 8 bits are all black.
    """
    values = np.asarray(image)
    if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:  # a TIFF
        values = 2**16 - 1 - values  # Pillow inverts 8-bit values only
    is_12_bits = 0 < values.max() <= MAX_12_BITS
    upper = (values >> (4 if is_12_bits else 8)).astype(np.uint8)
    is_14_bits = MAX_12_BITS < values.max() <= MAX_14_BITS
    remark = TWELVE_BITS if is_12_bits else FOURTEEN_BITS if is_14_bits else ""
    if isinstance(transparent := image.info.get("transparency"), int):  # of a PNG
        if (values == transparent).all():
            raise ValueError(ALL_TRANSPARENT)
        upper[values == transparent] = 255
    return Image.fromarray(upper).convert("RGB"), remark


def _checked_16_bit_colours(image: Image.Image) -> str:
    """Return a remark on a colour image with 16-bit values, or "".

    Raises:
        ValueError: It is nearly black in the upper 8 bits, which are all that Pillow gives.
    """
    colours = [band for band in image.getbands() if band != "A"]
    highest = max(np.asarray(image.getchannel(band)).max() for band in colours)
    if 0 < highest <= MAX_12_BITS >> 8:
        raise ValueError("16-bit colours of at most 4,095, which look black; save it with 8 bits")
    return FOURTEEN_BITS if 0 < highest <= MAX_14_BITS >> 8 else ""


def _as_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB. Pillow's `convert` drops transparency."""
    if image.mode in ("I", "F"):  # `convert` clips them at 255
        raise ValueError(f"32 bits per value (mode {image.mode}); save it with 8")
    if not image.has_transparency_data:
        return image.convert("RGB")
    with_alpha = image.convert("RGBA")
    if with_alpha.getchannel("A").getextrema()[1] == 0:
        if (
            image.format == "BMP"
        ):  # the fourth byte of a pixel is often unused, and viewers ignore it
            return with_alpha.convert("RGB")
        raise ValueError(ALL_TRANSPARENT)
    white = Image.new("RGBA", with_alpha.size, "white")
    return Image.alpha_composite(white, with_alpha).convert("RGB")


def _as_square(image: Image.Image, size: int, resize: str) -> Image.Image:
    if image.size == (size, size):
        return image
    bilinear = Image.Resampling.BILINEAR
    if resize == "crop":
        return ImageOps.fit(image, (size, size), bilinear)
    if resize == "pad":
        # `ImageOps.pad` alone would resize a very long image to nothing, and return black.
        longest = max(image.size)
        whole = [max(round(side / longest * size), 1) for side in image.size]
        return ImageOps.pad(image.resize(whole, bilinear), (size, size), bilinear, color=PADDING)
    return image.resize((size, size), bilinear)
