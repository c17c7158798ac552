"""Image folders with one subfolder for each class. Errors name the files that cannot be used."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from cifar_models.config.paths import FOLDER, user_path
from cifar_models.config.recipe import DataConfig
from cifar_models.data.dataset import Dataset
from cifar_models.data.memory import refuse_data_that_does_not_fit
from cifar_models.data.splits import ArraySplit, stratified_indices
from cifar_models.errors import RequestError
from cifar_models.runtime.signals import obey_stop

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"))
MAX_PIXELS = 50_000_000  # of one image; a larger one may be a decompression bomb
MAX_FILE_BYTES = 8 * MAX_PIXELS  # of one image; some decoders read the whole file first
MAX_FILES_NAMED = 5  # unusable files in one error message
TEST_FRACTION = 0.2  # of each class, if the folder has no test split


def load_image_folder(config: DataConfig, may_download: bool) -> Dataset:
    """Load folder:PATH with the recipe's image size.

    Args:
        config: The recipe's `data` table.
        may_download: Unused.

    Raises:
        RequestError: As `read_image_folder`.
    """
    folder = user_path(config.dataset.removeprefix(FOLDER))

    def refuse_if_too_large(train: int, test: int) -> None:
        size = config.folder_image_size
        refuse_data_that_does_not_fit(
            config,
            train,
            test,
            (size, size, 3),
            f"lower data.folder_image_size ({size}) or take fewer images",
        )

    train, test, names = read_image_folder(folder, config.folder_image_size, refuse_if_too_large)
    return Dataset(config.dataset, train, test, names)


def read_image_folder(
    folder: Path, image_size: int, check: Callable[[int, int], None] = lambda train, test: None
) -> tuple[ArraySplit, ArraySplit, tuple[str, ...]]:
    """Read PATH/train/CLASS/* and PATH/test/CLASS/*, or PATH/CLASS/* with a fifth held out.

    Every image is rotated by its EXIF orientation, put on white if it is transparent, converted to
    8-bit RGB (the upper 8 of 16 bits) and resized to a square, whatever its aspect ratio. Only the
    first frame of an animation is read.

    Args:
        folder: Path of the image folder.
        image_size: Height and width of the returned images, pixels.
        check: Called with the number of train and test images before the first one is read.

    Returns:
        Train and test images, uint8 (N, image_size, image_size, 3), and the class names in
        alphabetical order.

    Raises:
        RequestError: The folder does not exist or cannot be listed, a class has no images, or a
            file cannot be used as an image.
    """
    try:
        train, test, names = _find_files(folder)
    except OSError as error:
        raise RequestError(
            f"{error.filename or folder}: cannot be read: {error.strerror}; change its permissions"
        ) from None
    check(len(train.paths), len(test.paths))
    unusable: list[str] = []
    splits = [_read_images(files, image_size, unusable) for files in (train, test)]
    if unusable:
        more = (
            f" and {len(unusable) - MAX_FILES_NAMED} more"
            if len(unusable) > MAX_FILES_NAMED
            else ""
        )
        raise RequestError(
            f"unusable image files ({len(unusable)}); repair or remove them: "
            f"{'; '.join(unusable[:MAX_FILES_NAMED])}{more}".replace("\n", " ")
        )
    return splits[0], splits[1], names


class _Files(NamedTuple):
    """The files of one split, and their labels, int64 (N,)."""

    paths: list[Path]
    labels: np.ndarray

    def subset(self, indices: np.ndarray) -> "_Files":
        return _Files([self.paths[index] for index in indices], self.labels[indices])


def _find_files(folder: Path) -> tuple[_Files, _Files, tuple[str, ...]]:
    """Return the files of train and test, and the class names. No file is opened."""
    if not folder.is_dir():
        raise RequestError(f"folder:{folder}: no such folder; check the path")
    has_splits = (folder / "train").is_dir() and (folder / "test").is_dir()
    train_folder = folder / "train" if has_splits else folder
    names = tuple(path.name for path in _entries(train_folder) if path.is_dir())
    if not names:
        raise RequestError(f"{train_folder}: holds no class folders; put images in {folder}/CLASS/")
    files = _files_of_classes(train_folder, names)
    if not has_splits:
        train, test = stratified_indices(files.labels, TEST_FRACTION, seed=0)
        return files.subset(train), files.subset(test), names
    unknown = {path.name for path in _entries(folder / "test") if path.is_dir()} - set(names)
    if unknown:
        raise RequestError(
            f"{folder / 'test'}: class {', '.join(sorted(unknown))} is not in train; add it "
            "there or remove it here"
        )
    return files, _files_of_classes(folder / "test", names), names


def _entries(folder: Path) -> list[Path]:
    """Return what is in a folder, except hidden files. `glob` would hide that it is unreadable."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _files_of_classes(folder: Path, names: tuple[str, ...]) -> _Files:
    paths, labels = [], []
    for label, name in enumerate(names):
        of_class = _entries(folder / name) if (folder / name).exists() else []
        if not of_class:
            raise RequestError(
                f"{folder / name}: class {name} has no images; add some or remove it"
            )
        if inside := [path for path in of_class if path.is_dir()]:
            raise RequestError(
                f"{inside[0]}: is a folder in a class folder; put images in PATH/CLASS/*, or in "
                "PATH/train/CLASS/* and PATH/test/CLASS/*"
            )
        paths += of_class
        labels += [label] * len(of_class)
    return _Files(paths, np.array(labels, np.int64))


def _read_images(files: _Files, image_size: int, unusable: list[str]) -> ArraySplit:
    """Read the images of a split, and add a phrase to `unusable` for each that cannot be read."""
    images = np.empty((len(files.paths), image_size, image_size, 3), np.uint8)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # `unusable` names what cannot be read
    for number, path in enumerate(files.paths):
        obey_stop()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd metadata
                images[number] = _read_image(path, image_size)
        except Exception as error:  # Pillow raises many, such as struct.error
            obey_stop()
            unusable.append(f"{path} ({error or type(error).__name__})")
    return ArraySplit(images, files.labels)


def _as_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB. Pillow's `convert` clips 16 bits at 255 and drops transparency."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"32 bits per value (mode {image.mode}); save it with 8")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")
    return image.convert("RGB")


def _read_image(path: Path, image_size: int) -> np.ndarray:
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"the suffix is not one of {', '.join(sorted(SUFFIXES))}")
    if not path.is_file():  # opening a FIFO would wait for ever
        raise ValueError("it is not a regular file")
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise ValueError(f"{size:,} bytes, more than {MAX_FILE_BYTES:,}")
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
        upright = _as_rgb(ImageOps.exif_transpose(image))
    return np.asarray(upright.resize((image_size, image_size), Image.Resampling.BILINEAR))
