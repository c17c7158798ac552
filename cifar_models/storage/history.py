"""The table history.csv of a run: one row for each epoch."""

import csv
import io
from pathlib import Path

from cifar_models.errors import RequestError


def history_to_csv(rows: list[dict]) -> bytes:
    """Return the table of rows, with the columns of the first row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def read_history_csv(path: Path) -> list[dict[str, float]]:
    """Read a table that `history_to_csv` wrote.

    Raises:
        RequestError: The file is missing, or a cell is missing or is not a number.
    """
    try:
        with path.open(newline="") as file:
            return [
                {name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
