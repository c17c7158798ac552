"""A comparison as one self-contained page, a Markdown table, a CSV file and SVG figures."""

import base64
import csv
import io
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from cifar_models.comparison import figures as plots
from cifar_models.comparison import robustness_figures as robustness_plots
from cifar_models.comparison.comparison import Comparison
from cifar_models.comparison.learning_curves import crossings
from cifar_models.comparison.models import COSTS, SCORES, Model
from cifar_models.data.load import load_dataset
from cifar_models.errors import RequestError, RunError
from cifar_models.storage.atomic_files import write_bytes_atomic

PARETO = {
    "flops_per_image": "FLOPs/image",
    "train_seconds": "training, s",
    "latency_1_p50": "latency of one image, ms",
}
MAX_DISPUTED = 24  # images on the page
PERCENTAGES = set(SCORES) - {"loss"}
NOT_MEASURED = "–"


@dataclass(frozen=True)
class Disputed:
    """A test image that some models recognise and others do not."""

    png: str  # base64
    true_class: str
    chances: list[tuple[str, float]]  # model → mean probability of the true class


def write_report(comparison: Comparison, out: Path, command: str) -> None:
    """Writes report.html, comparison.md, comparison.csv and figures/*.svg.

    Args:
        comparison: of at least one model.
        out: the folder; made if need be, older files of these names are replaced.
        command: that repeats it.

    Raises:
        WriteError: the folder cannot be written.
    """
    measured_costs = [
        (key, label)
        for key, label in PARETO.items()
        if all(model.score(key) for model in comparison.models)
    ]
    figures = {
        "accuracies": plots.draw_accuracies(comparison),
        "training": plots.draw_training(comparison),
        "pareto": plots.draw_pareto(comparison, measured_costs),
        "reliability": plots.draw_reliability(comparison),
        "confusions": plots.draw_confusions(comparison),
        "classes": plots.draw_classes(comparison),
    }
    if all(model.robustness() for model in comparison.models):
        figures["corruptions"] = robustness_plots.draw_corruptions(comparison)
        figures["entropies"] = robustness_plots.draw_entropies(comparison)
    if comparison.curves:
        figures["learning_curves"] = plots.draw_learning_curves(comparison)
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"{out}: cannot be made: {error.strerror}") from None
    for name, svg in figures.items():
        write_bytes_atomic(out / "figures" / f"{name}.svg", svg.encode())
    environment = Environment(
        loader=PackageLoader("cifar_models.comparison", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        comparison=comparison,
        columns=[*SCORES.values(), *COSTS.values()],
        rows=[(model, list(_cells(model))) for model in comparison.models],
        figures=figures,
        robustness_images=_robustness_images(comparison),
        crossings=list(crossings(comparison.curves)),
        disputed=disputed_images(comparison),
        command=command,
        path_of=lambda run: shlex.quote(str(run.path)),
    )
    write_bytes_atomic(out / "report.html", page.encode())
    write_bytes_atomic(out / "comparison.md", markdown(comparison).encode())
    write_bytes_atomic(out / "comparison.csv", _csv(comparison).encode())


def _robustness_images(comparison: Comparison) -> str:
    """Of how many test images the corruptions were measured; models may differ in it."""
    numbers = {one["images"] for model in comparison.models for one in model.robustness()}
    return " or ".join(f"{number:,}" for number in sorted(numbers))


def markdown(comparison: Comparison) -> str:
    """The table, without the columns that nobody measured, the conclusions and the warnings."""
    rows = [["model", "runs", *SCORES.values(), *COSTS.values()]]
    rows += [
        [model.name, str(len(model.runs)), *(text for text, _ in _cells(model))]
        for model in comparison.models
    ]
    columns = [column for column in zip(*rows, strict=True) if set(column[1:]) != {NOT_MEASURED}]
    header, *others = zip(*columns, strict=True)
    lines = ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *others]]
    sentences = [f"- {pair.conclusion()}" for pair in comparison.pairs]
    sentences += [f"- {sentence}" for sentence in crossings(comparison.curves)]
    warnings = [f"- {warning}" for warning in comparison.warnings]
    parts = [lines, ["## What follows", "", *sentences] if sentences else []]
    parts += [["## Before you believe it", "", *warnings] if warnings else []]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _cells(model: Model) -> Iterator[tuple[str, float]]:
    """(text, number to sort by) for each column."""
    for key in (*SCORES, *COSTS):
        score = model.score(key)
        if score is None:
            yield NOT_MEASURED, float("-inf")
        elif key in COSTS:
            yield f"{score.mean:,.{0 if score.mean >= 100 else 2}f}", score.mean
        else:
            factor, digits, unit = (100, 2, " %") if key in PERCENTAGES else (1, 4, "")
            text = f"{factor * score.mean:.{digits}f}{unit}"
            if score.count > 1:
                most = factor if key in PERCENTAGES else math.inf  # a mean near 100 % would pass it
                low, high = max(factor * score.low, 0), min(factor * score.high, most)
                text += f" [{low:.{digits - 1}f}, {high:.{digits - 1}f}]"
            yield text, score.mean


def _csv(comparison: Comparison) -> str:
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    bounds = [f"{key}{part}" for key in SCORES for part in ("", "_low", "_high")]
    writer.writerow(["model", "runs", *bounds, *COSTS])
    for model in comparison.models:
        scores = [model.score(key) for key in SCORES]
        costs = [model.score(key) for key in COSTS]
        numbers = [value for s in scores for value in ((s.mean, s.low, s.high) if s else [""] * 3)]
        writer.writerow(
            [model.name, len(model.runs), *numbers, *(cost.mean if cost else "" for cost in costs)]
        )
    return content.getvalue()


def disputed_images(comparison: Comparison) -> list[Disputed]:
    """The test images on which the models' chances of the true class lie furthest apart.

    None where there is one model, or where the data are not on this machine.
    """
    first = comparison.models[0].runs[0]
    if len(comparison.models) == 1:
        return []
    try:
        test = load_dataset(first.recipe.data, may_download=False).test
    except (RequestError, RunError):
        return []
    if not np.array_equal(test.labels, first.labels):
        return []
    rows = np.arange(len(first.labels))
    chances = np.stack(
        [
            np.mean([run.probabilities[rows, run.labels] for run in model.runs], axis=0)
            for model in comparison.models
        ]
    )  # (models, N)
    apart = np.argsort(-np.ptp(chances, axis=0), kind="stable")[:MAX_DISPUTED]
    names = first.dataset["class_names"]
    return [
        Disputed(
            _png(test.images[place]),
            names[first.labels[place]],
            [
                (model.name, float(chances[number, place]))
                for number, model in enumerate(comparison.models)
            ],
        )
        for place in apart
    ]


def _png(image: np.ndarray) -> str:
    """(H, W, C) → base64."""
    content = io.BytesIO()
    Image.fromarray(image.squeeze()).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()
