"""A run folder becomes the network that it holds."""

import keras

from cifar_models.models.catalog import build_network
from cifar_models.models.model_file import check_model_file
from cifar_models.recipe_file import read_recipe
from cifar_models.run_folder import RunFolder


def restore_network(folder: RunFolder) -> keras.Model:
    """Builds the network that the run's recipe describes and loads its weights.

    Nothing but numbers is taken from the model file, so it cannot bring code of its own. The
    layers get the dtype policy that is in force, not the one of training.
    """
    recipe = read_recipe(str(folder.recipe_path))
    dataset = folder.read_dataset()
    network = build_network(
        recipe.model, tuple(dataset["image_shape"]), len(dataset["class_names"])
    )
    check_model_file(folder.model_path, network)
    network.load_weights(folder.model_path)
    return network
