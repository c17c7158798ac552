"""Data sets of TensorFlow Datasets."""

import difflib
import logging
import socket
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from cifar_models.data.dataset import NAMED_DATASETS, Dataset
from cifar_models.data.splits import (
    Split,
)
from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.quiet_tensorflow import import_tensorflow


def _load_tfds(name: str, data_dir: str, may_download: bool) -> Dataset:
    import_tensorflow()
    import tensorflow_datasets as tfds

    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS warns of what is merely absent
    known = tfds.list_builders()
    if name.partition("/")[0] not in known:
        names = [*NAMED_DATASETS, *known]
        nearest = difflib.get_close_matches(name, names, n=1)
        if Path(name).is_dir():
            nearest = [f"folder:{name}"]
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise RequestError(
            f"dataset {name!r}: neither digits, folder:PATH nor a TensorFlow Datasets name{hint}"
        )
    builder = _tfds_builder(tfds, name, data_dir)
    if not builder.is_prepared():
        if not may_download:
            raise RunError(
                f"dataset {name}: not in {builder.data_path}; say with --data-dir where it is"
            )
        try:
            _check_reachable({urlsplit(url).hostname for url in builder.url_infos})
            builder.download_and_prepare()
        except Exception as error:  # any of TFDS', the network's or the disk's
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise RunError(
                f"dataset {name}: not in {builder.data_path} and not to be downloaded ({reason}). "
                f"Copy a prepared {name} folder into {Path(builder.data_path).parents[1]}, name "
                "the folder that holds one with DATA_DIR=, or train on the bundled DATASET=digits"
            ) from None
    features, splits = builder.info.features, builder.info.splits
    if "image" not in features or "label" not in features or not {"train", "test"} <= set(splits):
        raise RequestError(
            f"dataset {name}: not one image and one label each, in a train and a test split; "
            "export it to folders and use folder:PATH"
        )
    if None in features["image"].shape or features["image"].np_dtype != np.uint8:
        raise RequestError(
            f"dataset {name}: its images differ in size; export them and use folder:PATH"
        )

    def read(part: str) -> Split:
        content = tfds.as_numpy(builder.as_dataset(split=part, batch_size=-1))
        return Split(content["image"], content["label"].astype(np.int64))

    return Dataset(name, read("train"), read("test"), tuple(features["label"].names))


def _tfds_builder(tfds, name: str, data_dir: str):
    """Makes the builder that TFDS itself has under this name.

    `tfds.builder` would rather trust the files of a prepared data set, where they name a version or
    a configuration that it does not know, and import the module that they name.
    """
    name, _, config = name.partition("/")
    builder_class = tfds.builder_cls(name)
    if config and config not in builder_class.builder_configs:
        configs = ", ".join(builder_class.builder_configs) or "none"
        raise RequestError(f"dataset {name}/{config}: no such configuration; it has {configs}")
    return builder_class(data_dir=data_dir or None, config=config or None)


def _check_reachable(hosts: Iterable[str | None]) -> None:
    """Raises OSError where a host has no address: TFDS itself would retry for many minutes."""
    if urllib.request.getproxies():
        return  # the proxy knows the addresses
    for host in hosts:
        if host:
            try:
                socket.getaddrinfo(host, 443)
            except OSError as error:
                raise ConnectionError(f"no network: {host}: {error.strerror}") from None
