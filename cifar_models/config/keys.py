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

MAX_WHOLE_NUMBER = 2**31 - 1  # steps are counted in int32
MAX_NUMBER = float.fromhex("0x1.fffffep127")  # the largest finite float32
# Type → the largest value of a key, positive or negative.
LARGEST: dict[type, float] = {int: MAX_WHOLE_NUMBER, float: MAX_NUMBER}
MAX_LIST_LENGTH = 100
MAX_CHARACTERS_SHOWN = 80  # of a value in an error message


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
# Of one axis, and of a stack of layers: far above what any machine holds, so that a slip of the
# keyboard is refused at once, before a network is built.
SIZE = Bounds(1, 65536)
DEPTH = Bounds(1, 1000)
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
        RequestError: The value has another type, is not finite, is too large for float32 or int32,
            or is text that UTF-8 cannot encode.
    """
    if isinstance(expected, types.UnionType):  # str | Mapping[str, float]
        text_type, table_type = typing.get_args(expected)
        if not isinstance(value, dict):
            return typed(value, text_type, where)
        of_value = typing.get_args(table_type)[1]
        return {
            typed(name, str, where): typed(each, of_value, f"{where}.{shown_name(name)}")
            for name, each in value.items()
        }
    is_list = typing.get_origin(expected) is tuple
    item_type = typing.get_args(expected)[0] if is_list else expected
    if is_list and isinstance(value, list | tuple):
        return tuple(typed(item, item_type, where) for item in value)
    is_of_type = type(value) is expected or (expected is float and type(value) is int)
    if isinstance(expected, types.GenericAlias) or not is_of_type:
        one, several = TYPE_NAMES[item_type]
        wanted = f"a list of {several}" if is_list else one
        raise RequestError(f"{where} = {shown(value)}: must be {wanted}")
    largest = LARGEST.get(expected, 0)
    if expected in LARGEST and not -largest <= value <= largest:  # NaN is not either
        raise RequestError(
            f"{where} = {shown(value)}: must be a number from {-largest:.10g} to {largest:.10g}"
        )
    if expected is str and not _is_unicode(value):
        raise RequestError(f"{where} = {shown(value)}: holds bytes that are no text; rename it")
    return expected(value)


def shown(value: object) -> str:
    """Return a value as an error message shows it: on one line, shortened if it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits; lists in lists
        return f"(a value of type {type(value).__name__}, too long to show)"
    return text if len(text) <= MAX_CHARACTERS_SHOWN else f"{text[: MAX_CHARACTERS_SHOWN - 1]}…"


def shown_name(name: str) -> str:
    """Return the name of a key as an error message shows it: quoted if it is not printable."""
    return name if name.isprintable() and len(name) <= MAX_CHARACTERS_SHOWN else shown(name)


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
        if len(value) > MAX_LIST_LENGTH:
            return f"must have at most {MAX_LIST_LENGTH} entries"
        if bounds and not all(map(bounds.allow, value)):
            return f"must hold only numbers that are {bounds}"
    elif bounds and not bounds.allow(value):
        return f"must be {bounds}"
    return ""


def _is_unicode(text: str) -> bool:
    """Return whether UTF-8 can encode a text. Undecodable bytes of a command line cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
