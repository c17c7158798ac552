"""A finished run, opened again: its recipe, its data and its network."""

import dataclasses
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import with_values
from cifar_models.data.dataset import Dataset
from cifar_models.data.load import load_dataset_of_run
from cifar_models.errors import RequestError
from cifar_models.runtime.device import Runtime, configure
from cifar_models.runtime.quiet_tensorflow import import_tensorflow
from cifar_models.storage.run_folder import RunFolder

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    folder: RunFolder
    recipe: Recipe
    dataset: Dataset  # the run's own, or another of the same classes and image shape
    network: "keras.Model"


def load_run(
    path: Path, dataset_name: str | None = None, data_dir: str | None = None
) -> FinishedRun:
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
    recipe = folder.read_recipe()
    data = dataclasses.replace(recipe.data, dataset=dataset_name or recipe.data.dataset)
    dataset, trained_on = load_dataset_of_run(data, data_dir), folder.read_dataset()
    for what, ours, theirs in (
        ("classes", list(dataset.class_names), trained_on["class_names"]),
        ("image shape", list(dataset.test.images.shape[1:]), trained_on["image_shape"]),
    ):
        if ours != theirs:
            raise RequestError(f"{path}: was trained on {what} {theirs}; {dataset.name} has {ours}")

    import_tensorflow()
    from cifar_models.run.load import restore_network

    runtime = configure_for_run(folder, recipe)
    network = restore_network(folder)
    network.jit_compile = runtime.xla
    return FinishedRun(folder, recipe, dataset, network)


def configure_for_run(folder: RunFolder, recipe: Recipe) -> Runtime:
    """Sets this process up as a run was, whose precision followed the device that it had."""
    precision = folder.read_environment().get("precision", "auto")
    try:
        return configure(with_values(recipe, {"runtime.precision": precision}).runtime)
    except RequestError as error:
        raise RequestError(f"{folder.path / 'environment.json'}: {error}") from None


def restore_network(folder: RunFolder) -> "keras.Model":
    """Builds the network that gives the run's answers, with its test views, and loads its weights.

    Nothing but numbers is taken from the model file, so it cannot bring code of its own. The
    layers get the dtype policy that is in force, not the one of training.

    Raises:
        RequestError: the model file is missing, damaged, or not that of the recipe.
    """
    import keras
    import numpy as np

    from cifar_models.models.catalog import build_network
    from cifar_models.models.test_time_augmentation import with_test_time_augmentation
    from cifar_models.storage.model_file import check_model_file

    recipe, dataset = folder.read_recipe(), folder.read_dataset()

    def build() -> "keras.Model":
        shape = tuple(dataset["image_shape"])
        return build_network(recipe.model, shape, len(dataset["class_names"]))

    path = folder.model_path

    def check() -> None:
        with keras.StatelessScope(initialize_variables=False):  # a drawing, which takes no memory
            check_model_file(path, build())

    # In a thread of its own: Keras would make up for the variables later in this one.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(check).result()
    network = build()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error says it too
            network.load_weights(path)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise RequestError(f"{path}: does not fit {folder.recipe_path}: {reason}") from None
    if not all(np.isfinite(weight).all() for weight in network.get_weights()):
        raise RequestError(f"{path}: holds a number that is not finite; train again")
    return with_test_time_augmentation(network, recipe.augmentation.tta_views)
