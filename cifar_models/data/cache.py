"""The folder of files that can be made again from the data."""

import contextlib
import logging
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import platformdirs

from cifar_models.runtime.signals import obey_stop
from cifar_models.storage.atomic_files import FolderInUse, locked
from cifar_models.storage.disk_errors import disk_errors

logger = logging.getLogger("cifar_models")

PIXELS = "pixels.bin"
MAX_BYTES_IN_MEMORY = 256 * 10**6  # of the images of a data set, with data.storage = "auto"
WAIT_SECONDS = 0.2


def cache_folder() -> Path:
    """Return the folder of the cache: $XDG_CACHE_HOME/cifar_models on Linux."""
    return Path(platformdirs.user_cache_dir("cifar_models", appauthor=False))


def is_kept_on_disk(storage: str, num_bytes: int) -> bool:
    """Return whether the images of a data set are prepared on the disk.

    Args:
        storage: data.storage of the recipe.
        num_bytes: Size of the images of all splits.
    """
    return storage == "disk" or (storage == "auto" and num_bytes > MAX_BYTES_IN_MEMORY)


@contextlib.contextmanager
def locked_cache(kind: str, identity: bytes) -> Iterator[Path]:
    """Give the folder of one data set in the cache, locked until the block ends.

    If another process holds the lock, this one waits.

    Args:
        kind: Name of the folder above it.
        identity: What the content depends on.

    Raises:
        WriteError: The folder cannot be written.
    """
    folder = cache_folder() / kind / blake2b(identity, digest_size=12).hexdigest()
    with disk_errors(folder, "free some space, or set data.storage=memory"):
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            is_waiting = False
            while True:
                try:
                    stack.enter_context(locked(folder))
                    break
                except FolderInUse as in_use:
                    if not is_waiting:
                        logger.info("waiting for another process that prepares images: %s", in_use)
                    is_waiting = True
                    obey_stop()
                    time.sleep(WAIT_SECONDS)
            yield folder
