"""Text for people: untrusted text made safe for a terminal, a log or Markdown, and durations."""

import re
import unicodedata

# Control characters, formatting characters such as those that reverse the direction of writing,
# halves of surrogate pairs, and the separators of lines and paragraphs.
ESCAPED_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
MAX_CHARACTERS = 10_000  # of one line
JOINERS = "\u200c\u200d"  # within words of some languages, and within emojis


def printable(text: str) -> str:
    r"""Return text on one line, with control characters written as in Python, such as \x1b.

    A terminal obeys control characters: they may clear the screen, change its title or hide text.
    In a log, a line break may forge a line. A text of millions of characters is cut.
    """
    if len(text) > MAX_CHARACTERS:
        text = f"{text[: MAX_CHARACTERS - 1]}…"
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in ESCAPED_CATEGORIES and character not in JOINERS
        else character
        for character in text
    )


def markdown_escaped(text: str) -> str:
    """Return printable text in which Markdown finds no markup: HTML, link, image, code, cell...

    A web address, which GitHub would make a link, is broken before its dots and slashes.
    """
    return re.sub(
        r"""<(?=[A-Za-z/!?]) | &(?=[A-Za-z#]) | \| | (?<=\])\( | [`*] | \\(?=[!-/:-@[-`{-~])
        | ~(?=~) | (?<=~)~ | (?<=:)/(?=/) | (?<=www)\. | (?<=\w)@(?=\w)""",
        r"\\\g<0>",
        printable(text),
        flags=re.VERBOSE | re.IGNORECASE,
    )


def duration_in_words(seconds: float) -> str:
    """Return a duration in the unit that fits: "40 s", "27 min", "3.5 h" or "2.1 days"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 47.95 else f"{hours / 24:.1f} days"
