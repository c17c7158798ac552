"""Declare the keys of a recipe, each with its constraint and its one-line documentation."""

import types
import typing
from collections.abc import Callable, Collection, Iterator
from dataclasses import MISSING, dataclass, field, fields

from cifar_models.errors import RequestError

# Messages name a type as a user of TOML knows it.
TYPE_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}

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
        """Return the bounds in the words of an error message."""
        if self.maximum is None and self.exclusive == "minimum":
            return f"must be above {self.minimum:g}"
        if self.maximum is None:
            is_zero = self.minimum == 0
            return "must not be negative" if is_zero else f"must be at least {self.minimum:g}"
        if self.exclusive == "minimum":
            return f"must be above {self.minimum:g} and at most {self.maximum:g}"
        if self.exclusive == "maximum":
            return f"must be at least {self.minimum:g} and below {self.maximum:g}"
        return f"must lie between {self.minimum:g} and {self.maximum:.10g}"


AT_LEAST_ONE = Bounds(1)
NOT_NEGATIVE = Bounds(0)
POSITIVE = Bounds(0, exclusive="minimum")
UNIT_INTERVAL = Bounds(0, 1)
BELOW_ONE = Bounds(0, 1, exclusive="maximum")

Choices = Collection[str] | Callable[[], Collection[str]]


def key(
    default: AnyValue, doc: str, bounds: Bounds | None = None, choices: Choices | None = None
) -> AnyValue:
    """Declare a key of a recipe as the field of a dataclass.

    Args:
        default: Value of a recipe that leaves the key out.
        doc: One line with the meaning, the unit and what 0 means.
        bounds: Allowed numbers.
        choices: Allowed texts, or a function that returns them when a recipe is checked.
    """
    metadata = {"doc": doc, "bounds": bounds, "choices": choices}
    return field(default=default, metadata=metadata)  # type: ignore[return-value]


def problems_of(table: typing.Any) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) for every value of a table that its constraint forbids.

    Args:
        table: A dataclass whose fields are keys. Its method `problems()`, if it has one, yields
            what is wrong between several keys.
    """
    for each in fields(table):
        value = getattr(table, each.name)
        bounds, choices = each.metadata.get("bounds"), each.metadata.get("choices")
        if choices is not None:
            yield from _choice_problem(each.name, value, choices)
        if bounds and isinstance(value, tuple) and not all(map(bounds.allow, value)):
            yield each.name, "must hold positive integers"
        elif bounds and not isinstance(value, tuple) and not bounds.allow(value):
            yield each.name, str(bounds)
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


def _choice_problem(name: str, value: object, choices: Choices) -> Iterator[tuple[str, str]]:
    allowed = list(choices() if callable(choices) else choices)
    if value not in allowed:
        *others, last = (f'"{choice}"' for choice in allowed)
        yield name, f"must be {', '.join(others)} or {last}"
