"""Atomic writes, which tolerate a kill and a full disk, and the lock of a folder.

The folder may be untrusted: no link in it is followed, and JSON files are read with a limit on
their size.
"""

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from cifar_models.errors import RequestError, RunError
from cifar_models.storage.safe_open import (
    UPDATE,
    create_file,
    open_regular,
    opened_folder,
    read_bytes,
)

logger = logging.getLogger("cifar_models")

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
        RequestError: The lock file is a link, no regular file, or a file of somebody else.
        WriteError: The lock file cannot be created.
    """
    try:
        file = open_regular(folder, LOCK, UPDATE)
    except OSError as error:
        raise write_error(folder / LOCK, error.strerror or str(error)) from None
    with file:
        try:
            # The operating system releases the lock, even if the process is killed.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = file.read(100).decode(errors="replace").strip()
            raise FolderInUse(
                f"{folder}: process {process or 'unknown'} is using this folder; wait for it or "
                "stop it"
            ) from None
        except OSError as error:  # some network file systems lock no file
            reason = error.strerror or error
            logger.warning("%s: cannot be locked (%s); use it in one process only", folder, reason)
        if not re.fullmatch(rb"[0-9]{0,20}\s*", file.read(100)):
            raise RequestError(f"{folder / LOCK}: is no lock of this tool; remove it")
        with contextlib.suppress(OSError):  # on a full disk, only the process id is missing
            file.seek(0)
            file.truncate()
            file.write(f"{os.getpid()}\n".encode())
            file.flush()
        yield


def write_atomic(
    root: Path, name: str, write: Callable[[BinaryIO], object], size: int | None = None
) -> None:
    """Write a file under a temporary name, flush it to the disk and rename it.

    Of several processes that write in one folder, each waits for the others.

    Args:
        root: Path of a folder.
        name: Path of the file in the folder, with slashes. None of its folders may be a link. An
            older file stays until the new one is complete.
        write: Function that writes the content to the open file that it is given.
        size: Size of the content in bytes, for the error message. None if unknown.

    Raises:
        WriteError: The file cannot be written. The message gives the reason and the free space.
    """
    *subfolders, last = name.split("/")
    temporary = f"{PARTIAL}{last}"
    try:
        with opened_folder(root, subfolders) as folder:
            with contextlib.suppress(OSError):  # some network file systems lock no folder
                # Another process may be writing the same file under the same temporary name.
                fcntl.flock(folder, fcntl.LOCK_EX)
            try:
                with create_file(temporary, folder) as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, last, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)  # frees its space
                raise
            os.fsync(folder)  # otherwise a power failure may undo the renaming
    except OSError as error:
        raise write_error(root / name, error.strerror or str(error), size) from error


def write_bytes_atomic(root: Path, name: str, content: bytes) -> None:
    """Write bytes to a file as `write_atomic` does."""
    write_atomic(root, name, lambda file: file.write(content), len(content))


def read_json(root: Path, name: str) -> dict:
    """Read a JSON object from a file that may be untrusted.

    Args:
        root: Path of a folder.
        name: Path of the file in the folder, with slashes.

    Raises:
        RequestError: The file cannot be read, is larger than MAX_JSON_BYTES, or holds no object.
    """
    try:
        content = json.loads(read_bytes(root, name, MAX_JSON_BYTES))
        if not isinstance(content, dict):
            raise ValueError("must be a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{root / name}: cannot be read: {reason}") from None
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
