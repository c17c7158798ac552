"""The reference of recipe keys, written from their declarations.

`python -m cifar_models.config.documentation > docs/recipe_keys.md` writes it anew.
"""

from collections.abc import Iterator
from dataclasses import fields

from cifar_models.config.architectures import ARCHITECTURES
from cifar_models.config.augmentation import AUGMENTATIONS
from cifar_models.config.recipe import TABLES
from cifar_models.config.training import OPTIMIZERS

HEAD = """# Recipe keys

This page is written by `python -m cifar_models.config.documentation`.
[Recipes](recipes.md) explains how recipes are read and overridden.
"""


def keys_markdown() -> str:
    """Return the page: the keys of each table of a recipe, and the names that some accept."""
    parts = [HEAD]
    for name, table in TABLES.items():
        parts.append(_section(f"`[{name}]`", table, name))
    parts.append("## `[model]`\n\n`model.architecture` names one of:\n")
    parts.append(_table(("architecture", "what it is"), _architectures()))
    for config in dict.fromkeys(type(each.config) for each in ARCHITECTURES.values()):
        names = [f"`{n}`" for n, each in ARCHITECTURES.items() if type(each.config) is config]
        parts.append(_section(f"Keys of {', '.join(names)}", config, "model", level="###"))
    parts.append("## Optimizers\n")
    rows = [(f"`{name}`", spec.description, _code(spec.reads)) for name, spec in OPTIMIZERS.items()]
    parts.append(_table(("optimizer", "what it is", "keys that only some optimizers read"), rows))
    parts.append(
        "## Augmentations\n\nIn the order in which they are applied, after `alternating_flip`:\n"
    )
    rows = [
        (f"`{name}`", spec.description, _code(spec.keys)) for name, spec in AUGMENTATIONS.items()
    ]
    parts.append(_table(("augmentation", "what it does", "on if not 0"), rows))
    return "\n".join(parts)


def _section(title: str, table: type, prefix: str, level: str = "##") -> str:
    rows = [
        (
            f"`{prefix}.{each.name}`",
            f"`{_value(each.default)}`",
            each.metadata["doc"],
            _constraint(each),
        )
        for each in fields(table)
    ]
    return f"{level} {title}\n\n" + _table(("key", "default", "meaning", "constraint"), rows)


def _architectures() -> Iterator[tuple[str, str]]:
    for name, architecture in ARCHITECTURES.items():
        yield f"`{name}`", architecture.description


def _constraint(each) -> str:
    choices, bounds = each.metadata["choices"], each.metadata["bounds"]
    if choices is not None:
        return _code(choices)
    return str(bounds) if bounds else ""


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return f'"{value}"' if isinstance(value, str) else f"{value:.4g}"


def _code(names) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(header: tuple[str, ...], rows) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    print(keys_markdown(), end="")
