"""Creating and opening run folders, which are refused if they hold anything unexpected."""

import os
import stat
from pathlib import Path

from cifar_models.errors import RequestError
from cifar_models.storage.atomic_files import LOCK, PARTIAL
from cifar_models.storage.run_folder import RunFolder
from cifar_models.storage.safe_open import entries_below

# By a run that is stopped before training begins. The fingerprints, which come last, begin it.
WRITTEN_BEFORE_TRAINING = (
    "recipe.toml",
    "environment.json",
    "dataset.json",
    "hashes.npz",
    "log.txt",
)


def create_run_folder(path: Path, recipe_toml: str = "") -> RunFolder:
    """Create a folder for a new run.

    Args:
        path: Path of the folder.
        recipe_toml: The resolved recipe, as for `refuse_if_taken`.

    Raises:
        RequestError: The folder holds files, or cannot be created.
    """
    refuse_if_taken(path, recipe_toml)
    folder = RunFolder(path)
    try:
        folder.make_subfolders()
    except OSError as error:
        raise RequestError(
            f"{path}: cannot be created: {error.strerror}; choose another --run"
        ) from None
    return folder


def refuse_if_taken(path: Path, recipe_toml: str = "") -> None:
    """Raise RequestError if a folder holds anything that a new run might overwrite.

    A run that was stopped before training began leaves a lock, partial files, and a few files that
    the same run writes again.

    Args:
        path: Path of the folder, which need not exist.
        recipe_toml: The resolved recipe of the new run. Empty: every recipe is another one.
    """
    folder = RunFolder(path)
    if folder.has_begun() and not folder.is_finished():
        raise RequestError(
            f"{path}: holds an unfinished run; resume it with: {folder.resume_command()}"
        )
    own = {path / LOCK}
    if recipe_toml and folder.holds_recipe(recipe_toml):
        own |= {path / name for name in WRITTEN_BEFORE_TRAINING}
    for entry, status in _entries(path):
        is_own = entry in own or entry.name.startswith(PARTIAL)
        if not stat.S_ISDIR(status.st_mode) and not (is_own and stat.S_ISREG(status.st_mode)):
            what = "another run" if folder.recipe_path.exists() else "other files"
            raise RequestError(f"{path}: holds {what}; choose another --run or remove it")


def open_finished_run(path: Path) -> RunFolder:
    """Open the folder of a finished run.

    Raises:
        RequestError: The path is not a run folder, the folder holds a link or cannot be listed, or
            the run is not finished.
    """
    folder = open_run(path)
    if not folder.is_finished():
        raise RequestError(
            f"{path}: the run is not finished (it has no metrics.json); resume it with: "
            f"{folder.resume_command()}"
        )
    return folder


def open_run(path: Path) -> RunFolder:
    """Open the folder of a run whose training has begun, finished or not.

    Raises:
        RequestError: The path is not such a folder, or the folder holds a link or cannot be listed.
    """
    folder = RunFolder(path)
    if not folder.recipe_path.is_file():
        raise RequestError(f"{path}: not a run folder (it has no recipe.toml)")
    if not folder.has_begun():
        raise RequestError(
            f"{path}: the run was stopped before training began; repeat the command that began it"
        )
    for entry, status in _entries(path):
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise RequestError(
                f"{entry}: is a link or a special file, as no run folder holds; remove it"
            )
    return folder


def _entries(path: Path) -> list[tuple[Path, os.stat_result]]:
    """Return everything in a folder, or nothing if it does not exist."""
    try:
        return list(entries_below(path)) if path.is_dir() else []
    except OSError as error:
        raise RequestError(
            f"{error.filename or path}: cannot be searched for links: {error.strerror}; make it "
            "readable"
        ) from None
