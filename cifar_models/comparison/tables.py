"""The table of a comparison: cells for HTML, Markdown and CSV."""

import csv
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cifar_models.comparison.comparison import Comparison
from cifar_models.comparison.learning_curves import crossings
from cifar_models.comparison.models import Model
from cifar_models.comparison.run_metrics import COSTS, SCORES, scores_in_order
from cifar_models.comparison.significance import Interval
from cifar_models.runtime.text import markdown_escaped

PERCENTAGES = set(SCORES) - {"loss"}
NOT_MEASURED = "–"


@dataclass(frozen=True)
class Cell:
    """A cell of the table."""

    text: str
    value: float  # sort key; -inf if not measured


def columns(comparison: Comparison) -> dict[str, str]:
    """Return name → title of the columns of the table."""
    return {**scores_in_order(comparison.models[0].runs[0]), **COSTS}


def cells(model: Model, metrics: Iterable[str]) -> Iterator[Cell]:
    """Yield the cells of a model, one for each name of `columns`."""
    for metric in metrics:
        interval = model.interval(metric)
        if interval is None:
            yield Cell(NOT_MEASURED, -math.inf)
        elif metric in COSTS:
            yield Cell(_cost_text(interval), interval.mean)
        else:
            yield Cell(_score_text(metric, interval), interval.mean)


def _score_text(metric: str, score: Interval) -> str:
    """Return the mean and, for several runs, the interval, limited to possible values."""
    factor, digits, unit = (100, 2, " %") if metric in PERCENTAGES else (1, 4, "")
    text = f"{factor * score.mean:.{digits}f}{unit}"
    if score.count == 1:
        return text
    maximum = factor if metric in PERCENTAGES else math.inf
    low, high = max(factor * score.low, 0), min(factor * score.high, maximum)
    return f"{text} [{low:.{digits - 1}f}, {high:.{digits - 1}f}]"


def _cost_text(cost: Interval) -> str:
    return f"{cost.mean:,.{0 if cost.mean >= 100 else 2}f}"


def markdown(comparison: Comparison) -> str:
    """Return the table without the columns that were not measured, the conclusions and caveats."""
    titles = columns(comparison)
    rows = [["model", "runs", *titles.values()]]
    rows += [
        [model.name, str(len(model.runs)), *(cell.text for cell in cells(model, titles))]
        for model in comparison.models
    ]
    measured = [column for column in zip(*rows, strict=True) if set(column[1:]) != {NOT_MEASURED}]
    header, *others = zip(*measured, strict=True)
    escaped = [[markdown_escaped(text) for text in row] for row in (header, *others)]
    escaped.insert(1, ["---"] * len(header))
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    parts = ["\n".join(lines)]
    conclusions = [pair.describe() for pair in comparison.pairs]
    conclusions += crossings(comparison.curves)
    for heading, sentences in (("Conclusions", conclusions), ("Caveats", comparison.caveats)):
        if sentences:
            parts += [
                f"## {heading}",
                "\n".join(f"- {markdown_escaped(each)}" for each in sentences),
            ]
    return "\n\n".join(parts) + "\n"


def csv_table(comparison: Comparison) -> str:
    """Return the table as CSV, with full precision and the bounds of every score's interval."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    bounds = [f"{metric}{part}" for metric in SCORES for part in ("", "_low", "_high")]
    writer.writerow(["model", "runs", *bounds, *COSTS])
    for model in comparison.models:
        row: list[object] = [model.name, len(model.runs)]
        for metric in SCORES:
            score = model.interval(metric)
            row += [score.mean, score.low, score.high] if score else ["", "", ""]
        for metric in COSTS:
            cost = model.interval(metric)
            row.append(cost.mean if cost else "")
        writer.writerow(row)
    return content.getvalue()
