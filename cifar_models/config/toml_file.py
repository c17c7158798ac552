"""TOML files, whose errors become errors of one line."""

import tomllib
from pathlib import Path

from cifar_models.errors import RequestError

MAX_BYTES = 1_000_000  # of one file


def read_toml(path: Path) -> dict:
    """Read a TOML file. A byte-order mark, as some editors write it, is skipped.

    Raises:
        RequestError: The file cannot be read, is larger than MAX_BYTES, or is not TOML.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RequestError(f"{path}: not a TOML file: larger than {MAX_BYTES} bytes")
        return parse_toml(path.read_text(encoding="utf-8-sig"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: not a TOML file: {error}") from None


def parse_toml(text: str, path: Path) -> dict:
    """Return the content of a TOML file.

    Args:
        text: Content of the file, possibly untrusted.
        path: Path of the file, for the error message.

    Raises:
        RequestError: The text is not TOML.
    """
    try:
        return tomllib.loads(text)
    # ValueError: not TOML, or a whole number of more digits than Python reads.
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path}: not a TOML file: {error}") from None


def parse_value(text: str) -> object:
    """Return a value that is written as in TOML, or the text itself if it is not TOML."""
    try:
        content = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return content["value"] if set(content) == {"value"} else text  # not several lines


def toml_text(text: str) -> str:
    """Return text as a TOML string, which `parse_value` reads back unchanged."""
    import tomli_w

    return tomli_w.dumps({"value": text}).removeprefix("value = ").rstrip("\n")
