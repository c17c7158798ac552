"""Recipes as TOML: read, override, check, write. What is wrong is a RequestError of one line."""

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Sequence
from pathlib import Path

from cifar_models.config.model_presets import PRESETS
from cifar_models.config.recipe import (
    AugmentationConfig,
    DataConfig,
    Recipe,
    RuntimeConfig,
    SearchChoices,
    SearchRange,
    TrainingConfig,
)
from cifar_models.errors import RequestError

# The recipes of the project: inside an installed package, or beside the package in a checkout.
EXPERIMENTS = next(
    folder / "experiments"
    for folder in Path(__file__).resolve().parents[1:3]
    if (folder / "experiments").is_dir()
)
TABLES = {
    "data": DataConfig,
    "training": TrainingConfig,
    "augmentation": AugmentationConfig,
    "runtime": RuntimeConfig,
}

# Names of earlier versions. A run folder may hold them; in a user's recipe they are an error that
# gives the new name.
RENAMED_KEYS = {
    "model.mimetic_start": "model.mimetic_init",
    "augmentation.test_views": "augmentation.tta_views",
}
RENAMED_ARCHITECTURES = {
    "hybrid": "cct2_3x2",
    "fast_cnn": "airbench94",
    "strong_cnn": "airbench96",
}


def recipe_paths() -> dict[str, Path]:
    """Returns the name and path of every recipe under experiments/."""
    return {path.stem: path for path in sorted(EXPERIMENTS.glob("*.toml"))}


def read_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe by its name under experiments/ or by the path of a TOML file.

    Args:
        name_or_path: `cnn`, or `somewhere/my.toml`.
        overrides: `table.key=value` each, the value written as in TOML; quotes may be left out.

    Raises:
        RequestError: no such recipe, not TOML, or a key or value that no recipe has.
    """
    known = recipe_paths()
    path = known.get(name_or_path, Path(name_or_path))
    if not path.is_file():
        raise RequestError(
            f"recipe {name_or_path!r}: neither a file nor one of "
            f"{', '.join(known)}{_did_you_mean(name_or_path, known)}"
        )
    content = _read_toml(path)
    for override in overrides:
        _apply(override, content)
    content.setdefault("name", path.stem)
    return build_recipe(content, str(path))


def read_saved_recipe(path: Path) -> Recipe:
    """Read the recipe of a run folder, which an earlier version may have written.

    Args:
        path: Path of `recipe.toml`.

    Returns:
        The recipe, with the names of today.

    Raises:
        RequestError: The file is not TOML, or holds a key or value that no version has.
    """
    content = _read_toml(path)
    for old, new in RENAMED_KEYS.items():
        table, _, key = old.partition(".")
        if isinstance(content.get(table), dict) and key in content[table]:
            content[table][new.partition(".")[2]] = content[table].pop(key)
    model = content.get("model")
    if isinstance(model, dict) and isinstance(model.get("architecture"), str):
        model["architecture"] = current_architecture(model["architecture"])
    content.setdefault("name", path.stem)
    return build_recipe(content, str(path))


def current_architecture(name: str) -> str:
    """Return today's name of an architecture that an earlier version may have named."""
    return RENAMED_ARCHITECTURES.get(name, name)


def _read_toml(path: Path) -> dict:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"{path}: not a TOML file: {error}") from None


def build_recipe(content: dict, where: str) -> Recipe:
    """Types and checks the tables of one recipe; `where` begins every error message."""
    content = dict(content)
    name = content.pop("name", where)
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w .+-]*", name):
        raise RequestError(f"{where}: name = {name!r} must be letters, digits, spaces and . + - _")
    model_table = dict(_table(content, "model", where))
    architecture = model_table.pop("architecture", "residual_cnn")
    if architecture in RENAMED_ARCHITECTURES:
        raise RequestError(
            f"{where}: model.architecture {architecture!r} is now called "
            f"{RENAMED_ARCHITECTURES[architecture]!r}"
        )
    if architecture not in PRESETS:
        raise RequestError(
            f"{where}: model.architecture {architecture!r} is not one of "
            f"{', '.join(PRESETS)}{_did_you_mean(str(architecture), PRESETS)}"
        )
    recipe = Recipe(
        name=name,
        architecture=architecture,
        model=_fill(PRESETS[architecture], model_table, "model", where),
        **{
            key: _fill(cls(), _table(content, key, where), key, where)
            for key, cls in TABLES.items()
        },
    )
    search = _table(content, "search", where)
    recipe = dataclasses.replace(
        recipe, search={key: _search_entry(key, value, where) for key, value in search.items()}
    )
    for key in content:
        if key not in ("model", "search", *TABLES):
            raise RequestError(_unknown(key, ("model", "search", *TABLES), where))
    _check(recipe, where)
    return recipe


def with_values(recipe: Recipe, values: dict[str, object]) -> Recipe:
    """Returns the recipe with `{"table.key": value}` replaced, checked like a file."""
    content = recipe_tables(recipe)
    for key, value in values.items():
        _set(content, key, value, recipe.name)
    return build_recipe(content, recipe.name)


def recipe_tables(recipe: Recipe) -> dict:
    """Returns the resolved recipe as the nested dict that its TOML holds."""
    tables = {table: _plain(getattr(recipe, table)) for table in ("data", "model", *TABLES)}
    tables["model"] = {"architecture": recipe.architecture, **tables["model"]}
    tables["search"] = {key: _plain(entry) for key, entry in recipe.search.items()}
    return {"name": recipe.name, **tables}


def recipe_toml(recipe: Recipe) -> str:
    """Returns the resolved recipe as TOML that `read_recipe` reads back unchanged."""
    import tomli_w

    return tomli_w.dumps(recipe_tables(recipe))


def _apply(override: str, content: dict) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise RequestError(f"--set {override}: write it as table.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word
    _set(content, key.strip(), value, "--set")


def _set(content: dict, key: str, value: object, where: str) -> None:
    table, dot, field = key.partition(".")
    if not dot or table not in ("model", *TABLES):
        raise RequestError(_unknown(key, _all_keys(), where))
    if not isinstance(content.setdefault(table, {}), dict):
        raise RequestError(f"{where}: {table} must be a table")
    content[table] = {**content[table], field: value}


def _table(content: dict, name: str, where: str) -> dict:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise RequestError(f"{where}: {name} must be a table, [{name}]")
    return table


def _fill(default, table: dict, prefix: str, where: str):
    types_of = typing.get_type_hints(type(default))
    values = {}
    for key, value in table.items():
        if key not in types_of:
            names = [f"{prefix}.{name}" for name in types_of]
            raise RequestError(_unknown(f"{prefix}.{key}", names, where))
        values[key] = _typed(value, types_of[key], f"{where}: {prefix}.{key}")
    return dataclasses.replace(default, **values)


def _typed(value, expected, where: str):
    if typing.get_origin(expected) is tuple and isinstance(value, list | tuple):
        return tuple(_typed(item, typing.get_args(expected)[0], where) for item in value)
    if expected is float and type(value) is int:
        return float(value)
    if expected is float and type(value) is float and value != value:
        raise RequestError(f"{where} is not a number")
    if isinstance(expected, types.GenericAlias) or type(value) is not expected:
        name = {
            "str": "text",
            "int": "a whole number",
            "float": "a number",
            "bool": "true or false",
        }
        wanted = name.get(getattr(expected, "__name__", ""), "a list of whole numbers")
        raise RequestError(f"{where} = {value!r}: must be {wanted}")
    return value


def _search_entry(key: str, value: object, where: str) -> SearchRange | SearchChoices:
    where = f'{where}: search."{key}"'
    if key not in _all_keys():
        raise RequestError(_unknown(key, _all_keys(), where))
    if not isinstance(value, dict) or set(value) not in (
        {"choices"},
        {"low", "high"},
        {"low", "high", "scale"},
    ):
        raise RequestError(f"{where}: write {{ low = 1, high = 2 }} or {{ choices = [1, 2] }}")
    if "choices" in value:
        if not isinstance(value["choices"], list | tuple) or not value["choices"]:
            raise RequestError(f"{where}: choices must be a list that is not empty")
        return SearchChoices(tuple(value["choices"]))
    entry = SearchRange(**value)
    if any(type(bound) not in (int, float) for bound in (entry.low, entry.high)):
        raise RequestError(f"{where}: low and high must be numbers")
    if not entry.low < entry.high:
        raise RequestError(f"{where}: low {entry.low} is not below high {entry.high}")
    if entry.scale not in ("linear", "log"):
        raise RequestError(f'{where}: scale {entry.scale!r} must be "linear" or "log"')
    if entry.scale == "log" and entry.low <= 0:
        raise RequestError(f"{where}: low {entry.low} must be above 0 on a log scale")
    return entry


def _check(recipe: Recipe, where: str) -> None:
    for table in ("model", *TABLES):
        for key, problem in getattr(recipe, table).problems():
            value = getattr(getattr(recipe, table), key)
            raise RequestError(f"{where}: {table}.{key} = {value!r} {problem}")
    for problem in recipe.problems():
        raise RequestError(f"{where}: {problem}")
    bare = dataclasses.replace(recipe, search={})
    for key, entry in recipe.search.items():
        values = entry.choices if isinstance(entry, SearchChoices) else (entry.low, entry.high)
        for value in values:  # each must be possible while the other keys stay as they are
            try:
                with_values(bare, {key: value})
            except RequestError as error:
                problem = str(error).removeprefix(f"{recipe.name}: ")
                raise RequestError(f'{where}: search."{key}" may choose {problem}') from None


def _all_keys() -> list[str]:
    tables = [("model", type(preset)) for preset in PRESETS.values()] + list(TABLES.items())
    keys = [f"{table}.{field.name}" for table, cls in tables for field in dataclasses.fields(cls)]
    return ["model.architecture", *dict.fromkeys(keys)]


def _plain(table) -> dict:
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(table).items()
    }


def _unknown(key: str, known, where: str) -> str:
    if key in RENAMED_KEYS:
        return f"{where}: {key} is now called {RENAMED_KEYS[key]}"
    return f"{where}: there is no {key}{_did_you_mean(key, known) or '; see docs/recipes.md'}"


def _did_you_mean(name: str, known) -> str:
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]}?" if nearest else ""
