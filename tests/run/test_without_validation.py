"""A recipe that trains on every image: nothing is chosen, nothing else pretends to be."""

import csv
import json

import pytest

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe
from cifar_models.evaluation.flops import flops_per_image
from cifar_models.models.catalog import build_network
from tests.conftest import TINY_CNN, as_overrides

EVERY_IMAGE = as_overrides([*TINY_CNN, "data.validation_fraction=0", "training.keep=last"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("every-image") / "run"
    assert main([*EVERY_IMAGE, "--set", "augmentation.tta_views=6", "--run", str(folder)]) == 0
    return folder


def test_every_image_is_trained_on_and_history_has_no_validation(run):
    dataset = json.loads((run / "dataset.json").read_text())
    assert (dataset["train_images"], dataset["validation_images"]) == (1437, 0)
    with (run / "history.csv").open(newline="") as rows:
        columns = csv.DictReader(rows).fieldnames
    assert "train_loss" in columns and not any("validation" in column for column in columns)
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["best_epoch"], metrics["split"], metrics["tta_views"]) == (2, "test", 6)
    assert (run / "plots" / "curves.png").exists()
    recipe = read_recipe(str(run / "recipe.toml"))
    one_view = flops_per_image(build_network(recipe.model, (8, 8, 1), 10))
    assert metrics["flops_per_image"] == 6 * one_view


def test_it_is_evaluated_exported_and_compared(run, tmp_path, capsys):
    accuracy = json.loads((run / "metrics.json").read_text())["accuracy"]
    assert main(["evaluate", str(run)]) == 0
    assert f"{accuracy:.6f}" in capsys.readouterr().out
    assert main(["export", str(run), "--format", "saved_model", "--out", str(tmp_path / "e")]) == 0
    assert main(["compare", str(run), "--out", str(tmp_path / "page")]) == 0


def test_there_is_no_validation_split_to_measure(run, capsys):
    assert main(["evaluate", str(run), "--split", "validation"]) == 2
    assert "has no validation split" in capsys.readouterr().err


def test_a_search_needs_a_validation_split(tmp_path, capsys):
    recipe = tmp_path / "all.toml"
    recipe.write_text(
        '[data]\ndataset = "digits"\nvalidation_fraction = 0\n[training]\nkeep = "last"\n'
        '[search]\n"training.momentum" = { low = 0.5, high = 0.9 }\n'
    )
    out = tmp_path / "search"
    assert main(["tune", str(recipe), "--trials", "1", "--out", str(out)]) == 2
    assert "a search needs a validation split" in capsys.readouterr().err


@pytest.mark.parametrize("override", ["training.keep=best", "training.early_stopping_epochs=2"])
def test_what_needs_validation_is_refused(override, tmp_path, capsys):
    assert main([*EVERY_IMAGE, "--set", override, "--run", str(tmp_path / "run")]) == 2
    assert "if data.validation_fraction is 0" in capsys.readouterr().err
