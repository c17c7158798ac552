"""The output of `predict` and `explain`: lines on the screen, a CSV file or a JSON file."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_models.errors import RequestError, RunError
from cifar_models.evaluation.image_predictions import ImagePrediction
from cifar_models.runtime.text import printable
from cifar_models.storage.atomic_files import write_bytes_atomic

if TYPE_CHECKING:
    from cifar_models.explain.explain_files import Explanation


def check_target(path: Path) -> None:
    """Raise RequestError if a file cannot be written, before hours of work are lost."""
    if not path.parent.is_dir():
        raise RequestError(f"{path}: there is no folder {path.parent}; create it")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise RequestError(f"{path}: is no regular file; choose another name")


def checked(predictions: Iterable[ImagePrediction], is_strict: bool) -> Iterator[ImagePrediction]:
    """Yield predictions, and raise RunError for files that could not be read.

    Args:
        predictions: The predictions.
        is_strict: Whether to stop at the first such file, and not after all others.
    """
    unreadable = readable = 0
    for prediction in predictions:
        if prediction.problem:
            unreadable += 1
        else:
            readable += 1
        if unreadable and is_strict:
            raise RunError(f"{prediction.path}: {prediction.problem}")
        yield prediction
    if unreadable:
        raise RunError(f"{unreadable:,} of {unreadable + readable:,} files could not be read")


def print_predictions(predictions: Iterable[ImagePrediction], top: int) -> None:
    """Print a line for each file: its path, then classes with their probabilities."""
    for prediction in predictions:
        classes = "  ".join(f"{name} {value:.1%}" for name, value in prediction.top(top))
        print(printable(f"{prediction.path}: {prediction.problem or classes}"), flush=True)


def print_explanations(explanations: "Iterable[Explanation]", out: Path) -> None:
    """Print a line for each picture: its figure, its class, and the areas of each method."""
    for each in explanations:
        areas = (
            f"{method}: deletion {each.deletion[method]:.2f}, insertion {insertion:.2f}"
            for method, insertion in each.insertion.items()
        )
        label = f"{each.label} {each.probability:.1%}"
        print(printable(f"{out / each.figure}: {label}; {'; '.join(areas)}"), flush=True)


def write_csv(predictions: Iterable[ImagePrediction], top: int, path: Path) -> None:
    """Write a row for each file: path, class and probability of the first places, problem."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    places = [f"{what}_{place}" for place in range(1, top + 1) for what in ("class", "probability")]
    writer.writerow(["path", *places, "problem"])
    try:
        for prediction in predictions:
            cells = [cell for place in prediction.top(top) for cell in place]
            cells += [""] * (len(places) - len(cells))
            writer.writerow([prediction.path, *cells, prediction.problem])
    except RunError:  # files could not be read; the rows of the others are there
        _write(path, content.getvalue())
        raise
    _write(path, content.getvalue())


def write_json(predictions: Iterable[ImagePrediction], top: int, path: Path) -> None:
    """Write a list with an object for each file: path, classes with probabilities, problem."""
    content: list[dict] = []
    try:
        for prediction in predictions:
            classes = [{"class": name, "probability": value} for name, value in prediction.top(top)]
            content.append(
                {"path": prediction.path, "classes": classes, "problem": prediction.problem}
            )
    except RunError:  # as in `write_csv`
        _write(path, json.dumps(content, indent=1) + "\n")
        raise
    _write(path, json.dumps(content, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # the name of a class in an untrusted file
        content = text.encode("utf-8", "backslashreplace")
    write_bytes_atomic(path.parent, path.name, content)
