"""Errors of a full or read-only disk in one line, with the way on."""

import contextlib
from collections.abc import Iterator
from errno import EACCES, EDQUOT, EMFILE, ENFILE, ENOSPC, EPERM, EROFS
from os import strerror
from pathlib import Path

from cifar_models.errors import RequestError, RunError
from cifar_models.storage.atomic_files import WriteError, write_error

WRITING = (ENOSPC, EDQUOT, EROFS)  # errors that no reading has
FORBIDDEN = (EACCES, EPERM, EROFS)
FIXES = {
    "make the folder writable": FORBIDDEN,
    "raise the limit of open files (ulimit -n)": (EMFILE, ENFILE),
}


@contextlib.contextmanager
def disk_errors(folder: Path | None, then: str) -> Iterator[None]:
    """Turn an error of the disk within the block into a WriteError that says how to go on.

    Args:
        folder: Folder in which the block writes. None: unknown, so only errors that name a file and
            can only come from writing are turned.
        then: What to do when the disk can be written again, such as "repeat the command".

    Raises:
        WriteError: A file cannot be written. The message gives path, reason, free space and way on.
    """
    try:
        yield
    except WriteError as error:
        raise with_way_on(error, then) from error
    except (RequestError, RunError):
        raise
    except Exception as error:
        reason, path = _reason(error, folder), getattr(error, "filename", None) or folder
        if reason is None or path is None:
            raise
        raise with_way_on(write_error(Path(path), reason), then) from error


def with_way_on(error: WriteError, then: str) -> WriteError:
    """Return the error with the way on, unless it names one already."""
    if error.names_way_on:
        return error
    fix = "free some space"
    for hint, numbers in FIXES.items():
        # The text is compared, because TensorFlow's errors have no errno.
        if any(strerror(number) in str(error) for number in numbers):
            fix = hint
    return WriteError(f"{error}; {fix}, then: {then}", names_way_on=True)


def _reason(error: Exception, folder: Path | None) -> str | None:
    """Return the operating system's words for an error of the disk; None for any other error."""
    if isinstance(error, OSError):
        path = Path(error.filename) if error.filename else None
        is_there = folder and path and (path.is_relative_to(folder) or folder.is_relative_to(path))
        numbers = (*WRITING, *FORBIDDEN) if is_there else WRITING
        return strerror(error.errno) if error.errno and error.errno in numbers else None
    numbers = (*WRITING, *FORBIDDEN)
    return next((strerror(n) for n in numbers if strerror(n) in str(error)), None)
