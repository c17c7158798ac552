"""The `search` table of a recipe: the values that `tune` may try."""

from dataclasses import dataclass

from cifar_models.config.keys import MAX_LIST_LENGTH, shown
from cifar_models.errors import RequestError


@dataclass(frozen=True)
class SearchRange:
    """Range of numbers that includes both bounds; whole numbers if the key's type is int.

    Attributes:
        low: Smallest number.
        high: Largest number, above low.
        scale: "linear" or "log".
    """

    low: float
    high: float
    scale: str = "linear"


@dataclass(frozen=True)
class SearchChoices:
    """List of values, of which each trial uses one."""

    choices: tuple


def parse_search_entry(value: object, where: str) -> SearchRange | SearchChoices:
    """Return the range or the choices that a TOML value describes.

    Args:
        value: `{ low = 1, high = 2 }`, with `scale` or without, or `{ choices = [1, 2] }`.
        where: File and key, for the error message.

    Raises:
        RequestError: The value is neither a range nor choices, or it is empty.
    """
    if not isinstance(value, dict) or set(value) not in (
        {"choices"},
        {"low", "high"},
        {"low", "high", "scale"},
    ):
        raise RequestError(f"{where}: write {{ low = 1, high = 2 }} or {{ choices = [1, 2] }}")
    if "choices" in value:
        if not isinstance(value["choices"], list | tuple) or not value["choices"]:
            raise RequestError(f"{where}: choices must be a list that is not empty")
        if len(value["choices"]) > MAX_LIST_LENGTH:
            raise RequestError(f"{where}: choices must have at most {MAX_LIST_LENGTH} entries")
        return SearchChoices(tuple(value["choices"]))
    entry = SearchRange(**value)
    if any(type(bound) not in (int, float) for bound in (entry.low, entry.high)):
        raise RequestError(f"{where}: low and high must be numbers")
    if not entry.low < entry.high:
        raise RequestError(f"{where}: low {shown(entry.low)} is not below high {shown(entry.high)}")
    if entry.scale not in ("linear", "log"):
        raise RequestError(f'{where}: scale {shown(entry.scale)} must be "linear" or "log"')
    if entry.scale == "log" and entry.low <= 0:
        raise RequestError(f"{where}: low {shown(entry.low)} must be above 0 on a log scale")
    return entry
