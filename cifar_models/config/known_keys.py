"""The keys of a recipe, and the errors about keys that do not exist."""

import dataclasses
import difflib
from collections.abc import Iterable

from cifar_models.config.architectures import ARCHITECTURES
from cifar_models.config.keys import shown_name
from cifar_models.config.recipe import TABLES
from cifar_models.config.renamed import REMOVED_KEYS, RENAMED_KEYS


def all_keys() -> list[str]:
    """Return "table.key" for every key of every architecture."""
    models = [("model", type(each.config)) for each in ARCHITECTURES.values()]
    names = [
        f"{table}.{field.name}"
        for table, cls in [*models, *TABLES.items()]
        for field in dataclasses.fields(cls)
    ]
    return ["model.architecture", *dict.fromkeys(names)]


def unknown_key_message(key: str, known: Iterable[str], where: str) -> str:
    """Return the error about a key that does not exist, with what may be meant."""
    if key in RENAMED_KEYS:
        return f"{where}: {key} is now called {RENAMED_KEYS[key]}"
    if key in REMOVED_KEYS:
        return f"{where}: {key} has been replaced by {REMOVED_KEYS[key]}"
    hint = did_you_mean(key, known) or "; see docs/recipes.md"
    return f"{where}: there is no {shown_name(key)}{hint}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" with the nearest known name, or "" if none is near."""
    nearest = difflib.get_close_matches(name[:100], list(known), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]}?" if nearest else ""
