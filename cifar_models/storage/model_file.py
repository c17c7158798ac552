"""Looks into a model file before anything of it is used: it may come from a stranger.

Only numbers are taken from it. But Keras and HDF5 have been led astray by such files before (other
files opened through links, memory filled by a few bytes), so whatever a model of this tool does not
hold is refused, before Keras sees the file.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras
import numpy as np

from cifar_models.errors import RequestError

MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
MAX_CONFIG_BYTES = 10_000_000
MAX_OVERHEAD = 10_000_000  # of HDF5's own structures, in bytes


def check_model_file(path: Path, network: keras.Model) -> None:
    """Refuses a .keras file that holds anything but weights for this network.

    Args:
        path: of the file.
        network: as the recipe describes it.

    Raises:
        RequestError: no such file, a damaged one, or one with more in it than a model of this tool
            has: other members, compressed ones, layers that the recipe does not have, links,
            data kept outside the file, or arrays larger than the network.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            problem = next(_archive_problems(archive, network), None)
            weights = b"" if problem else archive.read("model.weights.h5")
        if not problem:
            with h5py.File(io.BytesIO(weights)) as file:
                problem = next(_weights_problems(file, network), None)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, RuntimeError, RecursionError) as e:
        raise RequestError(f"{path}: damaged or no model file: {str(e).splitlines()[0]}") from None
    if problem:
        raise RequestError(f"{path}: {problem}; refused, since no model of this tool has that")


def _archive_problems(archive: zipfile.ZipFile, network: keras.Model) -> Iterator[str]:
    names = [member.filename for member in archive.infolist()]
    if strange := set(names) - MEMBERS:
        yield f"holds {min(strange)!r}"
    if len(names) != len(set(names)):
        yield "holds a member twice"
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            yield f"{member.filename} is compressed"
    most = {name: MAX_CONFIG_BYTES for name in MEMBERS}
    most["model.weights.h5"] = 2 * network.count_params() * 4 + MAX_OVERHEAD
    for member in archive.infolist():
        if member.file_size > most[member.filename]:
            yield f"{member.filename} has {member.file_size} bytes"
    known = set(_class_names(json.loads(network.to_json())))
    found = set(_class_names(json.loads(archive.read("config.json"))))
    if strange := found - known - {"DTypePolicy"}:
        yield f"config.json names {min(strange)!r}, which the recipe's network does not have"


def _class_names(config: object) -> Iterator[str]:
    """Yields every class or function that a Keras configuration would have brought to life."""
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
    stored = file.id.get_filesize()
    if stored < 4 * network.count_params():
        yield f"model.weights.h5 has {stored} bytes for {network.count_params()} parameters"
    names: list[str] = []
    file.visit_links(names.append)  # follows none of them
    shapes = {tuple(weight.shape) for weight in network.variables}
    for name in names:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            yield f"{name} is a link"
            continue
        item = file[name]
        if isinstance(item, h5py.Group):
            continue
        if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
            yield f"{name} keeps its numbers outside the file"
        elif item.dtype.kind not in "fiu" or item.shape not in shapes:
            yield f"{name} is {item.dtype} {item.shape}"
        elif item.chunks or item.id.get_storage_size() != np.prod(item.shape) * item.dtype.itemsize:
            yield f"{name} is compressed"
