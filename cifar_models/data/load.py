"""Data sources, and loading a data set by its name."""

import re
from dataclasses import dataclass
from pkgutil import resolve_name

from cifar_models.config.keys import shown
from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import with_values
from cifar_models.data.dataset import Dataset, check_classes
from cifar_models.errors import RequestError
from cifar_models.runtime.signals import obey_stop


@dataclass(frozen=True)
class DataSource:
    """An entry of DATA_SOURCES.

    Attributes:
        load: "module:function" of a function (Recipe, may_download) → Dataset, which is
            imported when it is used. If may_download is False, only local files may be read.
        description: One line for `list datasets`.
    """

    load: str
    description: str


# Name → source. A name that ends in a colon is a prefix, and the source reads what follows it. All
# other names are looked up in TensorFlow Datasets.
DATA_SOURCES = {
    "digits": DataSource(
        "cifar_models.data.digits:load_digits",
        "1,797 grey digits of 8x8 pixels, 10 classes (bundled with scikit-learn)",
    ),
    "folder:": DataSource(
        "cifar_models.data.image_folder:load_image_folder",
        "your own images: folder:PATH with PATH/CLASS/*, or PATH/train/CLASS/*, PATH/val/CLASS/* "
        "and PATH/test/CLASS/*; or folder:TABLE.csv with the columns path, label and split",
    ),
}
TENSORFLOW_DATASETS = DataSource("cifar_models.data.tfds:load_tfds", "TensorFlow Datasets")


def load_dataset(recipe: Recipe, may_download: bool = True) -> Dataset:
    """Load the data set of a recipe. TensorFlow Datasets downloads it when it is first used.

    Args:
        recipe: The recipe.
        may_download: Whether a data set that is not on this machine may be downloaded.

    Raises:
        RequestError: There is no such data set, it does not consist of labelled images, it has only
            one class, or a class has no images.
        RunError: It is not on this machine, and cannot or may not be downloaded.
    """
    recipe = recipe.with_absolute_paths()
    dataset = resolve_name(_source_of(recipe.data.dataset).load)(recipe, may_download)
    check_classes(dataset)
    obey_stop()
    return dataset


def load_dataset_of_run(
    recipe: Recipe, data_dir: str | None = None, name: str | None = None
) -> Dataset:
    """Load the data of a run.

    A run folder may be untrusted, so nothing is downloaded to a folder that only its recipe gives.

    Args:
        recipe: The recipe of the run.
        data_dir: Folder in which TensorFlow Datasets keeps its data. None: as in the recipe.
        name: Name of the data set. None: as in the recipe.

    Raises:
        RequestError, RunError: As `load_dataset`.
    """
    own = recipe.data.data_dir
    resolved = with_values(
        recipe, {"data.data_dir": data_dir or own, "data.dataset": name or recipe.data.dataset}
    )
    return load_dataset(resolved, may_download=bool(data_dir) or not own)


def _source_of(name: str) -> DataSource:
    prefix, colon, _ = name.partition(":")
    if source := DATA_SOURCES.get(prefix + colon):
        return source
    if not re.fullmatch(r"\w[\w./:*+-]{,199}", name):  # before seconds are spent on imports
        raise RequestError(
            f"dataset {shown(name)}: neither {', '.join(DATA_SOURCES)} nor a TensorFlow Datasets "
            "name; see python -m cifar_models list datasets"
        )
    return TENSORFLOW_DATASETS
