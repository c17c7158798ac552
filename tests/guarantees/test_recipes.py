"""Every recipe of the project trains end to end, and resumes after it was killed."""

import pytest

from cifar_models.cli.main import main
from cifar_models.config.architectures import (
    AirbenchConfig,
    CCTConfig,
    ConvViTConfig,
    ResidualCNNConfig,
    ViTConfig,
)
from cifar_models.config.recipe_file import read_recipe, recipe_paths
from tests.conftest import SAVE_EVERY_STEP, as_overrides, outcome_of, read_metrics, run_until_killed

TRANSFORMER = ("hidden_dim=16", "num_layers=1", "num_heads=2", "mlp_dim=16")
# Overrides that keep the training of the recipe but make its network small.
SMALL_NETWORK = {
    ResidualCNNConfig: ("stem_filters=4", "stage_filters=[4, 4]", "stage_blocks=[1, 1]"),
    AirbenchConfig: ("stage_filters=[4, 4]",),
    ViTConfig: TRANSFORMER,
    CCTConfig: TRANSFORMER,
    ConvViTConfig: ("stage_filters=[4, 4]", *TRANSFORMER[1:]),
}
SHORT_TRAINING = [
    "data.dataset=digits",
    "data.train_fraction=0.1",
    "training.batch_size=32",
    "training.epochs=3",
    "augmentation.crop_padding=2",
    "augmentation.cutout_size=0",
]
CIFAR10_RECIPES = [name for name in recipe_paths() if read_recipe(name).data.dataset == "cifar10"]


def test_the_documented_recipes_exist():
    promised = {"cnn", "vit", "hybrid", "cnn-fast", "cnn-strong", "cnn-best", "resnet18"}
    promised |= {"cnn-laptop", "vit-laptop", "vit-laptop-taught", "hybrid-laptop"}
    assert promised <= set(CIFAR10_RECIPES)


@pytest.mark.slow
@pytest.mark.parametrize("name", CIFAR10_RECIPES)
def test_a_recipe_trains_and_resumes(name, finished_run, tmp_path, without_figures, float32_policy):
    small_network = [
        f"model.{override}" for override in SMALL_NETWORK[type(read_recipe(name).model)]
    ]
    arguments = [*as_overrides(["train", name, *SHORT_TRAINING, *small_network]), "--deterministic"]
    if read_recipe(name).training.teacher_weight:
        # A teacher may have seen no more images than the run.
        arguments += ["--teacher", str(finished_run), "--set", "data.train_fraction=1"]
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    assert main([*arguments, "--run", str(uninterrupted)]) == 0
    run_until_killed(6, [*arguments, *SAVE_EVERY_STEP, "--run", str(killed)])
    assert main(["resume", str(killed)]) == 0
    assert outcome_of(killed) == outcome_of(uninterrupted)
    assert read_metrics(uninterrupted)["recipe"] == name
