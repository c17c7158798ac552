"""Translation between a recipe's `search` table and KerasTuner."""

import keras_tuner

from cifar_models.config.recipe import Recipe, SearchChoices
from cifar_models.config.recipe_file import recipe_tables, with_values


def search_space(recipe: Recipe) -> keras_tuner.HyperParameters:
    """Return the search space that a recipe declares.

    A choice is declared by its index, because KerasTuner cannot choose between lists.

    Args:
        recipe: Recipe with a `search` table.
    """
    space = keras_tuner.HyperParameters()
    for key, entry in recipe.search.items():
        if isinstance(entry, SearchChoices):
            space.Choice(key, list(range(len(entry.choices))), ordered=False)
        elif _is_integer(key, recipe):
            space.Int(key, int(entry.low), int(entry.high), sampling=entry.scale)
        else:
            space.Float(key, float(entry.low), float(entry.high), sampling=entry.scale)
    return space


def suggest(hyperparameters: keras_tuner.HyperParameters, recipe: Recipe) -> Recipe:
    """Return the recipe with the proposed value of every searched key.

    Args:
        hyperparameters: Proposal of the tuner.
        recipe: Recipe with a `search` table.

    Raises:
        RequestError: The proposed values do not fit together.
    """
    values = {}
    for key, entry in recipe.search.items():
        value = hyperparameters.get(key)
        values[key] = entry.choices[value] if isinstance(entry, SearchChoices) else value
    return with_values(recipe, values)


def _is_integer(key: str, recipe: Recipe) -> bool:
    table, _, field = key.partition(".")
    return isinstance(recipe_tables(recipe)[table][field], int)
