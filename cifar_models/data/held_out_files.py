"""The test split of an image folder that has none: files that are held out by their names."""

import hashlib
import os
import unicodedata
from collections.abc import Sequence

import numpy as np

from cifar_models.data.file_paths import FilePaths
from cifar_models.data.folder_layout import ALL, FolderLayout, ImageFiles
from cifar_models.errors import RequestError

MAX_CLASSES_NAMED = 5  # in one message
TEST_FRACTION = 0.2  # of each class, if the folder has no test split


def with_test_split(layout: FolderLayout) -> dict[str, ImageFiles]:
    """Return the files of train, test and, if the folder has it, validation.

    Without a test folder, the files of `held_out_by_name` are the test split.
    """
    none = ImageFiles(FilePaths.of([]), np.array([], np.int64))
    if ALL not in layout.splits and "test" in layout.splits:
        return {"train": none, **layout.splits}
    split = ALL if ALL in layout.splits else "train"
    whole = layout.splits.get(split, none)
    held_out = held_out_by_name(whole, layout.class_names, layout.table_paths.get(split))
    validation = {name: files for name, files in layout.splits.items() if name == "validation"}
    return validation | {
        "train": whole.subset(np.flatnonzero(~held_out)),
        "test": whole.subset(np.flatnonzero(held_out)),
    }


def refuse_small_classes(splits: dict[str, ImageFiles], class_names: tuple[str, ...]) -> None:
    """Raise RequestError if a class has no files in train or test, which `with_test_split` gave."""
    train, test = (
        np.bincount(splits[key].labels, minlength=len(class_names)) for key in ("train", "test")
    )
    small = np.flatnonzero((train == 0) | (test == 0))
    if not len(small):
        return
    named = [
        f"{class_names[label]} ({train[label]} training, {test[label]} test)"
        for label in small[:MAX_CLASSES_NAMED]
    ]
    more = f" and {len(small) - len(named)} more" if len(small) > len(named) else ""
    raise RequestError(
        f"classes lack training or test images: {', '.join(named)}{more}; each class needs both. "
        "Add images, remove the classes, or choose the test images yourself: put them in "
        "PATH/test, or give a table the column split"
    )


def held_out_by_name(
    files: ImageFiles, class_names: tuple[str, ...], in_table: Sequence[str] | None = None
) -> np.ndarray:
    """Choose about a fifth of the files of each class as the test split, by their names.

    Whether a file is held out depends on a hash of its class and its name, so that it stays where
    it is if other files are added or if the folder is moved. A class in which no hash is small
    enough holds out the file with the smallest one. When files are added, that file may go to
    train, but no file ever goes from train to test.

    Args:
        files: The N files.
        class_names: Names of the K classes.
        in_table: Path of each file as a table has it. None: the name of a file in its class folder
            is unique.

    Returns:
        Whether each file is held out, bool (N,). Of a class with few files, it may be all of them.
    """
    if in_table is None:
        names = (path.rpartition(os.sep)[2] for path in files.paths)
    else:
        names = (os.path.normpath(path) for path in in_table)
    ranks = np.array(
        [_rank(class_names[label], name) for name, label in zip(names, files.labels, strict=True)],
        np.float64,
    )
    held_out = ranks < TEST_FRACTION
    for label in np.setdiff1d(files.labels, files.labels[held_out]):
        of_class = np.flatnonzero(files.labels == label)
        held_out[of_class[ranks[of_class].argmin()]] = True
    return held_out


def _rank(class_name: str, file_name: str) -> float:
    """Return a number in [0, 1) that looks random, and depends on the names only."""
    # macOS stores an accent as a character of its own.
    name = unicodedata.normalize("NFC", f"{class_name}/{file_name}")
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
