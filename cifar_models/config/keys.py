"""Declarations of recipe keys, each with its constraint and one line of documentation."""

import types
import typing
from collections.abc import Collection, Iterable, Iterator
from dataclasses import MISSING, dataclass, field, fields

from cifar_models.errors import RequestError

# Type → its name in an error message, for one value and for a list.
TYPE_NAMES = {
    str: ("text", "texts"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
}

AnyValue = typing.TypeVar("AnyValue")


@dataclass(frozen=True)
class Bounds:
    """Allowed values of a number, or of each item of a list.

    Attributes:
        minimum: Smallest value.
        maximum: Largest value. None: no limit.
        exclusive: "minimum" or "maximum" if that bound itself is not allowed.
    """

    minimum: float
    maximum: float | None = None
    exclusive: str = ""

    def allow(self, value: float) -> bool:
        """Return whether a value lies within the bounds."""
        if value < self.minimum or (value == self.minimum and self.exclusive == "minimum"):
            return False
        if self.maximum is None or value < self.maximum:
            return True
        return value == self.maximum and self.exclusive != "maximum"

    def __str__(self) -> str:
        """Return the bounds in the words of an error message: "at least 0 and below 1"."""
        lower = "above" if self.exclusive == "minimum" else "at least"
        upper = "below" if self.exclusive == "maximum" else "at most"
        if self.maximum is None:
            return f"{lower} {self.minimum}"
        return f"{lower} {self.minimum} and {upper} {self.maximum}"


AT_LEAST_ONE = Bounds(1)
NOT_NEGATIVE = Bounds(0)
POSITIVE = Bounds(0, exclusive="minimum")
UNIT_INTERVAL = Bounds(0, 1)
BELOW_ONE = Bounds(0, 1, exclusive="maximum")


def key(
    default: AnyValue, doc: str, bounds: Bounds | None = None, choices: Collection | None = None
) -> AnyValue:
    """Declare a key of a recipe as the field of a dataclass.

    Args:
        default: Value of a recipe that leaves the key out.
        doc: One line with the meaning, the unit and what 0 means.
        bounds: Allowed numbers; for a list, of each item.
        choices: Allowed values. They are read when a recipe is checked, so this may be a
            dictionary to which entries are added later.
    """
    metadata = {"doc": doc, "bounds": bounds, "choices": choices}
    return field(default=default, metadata=metadata)  # type: ignore[return-value]


def problems_of(table: typing.Any) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) for every value of a table that its constraint forbids.

    Problems between several keys come last: if the caller stops at the first problem, their checks
    may assume that each single key is valid.

    Args:
        table: A dataclass whose fields are keys. Its method `problems()`, if it has one, yields
            what is wrong between several keys.
    """
    for each in fields(table):
        problem = _problem(getattr(table, each.name), **each.metadata)
        if problem:
            yield each.name, problem
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
        RequestError: The value has another type, or is NaN.
    """
    is_list = typing.get_origin(expected) is tuple
    item_type = typing.get_args(expected)[0] if is_list else expected
    if is_list and isinstance(value, list | tuple):
        return tuple(typed(item, item_type, where) for item in value)
    if expected is float and type(value) is int:
        return float(value)
    if expected is float and type(value) is float and value != value:
        raise RequestError(f"{where} is not a number")
    if isinstance(expected, types.GenericAlias) or type(value) is not expected:
        one, several = TYPE_NAMES[item_type]
        wanted = f"a list of {several}" if is_list else one
        raise RequestError(f"{where} = {value!r}: must be {wanted}")
    return value


def any_of(words: Iterable[str]) -> str:
    """Return "a, b or c"."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _problem(
    value: typing.Any,
    doc: str = "",
    bounds: Bounds | None = None,
    choices: Collection | None = None,
) -> str:
    """Return what is wrong with the value of one key, or "" if it is allowed."""
    if choices is not None and value not in choices:
        words = [f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in choices]
        return f"must be {any_of(words)}"
    if isinstance(value, tuple):
        if not value:
            return "must not be empty"
        if bounds and not all(map(bounds.allow, value)):
            return f"must hold only numbers that are {bounds}"
    elif bounds and not bounds.allow(value):
        return f"must be {bounds}"
    return ""
