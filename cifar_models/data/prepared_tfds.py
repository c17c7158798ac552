"""The images of a TensorFlow Datasets split, prepared on the disk."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from cifar_models.data.cache import PIXELS, locked_cache
from cifar_models.data.pixel_file import DiskSplit, PixelFile
from cifar_models.runtime.signals import obey_stop
from cifar_models.storage.atomic_files import write_atomic

VERSION = 2
LABELS = "labels.npz"  # written last: it marks that the pixels are complete
BATCH = 1024


def prepared_tfds(builder, split: str) -> DiskSplit:
    """Return the images of a split. They are written when they are used for the first time.

    Args:
        builder: Builder of TFDS, whose data set is prepared.
        split: Name of the split.

    Raises:
        WriteError: The cache cannot be written.
    """
    count, shape = builder.info.splits[split].num_examples, builder.info.features["image"].shape
    source = [(path, Path(path).stat()) for path in builder.info.splits[split].filepaths]
    files = [f"{path}\0{status.st_size}\0{status.st_mtime_ns}" for path, status in source]
    identity = "\0".join([str(VERSION), split, str(count), *files]).encode()
    with locked_cache("tfds", identity) as cache:
        pixels = PixelFile(cache / PIXELS, shape)
        if not (labels := _complete_labels(cache, pixels, count)).size:
            labels = _write(builder, split, cache)
            pixels = PixelFile(cache / PIXELS, shape)  # the other one may have opened an older file
        pixels.open()  # while the cache is locked
    return DiskSplit(pixels, np.arange(len(labels)), labels)


def _complete_labels(cache: Path, pixels: PixelFile, count: int) -> np.ndarray:
    """Return the labels, int64 (N,), or none if the files are not complete."""
    none = np.array([], np.int64)
    try:
        with np.load(cache / LABELS) as file:
            labels, checksums = file["labels"], file["checksums"]
        starts = range(0, count, BATCH)
        if labels.shape != (count,) or checksums.shape != (len(starts),):
            return none
        for first, checksum in zip(starts, checksums, strict=True):
            obey_stop()
            images = pixels.read(np.arange(first, min(first + BATCH, count)))
            if zlib.crc32(images.data) != checksum:
                return none
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return none
    return labels


def _write(builder, split: str, cache: Path) -> np.ndarray:
    import tensorflow_datasets as tfds

    (cache / LABELS).unlink(missing_ok=True)
    (cache / PIXELS).unlink(missing_ok=True)  # a process that is reading it keeps its open file
    labels, checksums = [np.array([], np.int64)], []
    with (cache / PIXELS).open("wb") as file:
        for batch in tfds.as_numpy(builder.as_dataset(split=split, batch_size=BATCH)):
            obey_stop()
            images = np.ascontiguousarray(batch["image"])
            file.write(images.data)
            checksums.append(zlib.crc32(images.data))
            labels.append(batch["label"].astype(np.int64))
    joined = np.concatenate(labels)
    write_atomic(cache, LABELS, lambda file: np.savez(file, labels=joined, checksums=checksums))
    return joined
