"""The table history.csv of a run: one row for each epoch."""

import csv
import io
from pathlib import Path

from cifar_models.config.keys import MAX_NUMBER
from cifar_models.errors import RequestError


def history_to_csv(rows: list[dict]) -> bytes:
    """Return the table of rows, with the columns of the first row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def history_from_csv(text: str, path: Path) -> list[dict[str, float]]:
    """Return the rows of a table that `history_to_csv` wrote.

    Args:
        text: The table, possibly untrusted.
        path: Path of its file, for the error message.

    Raises:
        RequestError: There is no row, or a cell is missing, not a number or not a finite float32.
    """
    try:
        table = csv.DictReader(io.StringIO(text, newline=""))
        rows = [{name: float(cell) for name, cell in row.items()} for row in table]
        if not rows:
            raise ValueError("it has no row")
        for number, row in enumerate(rows, 1):
            # NaN is not either. Larger numbers would overflow in sums and figures.
            if not all(-MAX_NUMBER <= value <= MAX_NUMBER for value in row.values()):
                raise ValueError(f"row {number} holds a number that is not finite or too large")
        return rows
    except (ValueError, TypeError, csv.Error) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
