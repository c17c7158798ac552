"""Text in figures: what the font can show of the names of classes, and notes of the rest."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

logger = logging.getLogger("cifar_models")

# Settings of windows, which no figure needs.
PROCESS_WIDE = {"backend", "backend_fallback", "interactive", "toolbar", "timezone"}
# Matplotlib reads a file matplotlibrc of the working directory, which may be an untrusted folder:
# it might pass class names to LaTeX. Class names may hold dollar signs.
OWN_STYLE: dict[Any, Any] = {
    **{key: value for key, value in matplotlib.rcParamsDefault.items() if key not in PROCESS_WIDE},
    "text.parse_math": False,
}
MAX_NAME_LENGTH = 24  # characters of a class name; longer ones are cut
MAX_TITLE_LENGTH = 80


def readable_names(class_names: Sequence[str]) -> list[str]:
    """Return the names as a figure can show them.

    A name with a character that the font lacks is replaced by the number of the class. A long one
    is cut.
    """
    glyphs = _glyphs()
    return [
        _cut(name if glyphs.issuperset(map(ord, name)) else f"class {number}", MAX_NAME_LENGTH)
        for number, name in enumerate(class_names)
    ]


def unreadable_names(class_names: Sequence[str], classes: Iterable[int]) -> list[str]:
    """Return a note if the font cannot show the names of some of the classes."""
    glyphs = _glyphs()
    unreadable = sum(not glyphs.issuperset(map(ord, class_names[number])) for number in classes)
    if not unreadable:
        return []
    return [
        f"names that the font cannot show: {unreadable}; they are given as numbers, counted from 0 "
        "in the list of dataset.json"
    ]


def readable_title(title: str) -> str:
    """Return a title as a figure can show it; a question mark stands for an unknown character."""
    glyphs = _glyphs()
    return _cut("".join(c if ord(c) in glyphs else "?" for c in title), MAX_TITLE_LENGTH)


def _glyphs() -> set[int]:
    """Return the code points of the characters that the font of the figures has."""
    return set(get_font(findfont(FontProperties())).get_charmap())


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def add_notes(figure: Figure, name: str, notes: list[str]) -> None:
    """Write notes below a figure and into the log."""
    for note in notes:
        logger.info("figure %s: %s", name, note)
    if notes:
        figure.supxlabel("\n".join(notes), fontsize=7)
