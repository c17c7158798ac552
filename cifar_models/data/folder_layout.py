"""The files of an image folder: its classes and splits. No image is opened here."""

import errno
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cifar_models.data.file_paths import FilePaths
from cifar_models.errors import RequestError

SPLITS = ("train", "validation", "test")
ALL = "all"  # the one split of a folder that has none
# Name of a folder → its split. The order matters: train comes first.
SPLIT_OF = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}
# What file managers and archives leave behind, in lower case. Hidden files are left out too.
SYSTEM_NAMES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx"))


class ImageFiles(NamedTuple):
    """The files of one split.

    Attributes:
        paths: Their N paths.
        labels: Their labels, int64 (N,), 0 to K - 1.
    """

    paths: FilePaths
    labels: np.ndarray

    def subset(self, indices: np.ndarray) -> "ImageFiles":
        """Return the files at the indices, int64 (M,)."""
        return ImageFiles(self.paths.subset(indices), self.labels[indices])


class FolderLayout(NamedTuple):
    """The files of an image folder.

    Attributes:
        splits: "train", "validation" and "test" → files, for those that the folder has; or ALL →
            all files.
        class_names: Names of the K classes.
        ignored: Files and folders that belong to no class, and are not read.
        table_paths: Split → path of each file as a table has it. Empty: the folder has class
            folders, or a test split.
    """

    splits: dict[str, ImageFiles]
    class_names: tuple[str, ...]
    ignored: list[str]
    table_paths: dict[str, FilePaths] = {}  # noqa: RUF012  # it is not changed


def find_images(folder: Path, class_names: tuple[str, ...] | None = None) -> FolderLayout:
    """Find the files of PATH/CLASS/*, or of CLASS/* in PATH/train, PATH/val and PATH/test.

    The validation folder may also be called valid, validation or dev. Hidden files and those of
    SYSTEM_NAMES are left out.

    Args:
        folder: Path of the image folder.
        class_names: Names of the classes, of which each split may lack some. None: the names of the
            subfolders in alphabetical order, and each split has all of them.

    Raises:
        RequestError: The folder does not exist, cannot be listed or has no classes; or a split
            has an unknown class, or lacks images of one.
    """
    if not folder.is_dir():
        raise RequestError(f"folder:{folder}: no such folder; check the path")
    try:
        return _find_images(folder, class_names)
    except OSError as error:
        raise RequestError(
            f"{error.filename or folder}: cannot be read: {error.strerror}; change its permissions"
        ) from None


def _find_images(folder: Path, class_names: tuple[str, ...] | None) -> FolderLayout:
    split_folders = _split_folders(folder)
    folders = split_folders or {ALL: folder}
    first = next(iter(folders.values()))  # train, if there is a train folder
    names = class_names or _class_folders(first)
    if not names:
        raise RequestError(f"{first}: holds no class folders; put images in {folder}/CLASS/")
    used = {str(path) for path in split_folders.values()}
    ignored = [entry.path for entry in _entries(folder) if entry.path not in used] if used else []
    files = {}
    for split, of_split in folders.items():
        if unknown := set(_class_folders(of_split)) - set(names):
            known = (
                f"one of the trained classes, {', '.join(names)}" if class_names else f"in {first}"
            )
            raise RequestError(
                f"{of_split}: class {', '.join(sorted(unknown))} is not {known}; rename it, or "
                "remove it"
            )
        files[split] = _files_of_classes(of_split, names, may_lack=class_names is not None)
        ignored += [entry.path for entry in _entries(of_split) if not entry.is_dir()]
    return FolderLayout(files, names, ignored)


def _split_folders(folder: Path) -> dict[str, Path]:
    """Return "train", "validation" and "test" → folder, for those that the image folder has.

    A folder of this name that holds no folders is a class that happens to be called so.
    """
    present = {
        entry.name: folder / entry.name
        for entry in _entries(folder)
        if entry.is_dir() and entry.name in SPLIT_OF
    }
    splits: dict[str, Path] = {}
    for name, split in SPLIT_OF.items():
        if name not in present or not _class_folders(present[name]):
            continue
        if split in splits:
            raise RequestError(
                f"{folder}: holds the folders {splits[split].name} and {name}, and only one can be "
                "the validation split; remove or merge the others"
            )
        splits[split] = present[name]
    return splits


def _class_folders(folder: Path) -> tuple[str, ...]:
    return tuple(entry.name for entry in _entries(folder) if entry.is_dir())


def _entries(folder: Path) -> list[os.DirEntry]:
    """Return what is in a folder in the order of the names, without what a user cannot see."""
    by_effective_user = os.access in os.supports_effective_ids
    if not os.access(folder, os.X_OK, effective_ids=by_effective_user):  # only its names are known
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    with os.scandir(folder) as entries:
        visible = [
            entry
            for entry in entries
            if not entry.name.startswith(".") and entry.name.lower() not in SYSTEM_NAMES
        ]
    return sorted(visible, key=lambda entry: entry.name)


def _files_of_classes(folder: Path, names: tuple[str, ...], may_lack: bool) -> ImageFiles:
    """Return the files of a split.

    Args:
        folder: Its folder.
        names: Names of the K classes.
        may_lack: Whether a class may have no images.
    """
    paths, labels = [], []
    for label, name in enumerate(names):
        if not (folder / name).exists():
            if may_lack:
                continue
            raise RequestError(
                f"{folder}: lacks class {name}, which train has; add {folder / name} with images "
                "of it, or remove the class from train"
            )
        of_class = _entries(folder / name)
        if not of_class and not may_lack:
            raise RequestError(
                f"{folder / name}: class {name} has no images; add some or remove it"
            )
        if inside := [entry.path for entry in of_class if entry.is_dir()]:
            raise RequestError(
                f"{inside[0]}: is a folder in a class folder; put images in PATH/CLASS/*, or in "
                "PATH/train/CLASS/*, PATH/val/CLASS/* and PATH/test/CLASS/*"
            )
        paths += [entry.path for entry in of_class]
        labels += [label] * len(of_class)
    return ImageFiles(FilePaths.of(paths), np.array(labels, np.int64))
