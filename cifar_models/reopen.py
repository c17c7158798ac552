"""A finished run, opened again: its recipe, its data and its network."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_models.data.datasets import Dataset, load_dataset_of_run
from cifar_models.errors import RequestError
from cifar_models.recipe import Recipe
from cifar_models.recipe_file import read_recipe
from cifar_models.run import configure_as_trained
from cifar_models.run_folder import RunFolder
from cifar_models.runtime import import_tensorflow

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    folder: RunFolder
    recipe: Recipe
    dataset: Dataset  # the run's own, or another of the same classes and image shape
    network: "keras.Model"


def reopen(path: Path, dataset_name: str | None = None, data_dir: str | None = None) -> FinishedRun:
    """Opens a run folder, loads data and network, and sets the process up as the run was.

    The network computes in the precision of its training, so that on the machine of the training
    it answers as it did then, to the last bit.

    Args:
        path: of a finished run.
        dataset_name: another data set than the run's own.
        data_dir: where TFDS keeps it.

    Raises:
        RequestError: no finished run, or data of other classes or another image shape.
        RunError: the data cannot be had.
    """
    folder = RunFolder.open(path)
    recipe = read_recipe(str(folder.recipe_path))
    data = dataclasses.replace(recipe.data, dataset=dataset_name or recipe.data.dataset)
    dataset, trained_on = load_dataset_of_run(data, data_dir), folder.read_dataset()
    for what, ours, theirs in (
        ("classes", list(dataset.class_names), trained_on["class_names"]),
        ("image shape", list(dataset.test.images.shape[1:]), trained_on["image_shape"]),
    ):
        if ours != theirs:
            raise RequestError(f"{path}: was trained on {what} {theirs}; {dataset.name} has {ours}")

    import_tensorflow()
    from cifar_models.models.restore import restore_network

    runtime = configure_as_trained(folder, recipe)
    network = restore_network(folder)
    network.jit_compile = runtime.xla
    return FinishedRun(folder, recipe, dataset, network)
