"""A table of image files and their labels, as a CSV file."""

import csv
import os
from pathlib import Path

import numpy as np

from cifar_models.data.file_paths import FilePaths
from cifar_models.data.folder_layout import ALL, SPLIT_OF, FolderLayout, ImageFiles
from cifar_models.errors import RequestError

PATH, LABEL, SPLIT = "path", "label", "split"


def read_label_table(path: Path, class_names: tuple[str, ...] | None = None) -> FolderLayout:
    """Read a CSV file with the columns path and label, and split if the table has splits.

    Other columns are not read. A path is relative to the folder of the table. A split is train,
    val (or valid, validation, dev) or test.

    Args:
        path: Path of the table, in UTF-8.
        class_names: As for `find_images`. None: the labels in alphabetical order.

    Raises:
        RequestError: The table cannot be read, lacks a column, or has a row without a label, with
            an unknown label or split, or of a file that is listed before.
    """
    rows = _rows(path)
    names = class_names or tuple(sorted({row[LABEL] for _, row in rows}))
    label_of = {name: label for label, name in enumerate(names)}
    splits: dict[str, tuple[list[str], list[int], list[str]]] = {}
    seen: set[str] = set()
    for line, row in rows:
        file = os.path.join(path.parent, row[PATH])  # noqa: PTH118  # a million of them
        if (normal := os.path.normpath(file)) in seen:
            raise RequestError(f"{path}, line {line}: {row[PATH]} is listed twice; remove one")
        seen.add(normal)
        if row[LABEL] not in label_of:
            raise RequestError(
                f"{path}, line {line}: label {row[LABEL]} is not one of the trained classes, "
                f"{', '.join(names)}"
            )
        split = SPLIT_OF.get(row[SPLIT], "") if SPLIT in row else ALL
        if not split:
            raise RequestError(
                f"{path}, line {line}: split {row[SPLIT]!r} is not one of {', '.join(SPLIT_OF)}"
            )
        files, labels, in_table = splits.setdefault(split, ([], [], []))
        files.append(file)
        labels.append(label_of[row[LABEL]])
        in_table.append(row[PATH])
    return FolderLayout(
        {
            split: ImageFiles(FilePaths.of(files), np.array(labels, np.int64))
            for split, (files, labels, _) in splits.items()
        },
        names,
        [],
        {}  # which files are held out is known
        if "test" in splits
        else {split: FilePaths.of(in_table) for split, (_, _, in_table) in splits.items()},
    )


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return (line, row) of each row of a table."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            _check_columns(path, columns)
            wanted = [column for column in (PATH, LABEL, SPLIT) if column in columns]
            rows = []
            for row in reader:
                if None in row:
                    raise RequestError(
                        f"{path}, line {reader.line_num}: has more fields than the first line has "
                        "names; put a field with a comma in double quotes"
                    )
                values = {column: (row[column] or "").strip() for column in wanted}
                rows.append((reader.line_num, values))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
    for line, row in rows:
        if not row[PATH] or not row[LABEL]:
            raise RequestError(f"{path}, line {line}: lacks a path or a label; add it")
    if not rows:
        raise RequestError(f"{path}: lists no images")
    return rows


def _check_columns(path: Path, columns: list[str]) -> None:
    """Raise RequestError if a table lacks a column, or if it is unclear which one is meant."""
    for column in (PATH, LABEL, SPLIT):
        similar = [name for name in columns if name.lower() == column]
        if similar not in ([], [column]):
            raise RequestError(
                f"{path}: the first line names {', '.join(similar)}; call one column {column}, and "
                "rename or remove others"
            )
        if not similar and column != SPLIT:
            raise RequestError(
                f"{path}: has no column {column}; its first line must name path, label "
                f"and, if there are splits, split (it names {', '.join(columns) or 'none'})"
            )
