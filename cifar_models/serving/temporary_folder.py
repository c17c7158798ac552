"""The folder in which an export is written before it is renamed, and what a kill left of it."""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cifar_models.errors import RequestError
from cifar_models.storage.atomic_files import FolderInUse, WriteError, locked

MARK = ".export-in-progress"  # file that marks a folder as one of this module


@contextlib.contextmanager
def temporary_folder(out: Path) -> Iterator[Path]:
    """Make a folder beside a path until the block ends, and remove those of killed processes.

    Args:
        out: Path of an export, which does not exist.

    Raises:
        RequestError: Another process is exporting to this path.
        OSError, WriteError: The folder cannot be created.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    for folder in sorted(out.parent.iterdir()):
        if re.fullmatch(rf"\.{re.escape(out.name)}-[a-z0-9_]{{8}}", folder.name):
            _remove_abandoned(folder, out)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        with locked(folder):
            (folder / MARK).touch()  # after the lock: no other process may think it abandoned
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(folder: Path, out: Path) -> None:
    """Remove a marked folder whose process was killed; raise RequestError if it still runs."""
    if folder.is_symlink() or not (folder / MARK).is_file():
        return
    try:
        with locked(folder):
            shutil.rmtree(folder, ignore_errors=True)
    except FolderInUse:
        raise RequestError(
            f"{out}: another process is exporting to it; wait for it or stop it"
        ) from None
    except WriteError:
        pass  # its process has removed it meanwhile
