"""The prepared images of a folder: read once, resized and kept in the user's cache folder."""

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from cifar_models.data.cache import PIXELS, locked_cache
from cifar_models.data.dataset import Findings
from cifar_models.data.folder_layout import ImageFiles
from cifar_models.data.image_file import ReadImage
from cifar_models.data.pixel_file import DiskSplit, PixelFile
from cifar_models.data.read_images import read_all
from cifar_models.runtime.signals import obey_stop

VERSION = 1  # of the files, and of what `read_image` returns
INDEX = "index.sqlite"
FILES_PER_COMMIT = 256  # that are read again after a kill, at most

TABLE = """
CREATE TABLE IF NOT EXISTS images (
    path BLOB PRIMARY KEY, bytes INTEGER, modified INTEGER, number INTEGER, checksum INTEGER,
    width INTEGER, height INTEGER, remarks TEXT, problem TEXT
)
"""


class Entry(NamedTuple):
    """What the index of the cache knows of a file.

    Attributes:
        bytes: Size of the file.
        modified: Time of its last change, nanoseconds.
        number: Number of its image in the file of pixels. None: it cannot be used.
        checksum: CRC-32 of the pixels.
        width: Width of the image in its file, pixels.
        height: Height of the image in its file, pixels.
        remarks: What is worth a look, a line each.
        problem: Why the file cannot be used.
    """

    bytes: int
    modified: int
    number: int | None
    checksum: int = 0
    width: int = 0
    height: int = 0
    remarks: str = ""
    problem: str = ""


@contextlib.contextmanager
def prepared_folder(folder: Path, size: int, resize: str) -> Iterator["PreparedFolder"]:
    """Open the prepared images of a folder, and hold their lock until the block ends.

    The splits that it gives can be read afterwards too.

    Args:
        folder: Path of the image folder.
        size: Height and width of the images, pixels.
        resize: As for `read_image`.

    Raises:
        WriteError: The cache cannot be written.
    """
    identity = f"{VERSION}\0{size}\0{resize}\0".encode() + os.fsencode(folder.absolute())
    with locked_cache("folders", identity) as cache:
        try:
            prepared = PreparedFolder(cache, size, resize)
        except sqlite3.DatabaseError:  # damaged, such as by a power cut
            _remove_files(cache)
            prepared = PreparedFolder(cache, size, resize)
        with contextlib.closing(prepared.index):
            yield prepared


def _remove_files(cache: Path) -> None:
    """Remove the prepared images. A process that is reading them keeps its open file."""
    for name in (PIXELS, INDEX):
        (cache / name).unlink(missing_ok=True)


class PreparedFolder:
    """The prepared images of a folder at one size, in its cache folder.

    Args:
        cache: Path of the cache folder, which is locked.
        size: Height and width of the images, pixels.
        resize: As for `read_image`.
    """

    def __init__(self, cache: Path, size: int, resize: str):
        self.pixels = PixelFile(cache / PIXELS, (size, size, 3))
        self.size, self.resize = size, resize
        self.index = sqlite3.connect(cache / INDEX, isolation_level=None)
        self.index.execute("PRAGMA synchronous = OFF")  # checksums find what a power cut loses
        self.index.execute(TABLE)
        self.pixels.path.touch()
        self.count = self.pixels.path.stat().st_size // self.pixels.image_bytes

    def split(self, files: ImageFiles, findings: Findings) -> DiskSplit:
        """Return the prepared images of a split. Files that are new or have changed are read.

        Args:
            files: The N files.
            findings: What is found is added to it.
        """
        entries = self._known(files.paths)
        missing = [path for path, entry in zip(files.paths, entries, strict=True) if entry is None]
        if missing:
            self._prepare(missing)
            entries = self._known(files.paths)
        usable, numbers = [], []
        for index, (path, entry) in enumerate(zip(files.paths, entries, strict=True)):
            assert entry is not None
            if entry.number is None:
                findings.unusable.append(f"{path}: {entry.problem}")
                continue
            usable.append(index)
            numbers.append(entry.number)
            findings.sizes.extend((entry.width, entry.height))
            for remark in filter(None, entry.remarks.split("\n")):
                findings.remarks[remark].append(path)
        names = np.array([files.paths[index] for index in usable], object)
        return DiskSplit(self.pixels, np.array(numbers, np.int64), files.labels[usable], names)

    def _known(self, paths: Sequence[str]) -> list[Entry | None]:
        """Return the entry of each file, or None if it is new, has changed or is damaged here."""
        entries = [self._entry(path) for path in paths]
        numbers = [
            (index, entry.number)
            for index, entry in enumerate(entries)
            if entry and entry.number is not None
        ]
        for first in range(0, len(numbers), FILES_PER_COMMIT):
            obey_stop()
            block = numbers[first : first + FILES_PER_COMMIT]
            images = self._read_or_none(np.array([number for _, number in block]))
            for position, (index, _) in enumerate(block):
                entry = entries[index]
                assert entry is not None
                if images is None or entry.checksum != zlib.crc32(images[position].tobytes()):
                    entries[index] = None
        return entries

    def _read_or_none(self, numbers: np.ndarray) -> np.ndarray | None:
        try:
            return self.pixels.read(numbers)
        except OSError:  # the file was cut
            return None

    def _entry(self, path: str) -> Entry | None:
        columns = ", ".join(Entry._fields)
        query = f"SELECT {columns} FROM images WHERE path = ?"
        row = self.index.execute(query, (os.fsencode(path),)).fetchone()
        if row is None:
            return None
        entry, (size, modified) = Entry(*row), _status(path)
        return entry if (size, modified) == (entry.bytes, entry.modified) else None

    def _prepare(self, paths: Sequence[str]) -> None:
        """Read files, and add their images to the file of pixels and their entries to the index."""
        rows: list[tuple] = []
        with self.pixels.path.open("r+b") as file:
            for number, (path, result) in enumerate(read_all(paths, self.size, self.resize), 1):
                rows.append((os.fsencode(path), *self._store(file, path, result)))
                if len(rows) == FILES_PER_COMMIT or number == len(paths):
                    file.flush()
                    self._add(rows)
                    rows.clear()

    def _store(self, file: BinaryIO, path: str, result: ReadImage | str) -> Entry:
        if isinstance(result, str):
            return Entry(*_status(path), None, problem=result)
        file.seek(self.count * self.pixels.image_bytes)
        pixels = result.pixels.tobytes()
        file.write(pixels)
        self.count += 1
        return Entry(
            *_status(path),
            self.count - 1,
            zlib.crc32(pixels),
            *result.size,
            "\n".join(result.remarks),
        )

    def _add(self, rows: list[tuple]) -> None:
        self.index.execute("BEGIN")
        marks = ", ".join("?" * (1 + len(Entry._fields)))
        self.index.executemany(f"INSERT OR REPLACE INTO images VALUES ({marks})", rows)
        self.index.execute("COMMIT")


def _status(path: str) -> tuple[int, int]:
    """Return the size and the time of the last change of a file, or (-1, -1) if it is gone."""
    try:
        status = Path(path).stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
