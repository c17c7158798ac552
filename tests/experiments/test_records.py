"""The records under experiments/records/ are complete, and the tables and the figure show them."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cifar_models.config.recipe_file import EXPERIMENTS
from experiments.read_records import read_results
from experiments.results_table import (
    FIGURE,
    FULL_TABLE,
    README,
    points_of,
    readme_results,
    results_files,
)
from tests.conftest import read_metrics
from tests.experiments.test_results_table import read_points

ROOT = EXPERIMENTS.parent
RECORDS = EXPERIMENTS / "records"
RECORD_FOLDERS = sorted(path for path in RECORDS.iterdir() if path.is_dir())
RUNS = sorted(path.parent for path in RECORDS.rglob("metrics.json"))
FILES = (
    "recipe.toml",
    "environment.json",
    "dataset.json",
    "metrics.json",
    "history.csv",
    "log.txt",
)
MAX_BYTES = 5_000_000


def relative(path: Path) -> str:
    return path.relative_to(RECORDS).as_posix()


@pytest.mark.parametrize("name", [README, FULL_TABLE])
def test_the_tables_are_up_to_date(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text == results_files(ROOT)[ROOT / name], "run make results; do not edit the table"


def test_the_figure_is_up_to_date():
    shown = readme_results(ROOT, read_results(RECORDS))
    assert len(shown) >= 5
    assert read_points(ROOT / FIGURE) == points_of(shown), "run make results"


@pytest.mark.parametrize("run", RUNS, ids=relative)
def test_every_run_is_complete(run):
    for name in FILES:
        assert (run / name).is_file() and (run / name).stat().st_size, f"{run} lacks {name}"
    environment = json.loads((run / "environment.json").read_text())
    assert {"command", "commit", "device", "packages"} <= set(environment)
    metrics = read_metrics(run)
    assert len((run / "history.csv").read_text().splitlines()) == 1 + metrics["epochs"]
    assert f"accuracy {metrics['accuracy']:.4f}" in (run / "log.txt").read_text()


@pytest.mark.parametrize("run", RUNS, ids=relative)
def test_every_accuracy_follows_from_the_predictions(run):
    if not (run / "predictions.npz").is_file():
        pytest.skip("a record of many seeds may leave the predictions out")
    with np.load(run / "predictions.npz") as predictions:
        is_correct = predictions["probabilities"].argmax(axis=1) == predictions["labels"]
    assert read_metrics(run)["accuracy"] == pytest.approx(is_correct.mean(), abs=1e-12)


@pytest.mark.parametrize("record", RECORD_FOLDERS, ids=relative)
def test_the_readme_of_every_record_has_the_results(record):
    lines = (record / "README.md").read_text(encoding="utf-8").splitlines()
    text = "\n".join(lines)
    assert lines[0].startswith("# ")
    prose = [line for line in lines[1:] if line and not line.startswith("|")]
    assert len(prose) <= 12, f"{record}: README.md has {len(prose)} lines; about ten are enough"
    for heading in ("What", "Why", "Data", "Result", "Time"):
        assert f"\n- {heading}" in text, f"{record}: README.md has no line - {heading}"
    results = [result for result in read_results(RECORDS) if result.record == record.name]
    assert results
    for result in results:
        assert result.accuracy in text, f"{record}: README.md does not say {result.accuracy}"
        assert re.search(rf"\bn = {len(result.runs)}\b", text)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_no_file_of_a_record_is_ignored_by_git():
    command = ["git", "status", "--porcelain", "--ignored", "--", str(RECORDS)]
    status = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    ignored = [line for line in status.splitlines() if line.startswith("!!")]
    assert not ignored, "a clone would lack these files"


def test_no_record_holds_a_large_file_or_a_checkpoint():
    for path in RECORDS.rglob("*"):
        assert path.name != "checkpoints", path
        assert not path.is_file() or path.stat().st_size <= MAX_BYTES, path
