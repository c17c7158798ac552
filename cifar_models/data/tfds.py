"""Data sets of TensorFlow Datasets (TFDS)."""

import difflib
import logging
import socket
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from cifar_models.config.recipe import Recipe
from cifar_models.data.cache import is_kept_on_disk
from cifar_models.data.dataset import Dataset
from cifar_models.data.folder_layout import SPLITS
from cifar_models.data.load import DATA_SOURCES
from cifar_models.data.memory import refuse_data_that_does_not_fit
from cifar_models.data.prepared_tfds import prepared_tfds
from cifar_models.data.splits import ArraySplit, Split
from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.quiet_tensorflow import import_tensorflow
from cifar_models.runtime.signals import obey_stop

# Name → description in `list datasets`. Other image classification data sets work too.
KNOWN_DATASETS = {
    "cifar10": "60,000 colour photographs of 32x32 pixels, 10 classes (TFDS)",
    "cifar100": "60,000 colour photographs of 32x32 pixels, 100 classes (TFDS)",
    "svhn_cropped": "99,289 house numbers of 32x32 pixels, 10 classes (TFDS)",
    "fashion_mnist": "70,000 grey images of clothes of 28x28 pixels, 10 classes (TFDS)",
}


def load_tfds(recipe: Recipe, may_download: bool) -> Dataset:
    """Load an image classification data set of TensorFlow Datasets.

    Args:
        recipe: The recipe.
        may_download: Whether a data set that is not on this machine may be downloaded.

    Raises:
        RequestError: There is no such data set, or it lacks labels, the splits train and test, or
            images of one size.
        RunError: It is not on this machine, and cannot or may not be downloaded.
    """
    import_tensorflow()
    import tensorflow_datasets as tfds

    config = recipe.data
    name = config.dataset
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS warns about optional files
    _check_name(name, tfds.list_builders())
    builder = _make_builder(tfds, name, config.data_dir)
    if not builder.is_prepared():
        _download(builder, name, may_download)
    features, splits = builder.info.features, builder.info.splits
    if "image" not in features or "label" not in features or not {"train", "test"} <= set(splits):
        raise RequestError(
            f"dataset {name}: needs the features image and label, and the splits train and test; "
            "export it to folders and use folder:PATH"
        )
    if None in features["image"].shape or features["image"].np_dtype != np.uint8:
        raise RequestError(
            f"dataset {name}: its images differ in size or are not uint8; export them and use "
            "folder:PATH"
        )
    used = [part for part in SPLITS if part in splits]
    train, *others = (splits[part].num_examples for part in used)
    shape = features["image"].shape
    is_on_disk = is_kept_on_disk(config.storage, (train + sum(others)) * int(np.prod(shape)))
    if not is_on_disk:
        fix = "choose a smaller data set or set data.storage=disk"
        refuse_data_that_does_not_fit(config, train, sum(others), shape, fix)

    def read(split: str) -> Split:
        obey_stop()
        if is_on_disk:
            return prepared_tfds(builder, split)
        content = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
        return ArraySplit(content["image"], content["label"].astype(np.int64))

    read_splits = {part: read(part) for part in used}
    return Dataset(
        name,
        read_splits["train"],
        read_splits["test"],
        tuple(features["label"].names),
        read_splits.get("validation"),
    )


def _check_name(name: str, known: list[str]) -> None:
    if name.partition("/")[0] in known:
        return
    nearest = difflib.get_close_matches(name, [*DATA_SOURCES, *known], n=1)
    if Path(name).is_dir():
        nearest = [f"folder:{name}"]
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise RequestError(
        f"dataset {name!r}: neither digits, folder:PATH nor a TensorFlow Datasets name{hint}"
    )


def _make_builder(tfds, name: str, data_dir: str):
    """Return the builder that TFDS itself has under this name.

    `tfds.builder` would read the files of a prepared data set if they name a version or a
    configuration that TFDS does not know, and import the module that they name.
    """
    name, _, config = name.partition("/")
    builder_class = tfds.builder_cls(name)
    if config and config not in builder_class.builder_configs:
        configs = ", ".join(builder_class.builder_configs) or "none"
        raise RequestError(f"dataset {name}/{config}: no such configuration; it has {configs}")
    return builder_class(data_dir=data_dir or None, config=config or None)


def _download(builder, name: str, may_download: bool) -> None:
    if not may_download:
        raise RunError(
            f"dataset {name}: not in {builder.data_path}; give its folder with --data-dir"
        )
    try:
        _check_reachable({urlsplit(url).hostname for url in builder.url_infos})
        builder.download_and_prepare()
    except Exception as error:  # any error of TFDS, the network or the disk
        obey_stop()
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise RunError(
            f"dataset {name}: not in {builder.data_path} and cannot be downloaded ({reason}); "
            f"copy a prepared {name} folder into {Path(builder.data_path).parents[1]}, give the "
            "folder that holds one (--data-dir, or make DATA_DIR=), or train on the bundled digits "
            "(--dataset digits, or make DATASET=digits)"
        ) from None


def _check_reachable(hosts: Iterable[str | None]) -> None:
    """Raise OSError if a host has no address. TFDS itself would retry for many minutes."""
    if urllib.request.getproxies():
        return  # the proxy resolves the names
    for host in hosts:
        if host:
            try:
                socket.getaddrinfo(host, 443)
            except OSError as error:
                raise ConnectionError(f"no network: {host}: {error.strerror}") from None
