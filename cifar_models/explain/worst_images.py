"""`worst`: the images that a run gets most wrong, and labels that may be wrong."""

import csv
import io
import math
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from cifar_models.data.splits import Split
from cifar_models.errors import RequestError
from cifar_models.evaluation.pages import page_bytes, page_template, png_base64
from cifar_models.run.load import FinishedRun
from cifar_models.storage.atomic_files import write_bytes_atomic
from cifar_models.storage.disk_errors import disk_errors

SMALLEST = float(np.finfo(np.float32).tiny)  # a probability of 0 has no logarithm
PAGE, TABLE = "worst.html", "worst.csv"


@dataclass(frozen=True)
class WorstImage:
    """An image with a low probability of its class.

    Attributes:
        index: Its place in the split.
        path: Path of its file; empty if the data set is no folder.
        label: Its class in the data set.
        probability: Probability of that class.
        predicted: The most probable class.
        predicted_probability: Probability of that class.
        loss: Cross entropy, nats.
    """

    index: int
    path: str
    label: str
    probability: float
    predicted: str
    predicted_probability: float
    loss: float


@dataclass(frozen=True)
class WorstReport:
    """What `worst` found.

    Attributes:
        mistakes: The images of another class than predicted, the highest loss first.
        num_mistakes: Number of all mistakes.
        suspects: Images whose label may be wrong, the most likely first. None: cleanlab, which
            finds them, is not installed.
        num_suspects: Number of all such images.
        page: Path of the page.
    """

    mistakes: list[WorstImage]
    num_mistakes: int
    suspects: list[WorstImage] | None
    num_suspects: int
    page: Path


def find_worst(run: FinishedRun, out: Path, count: int, data_dir: str | None = None) -> WorstReport:
    """Write worst.html and worst.csv: the images that a run gets most wrong.

    They are of its evaluation split: the test split, or the validation split of a search's trial.

    cleanlab's confident learning finds labels that may be wrong: images that the run assigns to
    another class with more than that class's usual probability. The run was not trained on
    these images, as the method requires.

    Args:
        run: The finished run.
        out: Folder of the page. Older files of the same names are replaced.
        count: Number of images of each kind, at most.
        data_dir: Folder in which TensorFlow Datasets keeps its data. None: as in the recipe.

    Raises:
        RequestError: The data have changed, or the count is below 1.
        RunError: The data cannot be loaded, or a file cannot be written.

    Source: Northcutt, Jiang and Chuang (2021), arXiv:1911.00068.
    """
    if count < 1:
        raise RequestError(f"--count {count}: must be at least 1")
    splits = run.load_measured_data(data_dir)[1]
    labels, probabilities = run.labels, run.probabilities
    split = splits.validation if run.metrics.split == "validation" else splits.test
    if split is None or not np.array_equal(split.labels, labels):
        raise RequestError(
            f"{run.path}: predictions.npz is of other images; evaluate the run again"
        )
    predicted = probabilities.argmax(axis=1)
    of_label = probabilities[np.arange(len(labels)), labels]
    order = np.argsort(of_label, kind="stable")
    mistakes = order[predicted[order] != labels[order]]
    suspects = _suspects(labels, probabilities)

    def describe(indices: np.ndarray) -> list[WorstImage]:
        return [_worst_image(run, split, int(index)) for index in indices[:count]]

    report = WorstReport(
        mistakes=describe(mistakes),
        num_mistakes=len(mistakes),
        suspects=None if suspects is None else describe(suspects),
        num_suspects=0 if suspects is None else len(suspects),
        page=out / PAGE,
    )
    with disk_errors(out, "repeat the command"):
        out.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(out, PAGE, page_bytes(_html(report, run, split)))
        write_bytes_atomic(out, TABLE, _csv(report).encode("utf-8", "surrogateescape"))
    return report


def _suspects(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray | None:
    """Return the indices of labels that may be wrong, or None if cleanlab is not installed."""
    if not find_spec("cleanlab"):
        return None
    from cleanlab.filter import find_label_issues

    return find_label_issues(
        labels,
        probabilities,
        filter_by="confident_learning",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )


def _worst_image(run: FinishedRun, split: Split, index: int) -> WorstImage:
    label, row, names = int(run.labels[index]), run.probabilities[index], run.class_names
    best = int(row.argmax())
    return WorstImage(
        index=index,
        path="" if split.files is None else split.files[index],
        label=names[label],
        probability=float(row[label]),
        predicted=names[best],
        predicted_probability=float(row[best]),
        loss=-math.log(max(float(row[label]), SMALLEST)),
    )


def _html(report: WorstReport, run: FinishedRun, split: Split) -> str:
    shown = {each.index for each in (*report.mistakes, *(report.suspects or []))}
    indices = np.array(sorted(shown), int)
    pictures = dict(zip(indices.tolist(), map(png_base64, split.images_at(indices)), strict=True))
    return page_template("cifar_models.explain", "worst.html").render(
        report=report, run=run, pictures=pictures
    )


def _csv(report: WorstReport) -> str:
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    columns = [field.name for field in fields(WorstImage)]
    writer.writerow(["list", *columns])
    for name, images in (("mistake", report.mistakes), ("suspect", report.suspects or [])):
        for each in images:
            writer.writerow([name, *(getattr(each, column) for column in columns)])
    return content.getvalue()
