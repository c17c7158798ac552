"""Opening the files of a folder that may be untrusted.

Below the folder, no link is followed: it may lead to any file of the user. Only regular files are
opened: reading a FIFO may never end, and a device may hold endless data.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from cifar_models.errors import RequestError

READ = os.O_RDONLY
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
UPDATE = os.O_RDWR | os.O_CREAT
MODES = {READ: "rb", APPEND: "ab", UPDATE: "rb+"}


@contextmanager
def opened_folder(root: Path, subfolders: Sequence[str] = ()) -> Iterator[int]:
    """Open a folder until the block ends, and give its descriptor.

    Args:
        root: Path of the outermost folder. It may be a link, because the user named it.
        subfolders: Names of the folders on the way from `root`, none of which may be a link.

    Raises:
        OSError: A folder does not exist, may not be listed, or is a link.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in subfolders:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            inner = os.open(name, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def open_regular(root: Path, name: str, flags: int = READ) -> BinaryIO:
    """Open a regular file of a folder.

    Args:
        root: Path of the folder.
        name: Path of the file in the folder, with slashes.
        flags: READ, APPEND or UPDATE. The last two create the file if it does not exist.

    Raises:
        OSError: The file cannot be opened.
        RequestError: The file is a link or no regular file; or it would be written and has a second
            name (hard link), which may be a file elsewhere.
    """
    *subfolders, last = name.split("/")
    with opened_folder(root, subfolders) as folder:
        try:
            # Without O_NONBLOCK, opening a FIFO would wait for its other end.
            descriptor = os.open(last, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise RequestError(f"{root / name}: is a link or a FIFO; remove it") from None
            raise
    status = os.fstat(descriptor)
    problem = None
    if not stat.S_ISREG(status.st_mode):
        problem = "is not a regular file; remove it"
    elif flags != READ and status.st_nlink > 1:
        problem = "is a hard link to a file elsewhere; replace it by a copy"
    if problem:
        os.close(descriptor)
        raise RequestError(f"{root / name}: {problem}")
    return cast(BinaryIO, os.fdopen(descriptor, MODES[flags]))


def create_file(name: str, folder: int) -> BinaryIO:
    """Create a file that did not exist. An older file of the same name is removed first.

    Args:
        name: Name of the file, without slashes.
        folder: Descriptor of its folder.
    """
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
    return os.fdopen(descriptor, "wb")


def read_bytes(root: Path, name: str, max_bytes: int) -> bytes:
    """Read a regular file of a folder.

    Args:
        root: Path of the folder.
        name: Path of the file in the folder, with slashes.
        max_bytes: Size above which the file is refused, bytes.

    Raises:
        OSError, RequestError: As `open_regular`.
        ValueError: The file is larger than `max_bytes`.
    """
    with open_regular(root, name) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ValueError(f"has {size} bytes, more than {max_bytes}")
        return file.read(max_bytes)


def entries_below(
    root: Path, skip_unreadable: bool = False
) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the path and the status of everything below a folder. Links are not followed.

    Args:
        root: Path of the folder.
        skip_unreadable: Whether to leave out what cannot be listed, such as a folder whose path is
            longer than the operating system allows.

    Raises:
        OSError: A folder cannot be listed.
    """
    folders = [root]  # not a recursion, which deeply nested folders would end
    while folders:
        try:
            with os.scandir(folders.pop()) as listing:
                found = [(Path(entry.path), entry.stat(follow_symlinks=False)) for entry in listing]
        except OSError:
            if not skip_unreadable:
                raise
            continue
        yield from found
        folders += [path for path, status in found if stat.S_ISDIR(status.st_mode)]


def find_files(root: Path, name: str) -> list[Path]:
    """Return the paths of the files of a name below a folder, in order; none if it is no folder."""
    below = (path for path, _ in entries_below(root, skip_unreadable=True))
    return sorted(path for path in below if path.name == name)
