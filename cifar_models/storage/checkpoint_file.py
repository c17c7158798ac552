"""The encoding of a run's state as one safetensors file with a checksum.

The format holds names, shapes and numbers, and nothing that could be executed.
"""

import hashlib
import json
from collections.abc import Mapping

import numpy as np

RECORD, CHECKSUM = "record", "sha256"  # two arrays in the file besides those of the run


class DamagedCheckpoint(Exception):
    """A checkpoint that is truncated or altered, or a file that is no checkpoint."""


def encode_checkpoint(arrays: Mapping[str, np.ndarray], record: dict) -> bytes:
    """Encode arrays and a JSON record. The same content gives the same bytes.

    Args:
        arrays: Name → array, of any shape and dtype.
        record: Content that can be written as JSON.

    Returns:
        Content of the file.
    """
    from safetensors.numpy import save

    text = json.dumps(record).encode()
    content = {RECORD: np.frombuffer(text, np.uint8)}
    content |= {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return save({**content, CHECKSUM: _checksum(content)})


def decode_checkpoint(content: bytes) -> tuple[dict[str, np.ndarray], dict]:
    """Decode the content of a checkpoint, and verify its checksum.

    Args:
        content: Content of the file.

    Returns:
        The arrays by name, and the record.

    Raises:
        DamagedCheckpoint: The content is truncated, altered, or no checkpoint.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
        checksum = arrays.pop(CHECKSUM)
        if not np.array_equal(checksum, _checksum(arrays)):
            raise DamagedCheckpoint("the checksum does not match")
        record = json.loads(arrays.pop(RECORD).tobytes())
        if not isinstance(record, dict):
            raise DamagedCheckpoint("its record is not a JSON object")
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise DamagedCheckpoint(f"{type(error).__name__}: {error}".splitlines()[0]) from None
    return arrays, record


def _checksum(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the SHA-256 of all names, dtypes, shapes and numbers, uint8 (32,)."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return np.frombuffer(digest.digest(), np.uint8)
