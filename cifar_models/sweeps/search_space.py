"""A search space, and one point in it: HyperParameters → Recipe."""

import keras_tuner

from cifar_models.config.recipe import Recipe, SearchChoices
from cifar_models.config.recipe_file import recipe_tables, with_values


def search_space(recipe: Recipe) -> keras_tuner.HyperParameters:
    """Declares to KerasTuner what the recipe's `search` table allows.

    A choice is declared by its place in the list, since KerasTuner cannot choose among lists.
    """
    space = keras_tuner.HyperParameters()
    for key, entry in recipe.search.items():
        if isinstance(entry, SearchChoices):
            space.Choice(key, list(range(len(entry.choices))), ordered=False)
        elif _is_whole(key, recipe):
            space.Int(key, int(entry.low), int(entry.high), sampling=entry.scale)
        else:
            space.Float(key, float(entry.low), float(entry.high), sampling=entry.scale)
    return space


def suggest(hyperparameters: keras_tuner.HyperParameters, recipe: Recipe) -> Recipe:
    """Returns the recipe with every searched key set to what the tuner proposes.

    Raises:
        RequestError: the proposed values do not go together.
    """
    values = {}
    for key, entry in recipe.search.items():
        value = hyperparameters.get(key)
        values[key] = entry.choices[value] if isinstance(entry, SearchChoices) else value
    return with_values(recipe, values)


def _is_whole(key: str, recipe: Recipe) -> bool:
    table, _, field = key.partition(".")
    return isinstance(recipe_tables(recipe)[table][field], int)
