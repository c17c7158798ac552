"""A folder as bytes, for machines that do not share a file system."""

import hashlib
import io
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cifar_models.errors import RunError


@dataclass(frozen=True)
class Parcel:
    """The files of a folder.

    Attributes:
        content: An uncompressed tar archive.
        sha256: Its hash.
    """

    content: bytes
    sha256: str


def pack(folder: Path) -> Parcel:
    """Return the files of a folder; none if it is not there."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            archive.add(path, path.name)
    content = buffer.getvalue()
    return Parcel(content, hashlib.sha256(content).hexdigest())


def unpack(parcel: Parcel, folder: Path) -> None:
    """Write the files of a parcel as a folder, and replace the folder if it exists.

    Args:
        parcel: The files.
        folder: Path of the folder. Its parent is there.

    Raises:
        RunError: The parcel was damaged on its way, or the files cannot be written. The folder is
            as it was.
    """
    if hashlib.sha256(parcel.content).hexdigest() != parcel.sha256:
        raise RunError(f"{folder}: arrived damaged from another machine")
    scratch = None
    try:
        # Two folders above, so that a search does not take it for a trial.
        scratch = Path(tempfile.mkdtemp(prefix=".arriving-", dir=folder.parent.parent))
        (scratch / "new").mkdir()
        with tarfile.open(fileobj=io.BytesIO(parcel.content)) as archive:
            archive.extractall(scratch / "new", filter="data")
        if folder.exists():
            folder.rename(scratch / "old")
        (scratch / "new").rename(folder)
    except (OSError, tarfile.TarError) as error:
        raise RunError(f"{folder}: cannot be written: {error}") from None
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
