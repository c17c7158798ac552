"""The tables of a comparison: cells for HTML, Markdown and CSV."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cifar_models.comparison.comparison import Comparison
from cifar_models.comparison.learning_curves import crossings
from cifar_models.comparison.models import Model
from cifar_models.comparison.run_metrics import COSTS, SCORES, scores_in_order
from cifar_models.comparison.runtimes import NOT_MEASURED, RUNTIME_COLUMNS, runtime_rows
from cifar_models.comparison.significance import Interval
from cifar_models.runtime.text import markdown_escaped

PERCENTAGES = set(SCORES) - {"loss"}


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
    """Return the tables without the columns that were not measured, conclusions and caveats."""
    titles = columns(comparison)
    rows = [["model", "runs", *titles.values()]]
    rows += [
        [model.name, str(len(model.runs)), *(cell.text for cell in cells(model, titles))]
        for model in comparison.models
    ]
    parts = [_markdown_table(rows)]
    conclusions = [pair.describe() for pair in comparison.pairs]
    conclusions += crossings(comparison.curves)
    for heading, sentences in (("Conclusions", conclusions), ("Caveats", comparison.caveats)):
        if sentences:
            parts += [
                f"## {heading}",
                "\n".join(f"- {markdown_escaped(each)}" for each in sentences),
            ]
    if runtimes := runtime_rows(comparison):
        rows = [["model", "runtime", "runs", *RUNTIME_COLUMNS.values()]]
        rows += [[row.model, row.runtime, str(row.runs), *row.texts()] for row in runtimes]
        parts += ["## Runtimes", _markdown_table(rows)]
    return "\n\n".join(parts) + "\n"


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, of which the first is the header, without columns that were not measured."""
    measured = [column for column in zip(*rows, strict=True) if set(column[1:]) != {NOT_MEASURED}]
    escaped = [[markdown_escaped(text) for text in row] for row in zip(*measured, strict=True)]
    escaped.insert(1, ["---"] * len(measured))
    return "\n".join("| " + " | ".join(row) + " |" for row in escaped)


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
