"""Image folders with one subfolder for each class, and tables of image files and labels."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cifar_models.config.paths import FOLDER, user_path
from cifar_models.config.recipe import Recipe
from cifar_models.data.cache import is_kept_on_disk
from cifar_models.data.dataset import Dataset, Findings
from cifar_models.data.folder_layout import (
    ALL,
    SPLITS,
    FolderLayout,
    ImageFiles,
    find_images,
)
from cifar_models.data.grey import as_grey
from cifar_models.data.held_out_files import refuse_small_classes, with_test_split
from cifar_models.data.label_table import read_label_table
from cifar_models.data.memory import refuse_data_that_does_not_fit
from cifar_models.data.prepared_folder import prepared_folder
from cifar_models.data.read_images import read_images
from cifar_models.data.splits import ArraySplit, Split, chunks
from cifar_models.errors import RequestError
from cifar_models.runtime.memory import refuse_if_too_large
from cifar_models.runtime.text import printable

logger = logging.getLogger("cifar_models")

MAX_FILES_NAMED = 5  # in one message


def load_image_folder(recipe: Recipe, may_download: bool) -> Dataset:
    """Load folder:PATH at the image size of the recipe's network.

    Args:
        recipe: The recipe.
        may_download: Unused.

    Raises:
        RequestError: As `find_images` or `read_label_table`; there are no training images; the
            images do not fit into the memory; or a file cannot be used as an image, unless
            data.bad_files is "skip".
    """
    folder = _folder_of(recipe)
    layout = _layout(folder)
    if ALL not in layout.splits and "train" not in layout.splits:
        raise RequestError(f"{folder}: has no train folder; put training images in {folder}/train")
    splits = with_test_split(layout)
    refuse_small_classes(splits, layout.class_names)
    return _read(layout, splits, recipe, recipe.model.image_size)


def load_labelled_folder(
    recipe: Recipe, class_names: tuple[str, ...], image_shape: tuple[int, int, int]
) -> Dataset:
    """Load folder:PATH for a network that is trained already. A split may lack classes.

    Args:
        recipe: A recipe with this data set.
        class_names: Names of the K classes of the network. The folder may lack some of them.
        image_shape: Shape (S, S, C) of the images that the network takes. With C = 1, colours
            become grey.

    Raises:
        RequestError: As `load_image_folder`, the folder has other classes, or the network takes
            images that are not square.
    """
    height, width, channels = image_shape
    if height != width:
        raise RequestError(
            f"{recipe.data.dataset}: the network takes images of {width}x{height} pixels, and "
            "images of a folder become squares; use the data set that it was trained on"
        )
    layout = _layout(_folder_of(recipe), class_names)
    dataset = _read(layout, with_test_split(layout), recipe, height, can_skip=False)
    if channels == 3:
        return dataset
    return replace(
        dataset,
        train=_as_grey(dataset.train),
        test=_as_grey(dataset.test),
        validation=dataset.validation and _as_grey(dataset.validation),
    )


def _as_grey(split: Split) -> Split:
    """Return a split with one channel, in memory."""
    height, width, _ = split.image_shape
    what = f"{len(split):,} grey images of {width}x{height} pixels"
    refuse_if_too_large(len(split) * height * width, what, "measure a smaller folder")
    images, first = np.empty((len(split), height, width, 1), np.uint8), 0
    for chunk in chunks(split):
        images[first : first + len(chunk)] = as_grey(chunk)
        first += len(chunk)
    return ArraySplit(images, split.labels, split.files)


def _layout(path: Path, class_names: tuple[str, ...] | None = None) -> FolderLayout:
    """Find the images of a folder, or of a table in its place."""
    if path.suffix.lower() == ".csv" and path.is_file():
        return read_label_table(path, class_names)
    return find_images(path, class_names)


def _folder_of(recipe: Recipe) -> Path:
    return user_path(recipe.data.dataset.removeprefix(FOLDER))


def _read(
    layout: FolderLayout,
    splits: dict[str, ImageFiles],
    recipe: Recipe,
    size: int,
    can_skip: bool = True,
) -> Dataset:
    """Read the images of a folder.

    Args:
        layout: Its layout.
        splits: The splits that `with_test_split` gives.
        recipe: A recipe with this data set.
        size: Height and width of the images, pixels.
        can_skip: Whether the user can set data.bad_files, for the error message.
    """
    config = recipe.data
    if layout.ignored:
        logger.warning("not read: %s", _shortened(layout.ignored))
    train, validation, test = (len(splits[name].paths) if name in splits else 0 for name in SPLITS)
    findings = Findings()
    read: dict[str, Split] = {}
    if is_kept_on_disk(config.storage, (train + validation + test) * size * size * 3):
        num_files = train + validation + test
        with prepared_folder(_folder_of(recipe), size, config.resize, num_files) as prepared:
            read = {name: prepared.split(files, findings) for name, files in splits.items()}
    else:
        refuse_data_that_does_not_fit(
            replace(config, validation_fraction=0.0) if validation else config,
            train,
            validation + test,
            (size, size, 3),
            f"lower model.image_size ({size}) or set data.storage=disk",
        )
        read = {
            name: read_images(files, size, config.resize, findings)
            for name, files in splits.items()
        }
    if findings.unusable and config.bad_files == "fail":
        raise RequestError(_unusable_in_words(findings.unusable, can_skip))
    if findings.unusable and can_skip:
        _refuse_lost_classes(read, layout.class_names, findings)
    _log(findings, len(layout.class_names), size, config.resize)
    return Dataset(
        config.dataset,
        read["train"],
        read["test"],
        layout.class_names,
        read.get("validation"),
        is_test_held_out="test" not in layout.splits,
        findings=findings,
    )


def _log(findings: Findings, num_classes: int, size: int, resize: str) -> None:
    """Say what was read and left out, and what is worth a look."""
    if findings.unusable:
        logger.warning(
            "%d unusable image files are left out: %s",
            len(findings.unusable),
            _shortened(findings.unusable, "; "),
        )
    sizes = np.array(findings.sizes).reshape(-1, 2)  # (N, 2)
    width, height = np.median(sizes, axis=0) if len(sizes) else (0, 0)
    logger.info(
        "%d images of %d classes; their median size of %dx%d pixels becomes %dx%d (%s)",
        len(sizes),
        num_classes,
        *(width, height, size, size),
        resize,
    )
    for remark, paths in findings.remarks.items():
        logger.warning("%d images have %s: %s", len(paths), remark, _shortened(paths))


def _refuse_lost_classes(
    splits: dict[str, Split], class_names: tuple[str, ...], findings: Findings
) -> None:
    """Raise RequestError if no file of a class in train or test can be used."""
    for name in ("train", "test"):
        counts = np.bincount(splits[name].labels, minlength=len(class_names))
        if len(lost := np.flatnonzero(counts == 0)):
            raise RequestError(
                f"no {name} image of class {class_names[lost[0]]} can be read; "
                f"{_unusable_in_words(findings.unusable, can_skip=False)}"
            )


def _unusable_in_words(unusable: list[str], can_skip: bool) -> str:
    """Return one line about the unusable files. If it cannot name all, it says where they are."""
    skip = ", or leave them out with --set data.bad_files=skip" if can_skip else ""
    more = ""
    if len(unusable) > MAX_FILES_NAMED:
        with tempfile.NamedTemporaryFile(
            "w", prefix="unusable-images-", suffix=".txt", delete=False, errors="surrogateescape"
        ) as file:
            file.writelines(f"{line}\n" for line in unusable)
        more = f"; the whole list is in {file.name}"
    return (
        f"unusable image files ({len(unusable)}); repair or remove them{skip}: "
        f"{_shortened(unusable, '; ')}{more}"
    )


def _shortened(items: Sequence[str], separator: str = ", ") -> str:
    """Return the first items in one line, with the number of the remaining ones."""
    more = f" and {len(items) - MAX_FILES_NAMED} more" if len(items) > MAX_FILES_NAMED else ""
    return printable(separator.join(items[:MAX_FILES_NAMED])) + more
