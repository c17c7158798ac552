"""Hashes of the data of recipes."""

import dataclasses

from cifar_models.config.recipe import Recipe
from cifar_models.data.dataset import data_sha256
from cifar_models.data.load import load_dataset


class DataHashes:
    """Classes and hashes of the data of recipes. Data that several recipes have are read once."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, object]] = {}

    def of(self, recipe: Recipe) -> dict[str, object]:
        """Return the "class_names" and the "data_sha256" that a run of a recipe records.

        Raises:
            RequestError, RunError: As `load_dataset`.
        """
        # A run records the data set from which it takes its part.
        data = dataclasses.replace(recipe.data, train_fraction=1.0, validation_fraction=0.0)
        key = f"{data} {recipe.model.image_size}"
        if key not in self._found:
            dataset = load_dataset(recipe)
            self._found[key] = {
                "class_names": list(dataset.class_names),
                "data_sha256": data_sha256(dataset),
            }
        return self._found[key]
