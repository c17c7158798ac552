"""TOML files, whose errors become errors of one line."""

import tomllib
from pathlib import Path

from cifar_models.errors import RequestError

MAX_BYTES = 1_000_000  # of one file


def read_toml(path: Path) -> dict:
    """Read a TOML file.

    Raises:
        RequestError: The file cannot be read, is larger than MAX_BYTES, or is not TOML.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RequestError(f"{path}: not a TOML file: larger than {MAX_BYTES} bytes")
        return parse_toml(path.read_text(encoding="utf-8"), path)
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
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RequestError(f"{path}: not a TOML file: {error}") from None
