"""Every recipe of the project trains end to end, and goes on when it was killed."""

import json

import pytest

from cifar_models.cli.main import main
from cifar_models.config.architectures import (
    AirbenchConfig,
    CCTConfig,
    ResidualCNNConfig,
    ViTConfig,
)
from cifar_models.config.recipe_file import read_recipe, recipe_paths
from cifar_models.run import record
from tests.conftest import EVERY_STEP, as_overrides, killed_at, outcome_of

TRANSFORMER = ("hidden_dim=16", "num_layers=1", "num_heads=2", "mlp_dim=16")
# The recipe's own training on a network that a test can afford.
SHRUNK = {
    ResidualCNNConfig: ("stem_filters=4", "stage_filters=[4, 4]", "stage_blocks=[1, 1]"),
    AirbenchConfig: ("stage_filters=[4, 4]",),
    ViTConfig: TRANSFORMER,
    CCTConfig: TRANSFORMER,
}
SMALL = [
    *("data.dataset=digits", "data.train_fraction=0.1", "training.batch_size=32"),
    *("training.epochs=3", "augmentation.crop_padding=2", "augmentation.cutout_size=0"),
]
OF_CIFAR10 = [name for name in recipe_paths() if read_recipe(name).data.dataset == "cifar10"]


def test_the_promised_recipes_are_there():
    promised = {"cnn", "vit", "hybrid", "cnn-fast", "cnn-strong", "cnn-best", "resnet18"}
    assert promised <= set(OF_CIFAR10)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_CIFAR10)
def test_a_recipe_trains_and_resumes(name, tmp_path, monkeypatch, float32_policy):
    monkeypatch.setattr(record, "draw_figures", lambda *arguments: None)
    monkeypatch.setattr(record, "record_in_tensorboard", lambda *arguments: None)
    shrunk = [f"model.{override}" for override in SHRUNK[type(read_recipe(name).model)]]
    arguments = [*as_overrides(["train", name, *SMALL, *shrunk]), "--deterministic"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*arguments, "--run", str(whole)]) == 0
    killed_at(6, [*arguments, *EVERY_STEP, "--run", str(killed)])
    assert main(["resume", str(killed)]) == 0
    assert outcome_of(killed) == outcome_of(whole)
    assert json.loads((whole / "metrics.json").read_text())["recipe"] == name
