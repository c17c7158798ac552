"""Recipes as TOML files: reading, overriding, checking and writing them."""

import dataclasses
import re
import typing
from collections.abc import Sequence
from pathlib import Path

from cifar_models.config import keys
from cifar_models.config.architectures import ARCHITECTURES
from cifar_models.config.known_keys import all_keys, did_you_mean, unknown_key_message
from cifar_models.config.paths import user_path
from cifar_models.config.recipe import TABLES, Recipe
from cifar_models.config.renamed import (
    RENAMED_ARCHITECTURES,
    with_current_names,
)
from cifar_models.config.search import (
    ORACLES,
    SearchChoices,
    SearchEntry,
    condition_problems,
    parse_search_entry,
)
from cifar_models.config.toml_file import parse_toml, parse_value, read_toml
from cifar_models.errors import RequestError

# The recipes of the project: inside an installed package, or beside the package in a checkout. On a
# machine of a cluster, which has the package alone, there are none.
_PLACES = [folder / "experiments" for folder in Path(__file__).resolve().parents[1:3]]
EXPERIMENTS = next((place for place in _PLACES if place.is_dir()), _PLACES[0])


def recipe_paths() -> dict[str, Path]:
    """Return the name and path of every recipe of the project."""
    return {path.stem: path for path in sorted(EXPERIMENTS.glob("*.toml"))}


def read_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by its name in `list recipes`, or by the path of a TOML file.

    Args:
        name_or_path: Name or path, such as `cnn` or `somewhere/my.toml`.
        overrides: Items `table.key=value`. Values are written as in TOML; quotes may be left out.

    Raises:
        RequestError: There is no such recipe, the file is not TOML, or it has an unknown key or a
            value that is not allowed.
    """
    known = recipe_paths()
    path = known.get(str(name_or_path)) or user_path(str(name_or_path))
    if not path.is_file():
        raise RequestError(
            f"recipe {keys.shown(str(name_or_path))}: neither a file nor one of "
            f"{', '.join(known)}{did_you_mean(str(name_or_path), known)}"
        )
    content = read_toml(path)
    for override in overrides:
        _apply_override(override, content)
    content.setdefault("name", path.stem)
    return build_recipe(content, str(path))


def parse_saved_recipe(toml: str, path: Path) -> Recipe:
    """Return the recipe of a run folder, which an earlier version may have written.

    Args:
        toml: Content of its file, possibly untrusted.
        path: Path of its file.

    Raises:
        RequestError: The file is not TOML, or has a key or value that no version knew.
    """
    content = with_current_names(parse_toml(toml, path))
    content.setdefault("name", path.stem)
    return build_recipe(content, str(path))


def build_recipe(content: dict, where: str) -> Recipe:
    """Return the recipe that nested tables describe, typed and checked.

    Args:
        content: Content of a TOML file.
        where: File of the tables, for error messages.

    Raises:
        RequestError: A table, a key or a value is wrong.
    """
    content = dict(content)
    name = content.pop("name", where)
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w .+-]{,99}", name):
        raise RequestError(
            f"{where}: name = {keys.shown(name)} must be letters, digits, spaces and . + - _, and "
            "at most 100 of them"
        )
    model_table = dict(_table(content, "model", where))
    architecture = _architecture(model_table.pop("architecture", "residual_cnn"), where)
    recipe = Recipe(
        name=name,
        architecture=architecture,
        model=_replace_values(ARCHITECTURES[architecture].config, model_table, "model", where),
        **{
            table: _replace_values(TABLES[table](), _table(content, table, where), table, where)
            for table in TABLES
        },
    )
    search = dict(_table(content, "search", where))
    oracle = search.pop("oracle", "")
    if oracle not in ("", *ORACLES):
        raise RequestError(
            f"{where}: search.oracle = {keys.shown(oracle)} must be one of {', '.join(ORACLES)}"
        )
    entries = {key: _search_entry(key, value, where) for key, value in search.items()}
    for key, problem in condition_problems(entries).items():
        raise RequestError(f'{where}: search."{key}": {problem}')
    recipe = dataclasses.replace(recipe, search=entries, oracle=oracle)
    for table in content:
        if table not in ("model", "search", *TABLES):
            raise RequestError(unknown_key_message(table, ("model", "search", *TABLES), where))
    _check_values(recipe, where)
    return recipe


def with_values(recipe: Recipe, values: dict[str, object]) -> Recipe:
    """Return the recipe with other values of some keys, checked like a file.

    Args:
        recipe: The recipe.
        values: "table.key" → new value.

    Raises:
        RequestError: There is no such key, or a value is not allowed.
    """
    content = recipe_tables(recipe)
    for key, value in values.items():
        _set_value(content, key, value, recipe.name)
    return build_recipe(content, recipe.name)


def recipe_tables(recipe: Recipe) -> dict:
    """Return the resolved recipe as the nested tables of its TOML file."""
    tables = {table: _toml_values(getattr(recipe, table)) for table in ("data", "model", *TABLES)}
    tables["model"] = {"architecture": recipe.architecture, **tables["model"]}
    tables["search"] = {"oracle": recipe.oracle} if recipe.oracle else {}
    for key, entry in recipe.search.items():
        values = _toml_values(entry)
        if not values["when"]:
            del values["when"]
        tables["search"][key] = values
    return {"name": recipe.name, **tables}


def recipe_toml(recipe: Recipe) -> str:
    """Return the resolved recipe as TOML, which `read_recipe` reads back unchanged."""
    import tomli_w

    return tomli_w.dumps(recipe_tables(recipe))


def _architecture(name: object, where: str) -> str:
    if isinstance(name, str) and name in ARCHITECTURES:
        return name
    if isinstance(name, str) and name in RENAMED_ARCHITECTURES:
        new = RENAMED_ARCHITECTURES[name]
        raise RequestError(f"{where}: model.architecture {name!r} is now called {new!r}")
    raise RequestError(
        f"{where}: model.architecture {keys.shown(name)} is not one of "
        f"{', '.join(ARCHITECTURES)}{did_you_mean(keys.shown(name), ARCHITECTURES)}"
    )


def _apply_override(override: str, content: dict) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise RequestError(f"--set {keys.shown_name(override)}: write it as table.key=value")
    _set_value(content, key.strip(), parse_value(text), "--set")


def _set_value(content: dict, key: str, value: object, where: str) -> None:
    table, dot, field = key.partition(".")
    if not dot or table not in ("model", *TABLES):
        raise RequestError(unknown_key_message(key, all_keys(), where))
    if not isinstance(content.setdefault(table, {}), dict):
        raise RequestError(f"{where}: {table} must be a table")
    content[table] = {**content[table], field: value}


def _table(content: dict, name: str, where: str) -> dict:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise RequestError(f"{where}: {name} must be a table, [{name}]")
    return table


def _replace_values(default, table: dict, prefix: str, where: str):
    """Return a table with some of its defaults replaced by checked values of a TOML table."""
    types_of = typing.get_type_hints(type(default))
    values = {}
    for key, value in table.items():
        if key not in types_of:
            names = [f"{prefix}.{name}" for name in types_of]
            raise RequestError(unknown_key_message(f"{prefix}.{key}", names, where))
        values[key] = keys.typed(value, types_of[key], f"{where}: {prefix}.{key}")
    return dataclasses.replace(default, **values)


def _search_entry(key: str, value: object, where: str) -> SearchEntry:
    where = f'{where}: search."{keys.shown_name(key)}"'
    if key not in all_keys():
        raise RequestError(unknown_key_message(key, all_keys(), where))
    return parse_search_entry(value, where)


def _check_values(recipe: Recipe, where: str) -> None:
    for table in ("model", *TABLES):
        for key, problem in keys.problems_of(getattr(recipe, table)):
            value = getattr(getattr(recipe, table), key)
            raise RequestError(f"{where}: {table}.{key} = {keys.shown(value)} {problem}")
    for problem in recipe.problems():
        raise RequestError(f"{where}: {problem}")
    bare = dataclasses.replace(recipe, search={}, oracle="")
    for key, entry in recipe.search.items():
        values = entry.choices if isinstance(entry, SearchChoices) else (entry.low, entry.high)
        condition = {other: choices[0] for other, choices in entry.when.items()}
        for value in values:  # each must be valid with the recipe's values of the other keys
            try:
                with_values(bare, {**condition, key: value})
            except RequestError as error:
                problem = str(error).removeprefix(f"{recipe.name}: ")
                raise RequestError(f'{where}: search."{key}": {problem}') from None


def _toml_values(table) -> dict:
    """Return key → value of a dataclass, with lists instead of tuples."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(table).items()
    }
