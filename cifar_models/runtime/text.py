"""Text that may be untrusted, such as a class name, made safe for a terminal, a log or Markdown."""

import re
import unicodedata

# Control characters, formatting characters such as those that reverse the direction of writing,
# halves of surrogate pairs, and the separators of lines and paragraphs.
ESCAPED_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
JOINERS = "\u200c\u200d"  # within words of some languages, and within emojis


def printable(text: str) -> str:
    r"""Return text on one line, with control characters written as in Python, such as \x1b.

    A terminal obeys control characters: they may clear the screen, change its title or hide text.
    In a log, a line break may forge a line.
    """
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in ESCAPED_CATEGORIES and character not in JOINERS
        else character
        for character in text
    )


def markdown_escaped(text: str) -> str:
    """Return printable text in which Markdown finds no HTML, entity, link, image or table cell."""
    return re.sub(r"<(?=[A-Za-z/!?])|&(?=[A-Za-z#])|\||(?<=\])\(", r"\\\g<0>", printable(text))
