"""A data source can be added from outside this package."""

import json

import numpy as np

from cifar_models.cli.main import main
from cifar_models.config.recipe import Recipe
from cifar_models.data.dataset import Dataset
from cifar_models.data.load import DATA_SOURCES, DataSource
from cifar_models.data.splits import ArraySplit
from tests.conftest import TINY_CNN, as_overrides, read_metrics


def load_stripes(recipe: Recipe, may_download: bool) -> Dataset:
    """Return gray images of 8x8 pixels with horizontal or vertical stripes."""
    count = int(recipe.data.dataset.partition(":")[2])
    rows = np.tile(np.arange(8)[:, None] % 2 * 255, (1, 8)).astype(np.uint8)
    images = np.stack([rows, rows.T] * count)[..., np.newaxis]
    split = ArraySplit(images, np.arange(2 * count) % 2)
    return Dataset(recipe.data.dataset, split, split, ("horizontal", "vertical"))


def test_a_data_source_can_be_added_from_outside(tmp_path, monkeypatch, capsys):
    source = DataSource(f"{__name__}:load_stripes", "stripes:N with N images of each class")
    monkeypatch.setitem(DATA_SOURCES, "stripes:", source)
    assert main(["list", "datasets"]) == 0
    assert "stripes:N with N images of each class" in capsys.readouterr().out
    run = tmp_path / "run"
    command = [*TINY_CNN, "training.batch_size=16", "training.epochs=1"]
    assert main([*as_overrides(command), "--dataset", "stripes:50", "--run", str(run)]) == 0
    description = json.loads((run / "dataset.json").read_text())
    assert description["name"] == "stripes:50"
    assert description["class_names"] == ["horizontal", "vertical"]
    assert description["test_images"] == 100
    assert read_metrics(run)["epochs"] == 1
