"""The encoding of predictions and hashes as .npz files, which may be untrusted when they are read.

NumPy allocates an array as the header of its file demands, before it reads a number. Therefore, the
headers are compared with the data set and with the size of the file first.
"""

import io
import zipfile

import numpy as np
from numpy.lib import format as npy

MAX_BYTES = 10**9  # of one file
MAX_NAME_BYTES = 4 * 1000  # of the name of one class, UTF-32
MAX_OVERHEAD_BYTES = 10_000  # of the headers


def encode_predictions(
    labels: np.ndarray, probabilities: np.ndarray, class_names: tuple[str, ...]
) -> bytes:
    """Return an .npz file that holds labels (N,), probabilities (N, K) and class names (K,)."""
    content = io.BytesIO()
    arrays = {"labels": labels, "probabilities": probabilities, "class_names": class_names}
    np.savez(content, allow_pickle=False, **{name: np.array(each) for name, each in arrays.items()})
    return content.getvalue()


def max_predictions_bytes(num_images: int, num_classes: int) -> int:
    """Return the size above which a file cannot hold the predictions of a data set.

    Args:
        num_images: Number of images in the largest split that may have been predicted.
        num_classes: Number of classes.
    """
    numbers = 8 * num_images * (1 + num_classes)  # int64 and float64, or smaller
    return min(numbers + num_classes * MAX_NAME_BYTES + MAX_OVERHEAD_BYTES, MAX_BYTES)


def decode_predictions(
    content: bytes, num_images: set[int], num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (N,) and probabilities (N, K) of an .npz file.

    Args:
        content: Content of the file.
        num_images: Possible values of N: the sizes of the splits that may have been predicted.
        num_classes: Number of classes, K.

    Raises:
        ValueError: The file is damaged, or holds arrays of another type or shape, probabilities
            that are not finite, or labels outside 0 to K - 1.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            labels = _read_array(archive, "labels", "iu")
            probabilities = _read_array(archive, "probabilities", "f")
    except Exception as error:  # zipfile and NumPy raise many, such as tokenize.TokenError
        raise ValueError(str(error).strip("'\"") or type(error).__name__) from None
    shapes = labels.shape, probabilities.shape
    if len(labels) not in num_images or shapes != ((len(labels),), (len(labels), num_classes)):
        sizes = " or ".join(str(number) for number in sorted(num_images))
        raise ValueError(
            f"holds labels {shapes[0]} and probabilities {shapes[1]} for {sizes} images and "
            f"{num_classes} classes"
        )
    not_finite = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(not_finite):
        raise ValueError(f"row {not_finite[0]} holds a probability that is not finite")
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(outside):
        row = outside[0]
        raise ValueError(f"row {row} has label {labels[row]}, outside the {num_classes} classes")
    return labels, probabilities


def encode_hashes(hashes: np.ndarray) -> bytes:
    """Return an .npz file that holds a hash of each training image, uint64 (N,)."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, train=hashes)
    return content.getvalue()


def max_hashes_bytes(num_images: int) -> int:
    """Return the size above which a file cannot hold a hash of each of N images."""
    return min(8 * num_images + MAX_OVERHEAD_BYTES, MAX_BYTES)


def decode_hashes(content: bytes, num_images: int) -> np.ndarray:
    """Return the hashes of N training images, uint64 (N,), of an .npz file.

    Raises:
        ValueError: The file is damaged, or holds another array.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            hashes = _read_array(archive, "train", "u")
    except Exception as error:  # as above
        raise ValueError(str(error).strip("'\"") or type(error).__name__) from None
    if hashes.shape != (num_images,) or hashes.dtype != np.uint64:
        raise ValueError(f"holds {hashes.dtype} {hashes.shape} for {num_images} images")
    return hashes


def _read_array(archive: zipfile.ZipFile, name: str, kinds: str) -> np.ndarray:
    """Return an array of an .npz file, whose dtype is of one of NumPy's `kinds`."""
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    with archive.open(member) as file:
        if npy.read_magic(file) != (1, 0):
            raise ValueError(f"{name} has an unknown format")
        shape, is_fortran, dtype = npy.read_array_header_1_0(file)
        numbers = file.read()
    if dtype.kind not in kinds or not shape:
        raise ValueError(f"{name} is {dtype} {shape}")
    order: str = "F" if is_fortran else "C"
    return np.frombuffer(numbers, dtype).reshape(shape, order=order)  # type: ignore[call-overload]
