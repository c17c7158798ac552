"""The image files that a user names: files, and what folders hold."""

import os
from collections.abc import Sequence
from pathlib import Path

from cifar_models.config.paths import user_path
from cifar_models.data.folder_layout import SYSTEM_NAMES
from cifar_models.data.image_file import SUFFIXES
from cifar_models.errors import RequestError


def find_image_files(inputs: Sequence[str | Path]) -> list[str]:
    """Return the paths of image files: each input that is a file, and what folders hold.

    Of a folder, the files with the suffix of an image are taken, in subfolders too, in the order of
    their names. Hidden files are left out. Links to folders are followed; a folder that is met
    twice is read once.

    Args:
        inputs: Paths of files and folders.

    Raises:
        RequestError: A path does not exist, a folder cannot be listed, or there is no image file.
    """
    paths: list[str] = []
    for each in inputs:
        path = user_path(str(each))
        if not path.exists():
            raise RequestError(f"{path}: no such file or folder; check the path")
        paths += _files_below(path) if path.is_dir() else [str(path)]
    if not paths:
        raise RequestError(f"{inputs[0]}: holds no image files ({', '.join(sorted(SUFFIXES))})")
    return paths


def _files_below(folder: Path) -> list[str]:
    def refuse(error: OSError) -> None:
        raise RequestError(
            f"{error.filename}: cannot be read: {error.strerror}; change its permissions"
        )

    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        status = os.stat(root)  # noqa: PTH116  # a string
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if _is_visible(name))
        found += [
            os.path.join(root, name)  # noqa: PTH118  # a Path for each of a million files is slow
            for name in sorted(names)
            if _is_visible(name) and name.lower().endswith(tuple(SUFFIXES))
        ]
    return found


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in SYSTEM_NAMES
