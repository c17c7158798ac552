"""The worst test images, and labels that cleanlab suspects."""

import csv
import json
import math
import shutil

import numpy as np
import pytest

from cifar_models.cli.main import main
from cifar_models.explain import worst_images
from cifar_models.run.load import load_run
from tests.conftest import refusal


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_highest_losses_come_first(finished_run, tmp_path, capsys):
    assert main(["worst", str(finished_run), "--count", "5", "--out", str(tmp_path)]) == 0
    run = load_run(finished_run)
    wrong = run.probabilities.argmax(axis=1) != run.labels
    assert f"{wrong.sum()} mistakes" in capsys.readouterr().out
    rows = [row for row in rows_of(tmp_path / "worst.csv") if row["list"] == "mistake"]
    of_label = run.probabilities[np.arange(360), run.labels]
    expected = sorted(np.flatnonzero(wrong), key=lambda index: of_label[index])[:5]
    assert [int(row["index"]) for row in rows] == expected
    for row in rows:
        index = int(row["index"])
        assert row["label"] == str(run.labels[index]) != row["predicted"]
        assert float(row["loss"]) == pytest.approx(-math.log(of_label[index]))
    page = (tmp_path / "worst.html").read_text()
    assert page.count("<img") == len(rows_of(tmp_path / "worst.csv"))
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_a_wrong_label_is_suspected(run_copy, tmp_path, monkeypatch):
    """The run is sure of every image, and two labels are wrong."""
    pytest.importorskip("cleanlab", reason="needs the extra labels")
    run = load_run(run_copy)
    labels = run.labels.copy()
    sure = np.full((360, 10), 0.01, np.float32)
    sure[np.arange(360), labels] = 0.91
    labels[[7, 100]] = (labels[[7, 100]] + 1) % 10
    suspects = worst_images._suspects(labels, sure)
    assert sorted(suspects.tolist()) == [7, 100]


def test_without_cleanlab_the_page_says_so(finished_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(worst_images, "find_spec", lambda name: None)
    assert main(["worst", str(finished_run), "--out", str(tmp_path)]) == 0
    assert "pip install '.[labels]'" in capsys.readouterr().out
    assert "cleanlab is not installed" in (tmp_path / "worst.html").read_text()


def test_wrong_requests(finished_run, run_copy, tmp_path, capsys):
    error = refusal(capsys, "worst", finished_run, "--count", "0", "--out", tmp_path)
    assert "--count 0: must be at least 1" in error
    info = json.loads((run_copy / "dataset.json").read_text())
    info["sha256"] = "0" * 64
    (run_copy / "dataset.json").write_text(json.dumps(info))
    assert "its data have changed" in refusal(capsys, "worst", run_copy, "--out", tmp_path)
    shutil.rmtree(run_copy)
    assert "not a run folder" in refusal(capsys, "worst", run_copy, "--out", tmp_path)
