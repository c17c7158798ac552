"""Translation between a recipe's `search` table and KerasTuner."""

import contextlib
from dataclasses import replace

import keras_tuner
import numpy as np

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import recipe_tables, with_values
from cifar_models.config.search import SearchChoices, SearchEntry


def search_space(recipe: Recipe) -> keras_tuner.HyperParameters:
    """Return the search space that a recipe declares.

    A choice is declared by its index, because KerasTuner cannot choose between lists.

    Args:
        recipe: Recipe with a `search` table.
    """
    space = keras_tuner.HyperParameters()
    # Keys on which others depend come first.
    for key, entry in sorted(recipe.search.items(), key=lambda item: bool(item[1].when)):
        with contextlib.ExitStack() as stack:
            for parent, values in entry.when.items():
                chosen = recipe.search[parent]
                assert isinstance(chosen, SearchChoices)
                indices = [chosen.choices.index(value) for value in values]
                stack.enter_context(space.conditional_scope(parent, indices))
            _declare(space, key, entry, recipe)
    return space


def _declare(
    space: keras_tuner.HyperParameters, key: str, entry: SearchEntry, recipe: Recipe
) -> None:
    if isinstance(entry, SearchChoices):
        space.Choice(key, list(range(len(entry.choices))), ordered=False)
    elif _is_integer(key, recipe):
        space.Int(key, int(entry.low), int(entry.high), sampling=entry.scale)
    else:
        space.Float(key, float(entry.low), float(entry.high), sampling=entry.scale)


def suggest(hyperparameters: keras_tuner.HyperParameters, recipe: Recipe) -> Recipe:
    """Return the recipe with the proposed value of every searched key whose condition holds.

    It has no `search` table.

    Args:
        hyperparameters: Proposal of the tuner.
        recipe: Recipe with a `search` table.

    Raises:
        RequestError: The proposed values do not fit together.
    """
    values = {}
    for key, entry in recipe.search.items():
        if not hyperparameters.is_active(key):
            continue
        value = hyperparameters.get(key)
        if isinstance(value, np.generic):  # as the Bayesian oracle gives it
            value = value.item()
        values[key] = entry.choices[value] if isinstance(entry, SearchChoices) else value
    return with_values(replace(recipe, search={}, oracle=""), values)


def values_in_words(trial: Recipe, recipe: Recipe) -> str:
    """Return the searched values of a trial, such as "model.l1 = 0.1, model.l2 = 0.01".

    Args:
        trial: Recipe of the trial.
        recipe: Recipe with a `search` table.
    """
    tables, values = recipe_tables(trial), []
    for key in recipe.search:
        table, _, field = key.partition(".")
        if tables[table].get(field) is not None:
            values.append(f"{key} = {tables[table][field]}")
    return ", ".join(values)


def _is_integer(key: str, recipe: Recipe) -> bool:
    table, _, field = key.partition(".")
    return isinstance(recipe_tables(recipe)[table][field], int)
