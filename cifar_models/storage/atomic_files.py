"""Files that appear whole or not at all, whatever happens to the process or to the disk.

And records that are read with suspicion: a stranger may have written them.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from cifar_models.errors import RequestError, RunError

LOCK = ".lock"
PARTIAL = ".partial-"  # begins the name under which a file is written
MAX_JSON_BYTES = 10_000_000


class WriteError(RunError):
    """A file could not be written; what was there before is as it was."""


class FolderInUse(RequestError):
    """Another process works in the folder."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out until the block ends, or the process does, however it ends.

    Raises:
        FolderInUse: another process has the lock.
        WriteError: the folder takes no file.
    """
    try:
        file = (folder / LOCK).open("a+")
    except OSError as error:
        raise write_error(folder / LOCK, error.strerror or str(error)) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it
        except OSError:
            file.seek(0)
            raise FolderInUse(
                f"{folder}: process {file.read().strip() or 'unknown'} is at work here; wait for "
                "it or stop it"
            ) from None
        with contextlib.suppress(OSError):  # on a full disk the number is missing, no more
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield


def write_atomic(path: Path, write: Callable[[Path], object], size: int | None = None) -> None:
    """Has a file written under another name, flushes it to the disk and renames it.

    Args:
        path: of the file; an older one stays until the new one is whole.
        write: writes to the path that it is given.
        size: of what will be written, in bytes, where it is known; for the error message.

    Raises:
        WriteError: names the path, what the system said, and the space.
    """
    temporary = path.with_name(f"{PARTIAL}{path.name}")  # the same suffix: Keras insists on it
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()  # makes room
        raise write_error(path, error.strerror or str(error), size) from error


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Writes bytes as `write_atomic` does."""
    write_atomic(path, lambda temporary: temporary.write_bytes(content), len(content))


def read_json(path: Path, *keys: str) -> dict:
    """Reads a table that somebody else may have written.

    Raises:
        RequestError: it cannot be read, is far too large, or lacks one of the keys.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError("far too large")
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or not set(keys) <= set(content):
            raise ValueError(f"must be a table {'with ' if keys else ''}{', '.join(keys)}")
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
    return content


def write_error(path: Path, reason: str, size: int | None = None) -> WriteError:
    """Says what could not be written and how much room there is."""
    from rich.filesize import decimal

    there = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
    space = f"{decimal(shutil.disk_usage(there).free)} free in {there}"
    needed = f", {decimal(size)} needed" if size is not None else ""
    return WriteError(f"{path}: cannot be written: {reason} ({space}{needed})")


def _flush_folder(folder: Path) -> None:
    """A rename is on the disk when the folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
