"""The images of a TensorFlow Datasets split, prepared on the disk."""

from pathlib import Path

import numpy as np

from cifar_models.data.cache import PIXELS, locked_cache
from cifar_models.data.pixel_file import DiskSplit, PixelFile
from cifar_models.runtime.signals import obey_stop
from cifar_models.storage.atomic_files import write_atomic

VERSION = 1
LABELS = "labels.npy"  # written last: it marks that the pixels are complete
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
    identity = f"{VERSION}\0{builder.data_path}\0{split}\0{count}".encode()
    with locked_cache("tfds", identity) as cache:
        pixels = PixelFile(cache / PIXELS, shape)
        if not (labels := _complete_labels(cache, pixels, count)).size:
            labels = _write(builder, split, cache)
    return DiskSplit(pixels, np.arange(len(labels)), labels)


def _complete_labels(cache: Path, pixels: PixelFile, count: int) -> np.ndarray:
    """Return the labels, int64 (N,), or none if the files are not complete."""
    try:
        labels = np.load(cache / LABELS)
        is_complete = pixels.path.stat().st_size == count * pixels.image_bytes
    except (OSError, ValueError):
        return np.array([], np.int64)
    return labels if is_complete and labels.shape == (count,) else np.array([], np.int64)


def _write(builder, split: str, cache: Path) -> np.ndarray:
    import tensorflow_datasets as tfds

    (cache / LABELS).unlink(missing_ok=True)
    (cache / PIXELS).unlink(missing_ok=True)  # a process that is reading it keeps its open file
    labels = [np.array([], np.int64)]
    with (cache / PIXELS).open("wb") as file:
        for batch in tfds.as_numpy(builder.as_dataset(split=split, batch_size=BATCH)):
            obey_stop()
            file.write(np.ascontiguousarray(batch["image"]).data)
            labels.append(batch["label"].astype(np.int64))
    joined = np.concatenate(labels)
    write_atomic(cache, LABELS, lambda file: np.save(file, joined))
    return joined
