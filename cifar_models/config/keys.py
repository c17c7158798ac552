"""Declare the keys of a recipe, each with its constraint and its one-line documentation."""

import types
import typing
from collections.abc import Callable, Collection, Iterator
from dataclasses import MISSING, field, fields

from cifar_models.errors import RequestError

# Messages name a type as a user of TOML knows it.
TYPE_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}

AnyValue = typing.TypeVar("AnyValue")


def key(
    default: AnyValue,
    doc: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    exclusive: str = "",
    choices: Collection[str] | Callable[[], Collection[str]] | None = None,
) -> AnyValue:
    """Declare a key of a recipe as the field of a dataclass.

    Args:
        default: Value of a recipe that leaves the key out.
        doc: One line with the meaning, the unit and what 0 means.
        minimum: Smallest value; for a list, of each item.
        maximum: Largest value; for a list, of each item.
        exclusive: "minimum" or "maximum" if that bound itself is not allowed.
        choices: Allowed values, or a function that returns them when a recipe is checked.
    """
    metadata = {
        "doc": doc,
        "minimum": minimum,
        "maximum": maximum,
        "exclusive": exclusive,
        "choices": choices,
    }
    return field(default=default, metadata=metadata)  # type: ignore[return-value]


def problems_of(table: typing.Any) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) for every value of a table that its constraint forbids.

    Args:
        table: A dataclass whose fields are keys. Its method `problems()`, if it has one, yields
            what is wrong between several keys.
    """
    for each in fields(table):
        value = getattr(table, each.name)
        if each.metadata.get("choices") is not None:
            yield from _choice_problem(each.name, value, each.metadata["choices"])
        elif not all(_is_within(item, each.metadata) for item in _items(value)):
            yield each.name, _bounds_in_words(each.metadata, isinstance(value, tuple))
    if hasattr(table, "problems"):
        yield from table.problems()


def default_of(table: type, name: str) -> object:
    """Return the default of a key."""
    default = next(each.default for each in fields(table) if each.name == name)
    assert default is not MISSING
    return default


def typed(value: typing.Any, expected: typing.Any, where: str) -> typing.Any:
    """Return a value of a TOML file as the type of its key.

    Args:
        value: What the file or an override holds.
        expected: Type of the key.
        where: File and key, for the error message.

    Raises:
        RequestError: The value has another type, or is not a number.
    """
    if typing.get_origin(expected) is tuple and isinstance(value, list | tuple):
        return tuple(typed(item, typing.get_args(expected)[0], where) for item in value)
    if expected is float and type(value) is int:
        return float(value)
    if expected is float and type(value) is float and value != value:
        raise RequestError(f"{where} is not a number")
    if isinstance(expected, types.GenericAlias) or type(value) is not expected:
        wanted = TYPE_NAMES.get(expected, "a list of whole numbers")
        raise RequestError(f"{where} = {value!r}: must be {wanted}")
    return value


def _choice_problem(name: str, value: object, choices) -> Iterator[tuple[str, str]]:
    allowed = list(choices() if callable(choices) else choices)
    if value not in allowed:
        *others, last = (f'"{choice}"' for choice in allowed)
        yield name, f"must be {', '.join(others)} or {last}"


def _items(value: object) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def _is_within(value, constraint) -> bool:
    minimum, maximum = constraint.get("minimum"), constraint.get("maximum")
    exclusive = constraint.get("exclusive")
    if minimum is not None and (value <= minimum if exclusive == "minimum" else value < minimum):
        return False
    return maximum is None or (value < maximum if exclusive == "maximum" else value <= maximum)


def _bounds_in_words(constraint, is_list: bool) -> str:
    minimum, maximum = constraint["minimum"], constraint["maximum"]
    exclusive = constraint["exclusive"]
    if is_list:
        return "must hold positive integers"
    if maximum is None:
        if exclusive == "minimum":
            return f"must be above {minimum:g}"
        return "must not be negative" if minimum == 0 else f"must be at least {minimum:g}"
    if exclusive == "minimum":
        return f"must be above {minimum:g} and at most {maximum:g}"
    if exclusive == "maximum":
        return f"must be at least {minimum:g} and below {maximum:g}"
    return f"must lie between {minimum:g} and {maximum:.10g}"
