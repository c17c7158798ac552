"""Runs without a validation split: what they record, and what they cannot do."""

import json

import pytest

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe
from cifar_models.evaluation.flops import flops_per_image
from cifar_models.models.catalog import build_network
from tests.conftest import TINY_CNN, as_overrides, read_history, read_metrics, refusal

WITHOUT_VALIDATION = as_overrides([*TINY_CNN, "data.validation_fraction=0", "training.keep=last"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("without-validation") / "run"
    assert (
        main([*WITHOUT_VALIDATION, "--set", "augmentation.tta_views=6", "--run", str(folder)]) == 0
    )
    return folder


def test_every_image_is_trained_on_and_the_history_has_no_validation(run):
    dataset = json.loads((run / "dataset.json").read_text())
    assert (dataset["train_images"], dataset["validation_images"]) == (1437, 0)
    columns = read_history(run)[0].keys()
    assert "train_loss" in columns and not any("validation" in column for column in columns)
    metrics = read_metrics(run)
    assert (metrics["best_epoch"], metrics["split"], metrics["tta_views"]) == (2, "test", 6)
    assert (run / "plots" / "curves.png").exists()
    recipe = read_recipe(str(run / "recipe.toml"))
    one_view = flops_per_image(build_network(recipe.model, (8, 8, 1), 10))
    assert metrics["flops_per_image"] == 6 * one_view


@pytest.mark.slow
def test_the_run_can_be_evaluated_exported_and_compared(run, tmp_path, capsys):
    accuracy = read_metrics(run)["accuracy"]
    assert main(["evaluate", str(run)]) == 0
    assert f"{accuracy:.6f}" in capsys.readouterr().out
    assert main(["export", str(run), "--format", "saved_model", "--out", str(tmp_path / "e")]) == 0
    assert main(["compare", str(run), "--out", str(tmp_path / "report")]) == 0


def test_evaluation_on_the_validation_split_is_refused(run, capsys):
    error = refusal(capsys, "evaluate", run, "--split", "validation")
    assert "has no validation split" in error


def test_a_search_holds_out_validation_images_and_the_best_recipe_does_not(tmp_path):
    """A tenth of the 1,437 training images of the digits, rounded by class."""
    recipe, out = tmp_path / "all.toml", tmp_path / "search"
    recipe.write_text(
        '[data]\ndataset = "digits"\nvalidation_fraction = 0\n'
        "[model]\nimage_size = 8\nstem_filters = 4\nstage_filters = [4]\nstage_blocks = [1]\n"
        '[training]\nepochs = 1\nkeep = "last"\n'
        '[search]\n"training.momentum" = { low = 0.5, high = 0.9 }\n'
    )
    assert main(["tune", str(recipe), "--trials", "1", "--out", str(out)]) == 0
    info = json.loads((out / "trials" / "0001" / "dataset.json").read_text())
    assert info["train_images"] + info["validation_images"] == 1437
    assert 140 <= info["validation_images"] <= 148
    assert read_recipe(out / "best.toml").data.validation_fraction == 0


@pytest.mark.parametrize("override", ["training.keep=best", "training.early_stopping_epochs=2"])
def test_options_that_need_validation_are_refused(override, tmp_path, capsys):
    error = refusal(capsys, *WITHOUT_VALIDATION, "--set", override, "--run", tmp_path / "run")
    assert "if data.validation_fraction is 0" in error
