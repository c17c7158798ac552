"""Image folders with one subfolder for each class. Errors name the files that cannot be used."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cifar_models.config.recipe import DataConfig
from cifar_models.data.dataset import Dataset
from cifar_models.data.splits import ArraySplit, stratified_indices
from cifar_models.errors import RequestError
from cifar_models.runtime.signals import obey_stop

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"))
MAX_PIXELS = 50_000_000  # of one image; a larger one may be a decompression bomb
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
    folder = Path(config.dataset.removeprefix("folder:")).expanduser()
    return Dataset(config.dataset, *read_image_folder(folder, config.folder_image_size))


def read_image_folder(
    folder: Path, image_size: int
) -> tuple[ArraySplit, ArraySplit, tuple[str, ...]]:
    """Read PATH/train/CLASS/* and PATH/test/CLASS/*, or PATH/CLASS/* with a fifth held out.

    Every image is rotated by its EXIF orientation, put on white if it is transparent, converted to
    8-bit RGB (the upper 8 of 16 bits) and resized to a square, whatever its aspect ratio. Only the
    first frame of an animation is read.

    Args:
        folder: Path of the image folder.
        image_size: Height and width of the returned images, pixels.

    Returns:
        Train and test images, uint8 (N, image_size, image_size, 3), and the class names in
        alphabetical order.

    Raises:
        RequestError: The folder does not exist, a class has no images, or a file cannot be used as
            an image.
    """
    if not folder.is_dir():
        raise RequestError(f"folder:{folder}: no such folder; check the path")
    has_splits = (folder / "train").is_dir() and (folder / "test").is_dir()
    train_folder = folder / "train" if has_splits else folder
    names = tuple(path.name for path in _class_folders(train_folder))
    if not names:
        raise RequestError(f"{train_folder}: holds no class folders; put images in {folder}/CLASS/")
    images = _read_classes(train_folder, names, image_size)
    if has_splits:
        unknown = {path.name for path in _class_folders(folder / "test")} - set(names)
        if unknown:
            raise RequestError(
                f"{folder / 'test'}: class {', '.join(sorted(unknown))} is not in train; add it "
                "there or remove it here"
            )
        return images, _read_classes(folder / "test", names, image_size), names
    train, test = stratified_indices(images.labels, TEST_FRACTION, seed=0)
    return images.subset(train), images.subset(test), names


def _class_folders(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _read_classes(folder: Path, names: tuple[str, ...], image_size: int) -> ArraySplit:
    images, labels, unusable = [], [], []
    for label, name in enumerate(names):
        paths = sorted(p for p in (folder / name).glob("*") if not p.name.startswith("."))
        if not paths:
            raise RequestError(
                f"{folder / name}: class {name} has no images; add some or remove it"
            )
        if inside := [path for path in paths if path.is_dir()]:
            raise RequestError(
                f"{inside[0]}: is a folder in a class folder; put images in PATH/CLASS/*, or in "
                "PATH/train/CLASS/* and PATH/test/CLASS/*"
            )
        for path in paths:
            obey_stop()
            try:
                images.append(_read_image(path, image_size))
                labels.append(label)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                unusable.append(f"{path} ({error or type(error).__name__})")
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
    return ArraySplit(np.stack(images), np.array(labels, np.int64))


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
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
        upright = _as_rgb(ImageOps.exif_transpose(image))
    return np.asarray(upright.resize((image_size, image_size), Image.Resampling.BILINEAR))
