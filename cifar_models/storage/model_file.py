"""The validation of an untrusted model file before Keras reads it.

Only numbers are read from a model file. However, crafted files have exploited Keras and HDF5
before: links opened other files, and a few compressed bytes filled the memory. Therefore, a file is
refused if it holds anything that the models of this tool do not have.
"""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras
import numpy as np

from cifar_models.errors import RequestError
from cifar_models.storage.safe_open import open_regular

MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
MAX_CONFIG_BYTES = 10_000_000
MAX_OVERHEAD_BYTES = 10_000_000  # of HDF5's own structures
MAX_DEPTH = 50  # of groups in groups; HDF5's own search ends in a stack overflow


def check_model_file(path: Path, network: keras.Model) -> None:
    """Raise RequestError unless a .keras file holds only the weights of a network.

    Args:
        path: Path of the file.
        network: Network that the recipe describes.

    Raises:
        RequestError: The file is missing or damaged, or has unknown or compressed members, classes
            that the network does not use, links, data outside the file, or arrays of other shapes
            than the weights.
    """
    try:
        with open_regular(path.parent, path.name) as file:
            max_bytes = sum(_max_member_bytes(network).values()) + MAX_OVERHEAD_BYTES
            # Before the table of contents is read, which may be as large as the file says.
            if (size := os.fstat(file.fileno()).st_size) > max_bytes:
                raise ValueError(f"it has {size} bytes, more than {max_bytes}")
            with zipfile.ZipFile(file) as archive:
                problem = next(_archive_problems(archive, network), None)
                weights = b"" if problem else archive.read("model.weights.h5")
        if not problem:
            with h5py.File(io.BytesIO(weights)) as hdf5:
                problem = next(_weights_problems(hdf5, network), None)
    except RequestError:
        raise
    except Exception as error:  # zipfile and h5py raise many, such as OverflowError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RequestError(f"{path}: damaged or no model file: {reason}") from None
    if problem:
        raise RequestError(f"{path}: {problem}; refused, because no model of this tool has that")


def _archive_problems(archive: zipfile.ZipFile, network: keras.Model) -> Iterator[str]:
    """Yield every problem of the zip archive and its configuration."""
    names = [member.filename for member in archive.infolist()]
    if unknown := set(names) - MEMBERS:
        yield f"holds {min(unknown)!r}"
    if len(names) != len(set(names)):
        yield "holds a member twice"
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            yield f"{member.filename} is compressed"
    max_bytes = _max_member_bytes(network)
    for member in archive.infolist():
        if member.file_size > max_bytes[member.filename]:
            yield f"{member.filename} has {member.file_size} bytes"
    known = set(_class_names(json.loads(network.to_json())))
    found = set(_class_names(json.loads(archive.read("config.json"))))
    if unknown := found - known - {"DTypePolicy"}:
        yield f"config.json names {min(unknown)!r}, which the recipe's network does not have"


def _max_member_bytes(network: keras.Model) -> dict[str, int]:
    """Return the size above which a member of the archive cannot belong to a network."""
    sizes = {name: MAX_CONFIG_BYTES for name in MEMBERS}
    sizes["model.weights.h5"] = 2 * network.count_params() * 4 + MAX_OVERHEAD_BYTES
    return sizes


def _class_names(config: object) -> Iterator[str]:
    """Yield the names of all classes and functions that a Keras configuration refers to."""
    if isinstance(config, dict):
        for key in ("class_name", "registered_name"):
            if isinstance(config.get(key), str):
                yield config[key]
        for value in config.values():
            yield from _class_names(value)
    elif isinstance(config, list):
        for value in config:
            yield from _class_names(value)


def _weights_problems(file: h5py.File, network: keras.Model) -> Iterator[str]:
    """Yield every problem of the HDF5 file that holds the weights."""
    stored = file.id.get_filesize()
    if stored < 4 * network.count_params():
        yield f"model.weights.h5 has {stored} bytes for {network.count_params()} parameters"
    shapes = {tuple(weight.shape) for weight in network.variables}
    for name, item in _items(file):
        if item is None:
            yield f"{name} is a link"
        elif isinstance(item, h5py.Group):
            if name.count("/") >= MAX_DEPTH:
                yield "its groups are nested too deeply"
        elif not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
            yield f"{name} keeps its numbers outside the file"
        elif item.dtype.kind not in "fiu" or item.shape not in shapes:
            yield f"{name} is {item.dtype} {item.shape}"
        elif item.chunks or item.id.get_storage_size() != np.prod(item.shape) * item.dtype.itemsize:
            yield f"{name} is compressed"


def _items(file: h5py.File) -> Iterator[tuple[str, h5py.HLObject | None]]:
    """Yield everything in a file with its name, each group once; None if it is a link."""
    groups, seen = [("", file)], set()
    while groups:
        path, group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                yield f"{path}{name}", None
                continue
            item = group[name]
            yield f"{path}{name}", item
            if (
                isinstance(item, h5py.Group)
                and (where := h5py.h5o.get_info(item.id).addr) not in seen
            ):
                seen.add(where)
                groups.append((f"{path}{name}/", item))
