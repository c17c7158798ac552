"""A run folder becomes the network that it holds."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from cifar_models.errors import RequestError
from cifar_models.models.catalog import build_network
from cifar_models.models.model_file import check_model_file
from cifar_models.models.views import with_views
from cifar_models.recipe_file import read_recipe
from cifar_models.run_folder import RunFolder


def restore_network(folder: RunFolder) -> keras.Model:
    """Builds the network that gives the run's answers, with its test views, and loads its weights.

    Nothing but numbers is taken from the model file, so it cannot bring code of its own. The
    layers get the dtype policy that is in force, not the one of training.

    Raises:
        RequestError: the model file is missing, damaged, or not that of the recipe.
    """
    recipe, dataset = read_recipe(str(folder.recipe_path)), folder.read_dataset()

    def build() -> keras.Model:
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
    return with_views(network, recipe.augmentation.test_views)
