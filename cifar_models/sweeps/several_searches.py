"""Searches of several recipes with equal budgets, which end in a comparison."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from cifar_models.comparison.compare_runs import compare
from cifar_models.config.recipe import Recipe
from cifar_models.errors import RequestError
from cifar_models.sweeps.confirmation import CONFIRMED
from cifar_models.sweeps.roles import role
from cifar_models.sweeps.tuning import SearchOptions, tune

logger = logging.getLogger("cifar_models")


def tune_several(
    recipes: Sequence[Recipe], max_trials: int, out: Path, options: SearchOptions
) -> Path:
    """Search several recipes with equal budgets, and compare their best recipes.

    Args:
        recipes: Recipes with a `search` table, of different names.
        max_trials: Number of trials of each.
        out: Folder of the searches, which are in folders with the names of the recipes.
        options: How each is run. The budget is shared equally.

    Returns:
        The path of the report that compares the confirmed runs.

    Raises:
        RequestError: Two recipes have one name, nothing is to be confirmed, or as `tune`.
        RunError, Interruption: As `tune`.
    """
    names = [recipe.name for recipe in recipes]
    if len(set(names)) < len(names):
        raise RequestError(f"recipes {', '.join(names)}: must have different names")
    if not options.confirm:
        raise RequestError("several recipes are compared by their confirmed runs; add --confirm 3")
    if role():
        raise RequestError("KerasTuner's chief searches one recipe; name one")
    seconds, flops = options.budget_seconds, options.budget_flops
    share = dataclasses.replace(
        options,
        budget_seconds=seconds and seconds / len(recipes),
        budget_flops=flops and flops / len(recipes),
    )
    for recipe in recipes:
        logger.info("search of %s", recipe.name)
        tune(recipe, max_trials, out / recipe.name, share)

    for line in compare(
        [out / name / CONFIRMED for name in names], out / "comparison"
    ).splitlines():
        logger.info("%s", line)
    return out / "comparison" / "report.html"
