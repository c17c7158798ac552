"""Atomic writes, which tolerate a kill and a full disk, and the lock of a folder.

JSON files are read with a limit on their size, because a run folder may be untrusted.
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
PARTIAL = ".partial-"  # prefix of the temporary name under which a file is written
CANNOT_BE_WRITTEN = ": cannot be written: "  # in the message of every WriteError
MAX_JSON_BYTES = 10_000_000  # of one file


class WriteError(RunError):
    """Failure to write a file. An older file of the same name is unchanged.

    Args:
        message: One line for the user.
        names_way_on: Whether the message says what to do.
    """

    def __init__(self, message: str, names_way_on: bool = False):
        super().__init__(message)
        self.names_way_on = names_way_on


class FolderInUse(RequestError):
    """Failure to lock a folder, because another process holds its lock."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder until the block or the process ends.

    Args:
        folder: Path of the folder.

    Raises:
        FolderInUse: Another process holds the lock.
        WriteError: The lock file cannot be created.
    """
    try:
        file = (folder / LOCK).open("a+")
    except OSError as error:
        raise write_error(folder / LOCK, error.strerror or str(error)) from None
    with file:
        try:
            # The operating system releases the lock, even if the process is killed.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise FolderInUse(
                f"{folder}: process {file.read().strip() or 'unknown'} is using this folder; wait "
                "for it or stop it"
            ) from None
        with contextlib.suppress(OSError):  # on a full disk, only the process id is missing
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield


def write_atomic(path: Path, write: Callable[[Path], object], size: int | None = None) -> None:
    """Write a file under a temporary name, flush it to the disk and rename it.

    Args:
        path: Path of the file. An older file stays until the new one is complete.
        write: Function that writes the content to the path that it is given.
        size: Size of the content in bytes, for the error message. None if unknown.

    Raises:
        WriteError: The file cannot be written. The message gives the reason and the free space.
    """
    temporary = path.with_name(f"{PARTIAL}{path.name}")  # keeps the suffix, which Keras checks
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()  # frees its space
        raise write_error(path, error.strerror or str(error), size) from error


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Write bytes to a file as `write_atomic` does."""
    write_atomic(path, lambda temporary: temporary.write_bytes(content), len(content))


def read_json(path: Path) -> dict:
    """Read a JSON object from a file that may be untrusted.

    Args:
        path: Path of the file.

    Raises:
        RequestError: The file cannot be read, is larger than MAX_JSON_BYTES, or holds no object.
    """
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise ValueError(f"has {size} bytes, more than {MAX_JSON_BYTES}")
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("must be a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
    return content


def write_error(path: Path, reason: str, size: int | None = None) -> WriteError:
    """Return an error that names the file, the reason and the free space.

    Args:
        path: Path of the file that could not be written.
        reason: Reason as the operating system gives it.
        size: Size of the content in bytes. None if unknown.
    """
    from rich.filesize import decimal

    existing = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
    space = f"{decimal(shutil.disk_usage(existing).free)} free in {existing}"
    needed = f", {decimal(size)} needed" if size is not None else ""
    return WriteError(f"{path}{CANNOT_BE_WRITTEN}{reason} ({space}{needed})")


def _flush_folder(folder: Path) -> None:
    """Flush a folder to the disk, without which a rename may be lost."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
