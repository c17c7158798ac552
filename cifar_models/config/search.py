"""The `search` table of a recipe: the values that `tune` may try."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cifar_models.config.keys import MAX_LIST_LENGTH, shown
from cifar_models.errors import RequestError

# How `tune` chooses its trials. The first one is the default.
ORACLES = ("bayesian", "random", "halving")


@dataclass(frozen=True)
class SearchRange:
    """Range of numbers that includes both bounds; whole numbers if the key's type is int.

    Attributes:
        low: Smallest number.
        high: Largest number, above low.
        scale: "linear" or "log".
        when: Another searched key → its choices with which this key is searched. Empty: always.
    """

    low: float
    high: float
    scale: str = "linear"
    when: dict[str, tuple] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchChoices:
    """List of values, of which each trial uses one.

    Attributes:
        choices: The values.
        when: As for `SearchRange`.
    """

    choices: tuple
    when: dict[str, tuple] = field(default_factory=dict)


SearchEntry = SearchRange | SearchChoices


def parse_search_entry(value: object, where: str) -> SearchEntry:
    """Return the range or the choices that a TOML value describes.

    Args:
        value: `{ low = 1, high = 2 }`, with `scale` or without, or `{ choices = [1, 2] }`; each
            with `when` or without.
        where: File and key, for the error message.

    Raises:
        RequestError: The value is neither a range nor choices, or it is empty.
    """
    value = dict(value) if isinstance(value, dict) else {}
    when = _parse_condition(value.pop("when", {}), where)
    if set(value) not in (
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
        return SearchChoices(tuple(value["choices"]), when)
    entry = SearchRange(**value, when=when)
    if any(type(bound) not in (int, float) for bound in (entry.low, entry.high)):
        raise RequestError(f"{where}: low and high must be numbers")
    if not entry.low < entry.high:
        raise RequestError(f"{where}: low {shown(entry.low)} is not below high {shown(entry.high)}")
    if entry.scale not in ("linear", "log"):
        raise RequestError(f'{where}: scale {shown(entry.scale)} must be "linear" or "log"')
    if entry.scale == "log" and entry.low <= 0:
        raise RequestError(f"{where}: low {shown(entry.low)} must be above 0 on a log scale")
    return entry


def _parse_condition(value: object, where: str) -> dict[str, tuple]:
    if not isinstance(value, dict) or len(value) > 1:
        raise RequestError(f'{where}: write when = {{ "training.optimizer" = ["sgd"] }}')
    for key, choices in value.items():
        if not isinstance(choices, list | tuple) or not choices:
            raise RequestError(f"{where}: when.{shown(key)} must be a list that is not empty")
    return {key: tuple(choices) for key, choices in value.items()}


def condition_problems(search: Mapping[str, SearchEntry]) -> dict[str, str]:
    """Return key → what is wrong with its condition, for those with a problem.

    Args:
        search: The `search` table.
    """
    problems = {}
    for key, entry in search.items():
        for other, values in entry.when.items():
            parent = search.get(other)
            if not isinstance(parent, SearchChoices):
                problems[key] = f"when: {shown(other)} is not searched with choices"
            elif parent.when:
                problems[key] = f"when: {shown(other)} has a condition itself"
            elif unknown := [each for each in values if each not in parent.choices]:
                problems[key] = f"when: {shown(unknown[0])} is not a choice of {shown(other)}"
    return problems
