"""TOML files, whose errors become errors of one line."""

import re
import tomllib
from pathlib import Path

from cifar_models.errors import RequestError

MAX_BYTES = 100_000  # of one file
# Of one line, outside of strings. A key of N parts (a.b.c) takes memory and time for N * N / 2
# parts, so that a file of 40 kB would take 6 GB. A list of 100 numbers has 100 dots.
MAX_DOTS = 100
STRING_OR_COMMENT = re.compile(
    r'#[^\n]*|"""(?:[^\\]|\\.)*?(?:"""|\Z)|'
    r"'''.*?(?:'''|\Z)|"
    r'"(?:[^"\\\n]|\\[^\n])*"?|'
    r"'[^'\n]*'?",
    re.DOTALL,
)


def read_toml(path: Path) -> dict:
    """Read a TOML file. A byte-order mark, as some editors write it, is skipped.

    Raises:
        RequestError: The file cannot be read, is larger than MAX_BYTES, or is not TOML.
    """
    try:
        with path.open("rb") as file:  # a file in /proc says that it has no bytes
            content = file.read(MAX_BYTES + 1)
        return parse_toml(content.decode("utf-8-sig"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: not a TOML file: {error}") from None


def parse_toml(text: str, path: Path) -> dict:
    """Return the content of a TOML file.

    Args:
        text: Content of the file, possibly untrusted.
        path: Path of the file, for the error message.

    Raises:
        RequestError: The text is not TOML, or is larger than any recipe or study.
    """
    if len(text) > MAX_BYTES:
        raise RequestError(f"{path}: not a TOML file: larger than {MAX_BYTES} bytes")
    try:
        return _loads(text)
    # ValueError: not TOML, or a whole number of more digits than Python reads.
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path}: not a TOML file: {error}") from None


def parse_value(text: str) -> object:
    """Return a value that is written as in TOML, or the text itself if it is not TOML."""
    try:
        content = _loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return content["value"] if set(content) == {"value"} else text  # not several lines


def _loads(text: str) -> dict:
    """Return the content of a TOML text; raise ValueError also if a line has too many dots."""
    for number, line in enumerate(STRING_OR_COMMENT.sub("", text).split("\n"), 1):
        if line.count(".") > MAX_DOTS:
            raise ValueError(f"line {number} has {line.count('.')} dots, more than {MAX_DOTS}")
    return tomllib.loads(text)


def toml_text(text: str) -> str:
    """Return text as a TOML string, which `parse_value` reads back unchanged."""
    import tomli_w

    return tomli_w.dumps({"value": text}).removeprefix("value = ").rstrip("\n")
