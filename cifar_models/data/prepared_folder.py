"""The prepared images of a folder: read once, resized and kept in the user's cache folder."""

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL

from cifar_models.data.cache import PIXELS, locked_cache
from cifar_models.data.dataset import Findings
from cifar_models.data.file_paths import FilePaths
from cifar_models.data.folder_layout import ImageFiles
from cifar_models.data.image_file import ReadImage
from cifar_models.data.pixel_file import DiskSplit, PixelFile
from cifar_models.data.prepared_entry import Entry, KnownFiles, is_unchanged, signed
from cifar_models.data.read_images import read_all
from cifar_models.errors import RunError
from cifar_models.runtime.signals import obey_stop

VERSION = 3  # of the files, and of what `read_image` returns
INDEX = "index.sqlite"
FILES_PER_BLOCK = 256  # that are added to the index at once
WRITE_BYTES = 2**20  # at once

TABLE = """
CREATE TABLE IF NOT EXISTS images (
    path BLOB PRIMARY KEY, bytes INTEGER, inode INTEGER, modified INTEGER, changed INTEGER,
    number INTEGER, checksum INTEGER, width INTEGER, height INTEGER, remarks TEXT
)
"""


@contextlib.contextmanager
def prepared_folder(
    folder: Path, size: int, resize: str, num_files: int
) -> Iterator["PreparedFolder"]:
    """Open the prepared images of a folder, and hold their lock until the block ends.

    The splits that it gives can be read afterwards too.

    Args:
        folder: Path of the image folder.
        size: Height and width of the images, pixels.
        resize: As for `read_image`.
        num_files: Number of image files that it has now.

    Raises:
        WriteError, RunError: The cache cannot be written.
    """
    identity = f"{VERSION}\0{PIL.__version__}\0{size}\0{resize}\0".encode()
    identity += os.fsencode(folder.absolute())
    with locked_cache("folders", identity) as cache:
        try:
            try:
                prepared = PreparedFolder(cache, size, resize, num_files)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # it is damaged, such as by a power cut
                _remove_files(cache)
                prepared = PreparedFolder(cache, size, resize, num_files)
            with contextlib.closing(prepared.index):
                yield prepared
        except sqlite3.OperationalError as error:  # such as a disk that fails or is full
            raise RunError(
                f"{cache / INDEX}: {error}; free some space, or set data.storage=memory"
            ) from None


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
        num_files: As for `prepared_folder`.
    """

    def __init__(self, cache: Path, size: int, resize: str, num_files: int):
        self.pixels = PixelFile(cache / PIXELS, (size, size, 3))
        self.size, self.resize = size, resize
        self.index = sqlite3.connect(cache / INDEX, isolation_level=None)
        self.index.execute("PRAGMA synchronous = OFF")  # checksums find what a power cut loses
        if self.index.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("damaged")
        self.index.execute(TABLE)
        self.pixels.path.touch()
        self.count = self.pixels.path.stat().st_size // self.pixels.image_bytes
        # A power cut may lose the end of the pixels, but not the entries of these images.
        self.index.execute("DELETE FROM images WHERE number >= ?", (self.count,))
        if self._num_entries() > 2 * num_files + FILES_PER_BLOCK:
            self._forget_removed_files()
        if self.count > 2 * self._num_entries() + FILES_PER_BLOCK:
            self._compact()

    def _num_entries(self) -> int:
        (count,) = self.index.execute("SELECT COUNT(*) FROM images").fetchone()
        return count

    def _forget_removed_files(self) -> None:
        """Remove the entries of files that are no longer there."""
        paths = [path for (path,) in self.index.execute("SELECT path FROM images")]
        gone = [(path,) for path in paths if not os.path.lexists(path)]
        self.index.execute("BEGIN")
        self.index.executemany("DELETE FROM images WHERE path = ?", gone)
        self.index.execute("COMMIT")

    def _compact(self) -> None:
        """Write a new file of pixels without the images of files that have changed since.

        A process that is reading the old file keeps it open. If this one is killed in between, the
        checksums do not fit, and the files are read again.
        """
        rows = self.index.execute("SELECT path, number FROM images ORDER BY number").fetchall()
        new = self.pixels.path.with_suffix(".new")
        with new.open("wb") as file:
            for first in range(0, len(rows), FILES_PER_BLOCK):
                obey_stop()
                numbers = [number for _, number in rows[first : first + FILES_PER_BLOCK]]
                file.write(self.pixels.read(np.array(numbers, np.int64)).data)
        new.replace(self.pixels.path)
        self.index.execute("BEGIN")
        self.index.executemany(
            "UPDATE images SET number = ? WHERE path = ?",
            [(number, path) for number, (path, _) in enumerate(rows)],
        )
        self.index.execute("COMMIT")
        self.pixels = PixelFile(self.pixels.path, self.pixels.image_shape)
        self.count = len(rows)

    def split(self, files: ImageFiles, findings: Findings) -> DiskSplit:
        """Return the prepared images of a split. Files that are new or have changed are read.

        Args:
            files: The N files.
            findings: What is found is added to it.
        """
        known = KnownFiles(len(files.paths))
        self._look_up(files.paths, known)
        for path, reason in self._prepare(files.paths, known):
            findings.unusable.append(f"{path}: {reason}".replace("\n", " "))
        usable = np.flatnonzero(known.numbers >= 0)
        findings.sizes.extend(known.sizes[usable].ravel().tolist())
        for index, remarks in sorted(known.remarks.items()):
            for remark in remarks.split("\n"):
                findings.remarks[remark].append(files.paths[index])
        self.pixels.open()  # while the cache is locked
        chosen = files.subset(usable)
        return DiskSplit(self.pixels, known.numbers[usable], chosen.labels, chosen.paths)

    def _look_up(self, paths: FilePaths, known: KnownFiles) -> None:
        """Find the files that have not changed and whose prepared image is good."""
        for first in range(0, len(paths), FILES_PER_BLOCK):
            obey_stop()
            entries = self._entries(paths[first : first + FILES_PER_BLOCK])
            images = self._images([entry.number for entry in entries if entry])
            for index, entry in enumerate(entries, first):
                if entry and entry.checksum == zlib.crc32(next(images, b"")):
                    known.add(index, entry)

    def _images(self, numbers: list[int]) -> Iterator[bytes]:
        """Yield the pixels of images, or nothing if the file of pixels is too short."""
        with contextlib.suppress(OSError):
            for image in self.pixels.read(np.array(numbers, np.int64)):
                yield image.tobytes()

    def _entries(self, paths: Sequence[str]) -> list[Entry | None]:
        """Return the entry of each file, or None if it is new or has changed since it was read."""
        columns, marks = ", ".join(Entry._fields), ", ".join("?" * len(paths))
        query = f"SELECT path, {columns} FROM images WHERE path IN ({marks})"
        names = [os.fsencode(path) for path in paths]
        found = {name: Entry(*row) for name, *row in self.index.execute(query, names)}
        return [
            entry if (entry := found.get(name)) and is_unchanged(path, entry) else None
            for path, name in zip(paths, names, strict=True)
        ]

    def _prepare(self, paths: FilePaths, known: KnownFiles) -> list[tuple[str, str]]:
        """Read the files that are not known, and add them to the prepared ones.

        Returns:
            Path and reason of each file that cannot be used.
        """
        problems: list[tuple[str, str]] = []
        rows: list[tuple] = []
        missing = known.missing()
        reading = read_all(paths.subset(missing), self.size, self.resize)
        with (
            contextlib.closing(reading) as results,
            self.pixels.path.open("r+b", buffering=WRITE_BYTES) as file,
        ):
            file.seek(self.count * self.pixels.image_bytes)
            for number, (index, (path, result)) in enumerate(zip(missing, results, strict=True), 1):
                if isinstance(result, str):
                    problems.append((path, result))
                else:
                    entry = self._store(file, result)
                    known.add(index, entry)
                    rows.append((os.fsencode(path), *entry))
                if number % FILES_PER_BLOCK == 0 or number == len(missing):
                    file.flush()
                    self._add(rows)
                    rows.clear()
        return problems

    def _store(self, file: BinaryIO, image: ReadImage) -> Entry:
        """Write the pixels of the next image, and return its entry."""
        pixels, number = image.pixels.tobytes(), self.count
        file.write(pixels)
        self.count += 1
        size, inode, modified, changed = signed(image.file_status)
        remarks = "\n".join(image.remarks)
        checksum = zlib.crc32(pixels)
        return Entry(size, inode, modified, changed, number, checksum, *image.size, remarks)

    def _add(self, rows: list[tuple]) -> None:
        self.index.execute("BEGIN")
        marks = ", ".join("?" * (1 + len(Entry._fields)))
        self.index.executemany(f"INSERT OR REPLACE INTO images VALUES ({marks})", rows)
        self.index.execute("COMMIT")
