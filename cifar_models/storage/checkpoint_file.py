"""One file that holds the whole state of a run, with a checksum of its own.

The format is safetensors: names, shapes and numbers, nothing that could run.
"""

import hashlib
import json
from collections.abc import Mapping

import numpy as np

RECORD, CHECKSUM = "record", "sha256"  # the two arrays that are not the run's


class DamagedCheckpoint(Exception):
    """The file is not what was written."""


def encode_checkpoint(arrays: Mapping[str, np.ndarray], record: dict) -> bytes:
    """Packs named arrays and a JSON record; the same content gives the same bytes."""
    from safetensors.numpy import save

    text = json.dumps(record).encode()
    content = {RECORD: np.frombuffer(text, np.uint8)}
    content |= {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return save({**content, CHECKSUM: _checksum(content)})


def decode_checkpoint(content: bytes) -> tuple[dict[str, np.ndarray], dict]:
    """Unpacks what `encode_checkpoint` returned.

    Raises:
        DamagedCheckpoint: it is cut off, a bit of it differs, or it is something else.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
        checksum = arrays.pop(CHECKSUM)
        if not np.array_equal(checksum, _checksum(arrays)):
            raise DamagedCheckpoint("its checksum does not fit")
        record = json.loads(arrays.pop(RECORD).tobytes())
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DamagedCheckpoint(f"{type(error).__name__}: {error}".splitlines()[0]) from None
    return arrays, record


def _checksum(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """SHA-256 of every name, type, shape and number: uint8 (32,)."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return np.frombuffer(digest.digest(), np.uint8)
