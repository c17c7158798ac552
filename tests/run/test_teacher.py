"""A transformer that learns from the features of a trained CNN."""

import hashlib
import json
import shutil

import keras
import numpy as np
import pytest

from cifar_models.cli.main import main
from cifar_models.config.architectures import ARCHITECTURES
from cifar_models.config.recipe_file import read_recipe
from cifar_models.config.run_identity import identifying_values
from cifar_models.data.pipeline import ResidentImages
from cifar_models.data.splits import ArraySplit
from cifar_models.evaluation.feature_maps import compute_feature_maps, feature_map
from cifar_models.models.catalog import build_network
from cifar_models.runtime import memory
from cifar_models.runtime.device import configure
from cifar_models.training.fit import make_batches, make_trainer
from cifar_models.training.teacher_features import TeacherFeatures
from tests.conftest import (
    SAVE_EVERY_STEP,
    TINY_CNN,
    as_overrides,
    outcome_of,
    read_metrics,
    refusal,
    run_until_killed,
)

TINY_VIT = as_overrides(
    [
        "train",
        "digits-vit",
        "training.epochs=2",
        "model.hidden_dim=16",
        "model.num_layers=1",
        "model.num_heads=2",
    ]
)
TAUGHT_VIT = [*TINY_VIT, "--set", "training.teacher_weight=0.5"]


@pytest.fixture(scope="module")
def plain_vit(tmp_path_factory):
    """Return the folder of a run that has no teacher."""
    run = tmp_path_factory.mktemp("runs") / "vit"
    assert main([*TINY_VIT, "--run", str(run)]) == 0
    return run


def random_split(num_images: int) -> ArraySplit:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num_images, 32, 32, 3), np.uint8)
    return ArraySplit(images, np.arange(num_images) % 10)


def test_features_are_standardized_outputs_of_the_last_map(float32_policy):
    network = build_network(ARCHITECTURES["residual_cnn"].config, (32, 32, 3), 10)
    split = random_split(20)
    maps = compute_feature_maps(network, split)
    assert (maps.shape, maps.dtype) == ((20, 2, 4, 4, 128), np.float16)
    # What the classifier sees is the mean of the last map.
    last = keras.Model(network.input, feature_map(network))
    pooled = keras.Model(network.input, network.get_layer("pool").output)
    np.testing.assert_allclose(
        last(split.images).numpy().mean(axis=(1, 2)), pooled(split.images), atol=1e-5
    )
    pair = np.stack([last(split.images), last(split.images[:, :, ::-1])], axis=1)
    mean, deviation = pair.mean(axis=(0, 1, 2, 3)), pair.std(axis=(0, 1, 2, 3))
    # Some channels of an untrained network are always zero.
    expected = (pair - mean) / np.where(deviation > 1e-5, deviation, 1)
    np.testing.assert_allclose(maps, expected, atol=0.02)


def test_a_channel_that_is_always_zero_stays_zero(float32_policy):
    network = build_network(ARCHITECTURES["residual_cnn"].config, (32, 32, 3), 10)
    norm = network.get_layer("stage3_block1_conv2_norm")
    shortcut = network.get_layer("stage3_block1_shortcut_norm")
    for layer in (norm, shortcut):  # ReLU of -1 + -1
        layer.gamma.assign(np.zeros(128))
        layer.beta.assign(-np.ones(128))
    assert not compute_feature_maps(network, random_split(4)).any()


@pytest.mark.parametrize("resident", ["on", "off"])
def test_the_loss_adds_the_squared_error_of_the_features_of_the_view(resident, float32_policy):
    """A flipped image is compared with the features of its mirror image."""
    overrides = [
        "training.teacher_weight=0.5",
        "training.batch_size=10",
        "training.label_smoothing=0",
        "augmentation.crop_padding=0",
    ]
    recipe = read_recipe("vit-laptop", overrides)
    split = random_split(20)
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(20, 2, 3, 3, 5)).astype(np.float16)
    network = build_network(recipe.model, (32, 32, 3), 10)
    images = ResidentImages(split, maps) if resident == "on" else None
    trainer = make_trainer(network, recipe, configure(recipe.runtime), 2, resident=images)
    trainer.add_teacher(TeacherFeatures("cnn", maps, seconds=1.0))
    batch = next(iter(make_batches(trainer, split, 0, 1)))
    if images:
        indices, flip_mask = (each.numpy() for each in batch)
    else:
        shown, _, flip_mask, _ = (each.numpy() for each in batch)
        indices = [int(np.flatnonzero((split.images == x).all(axis=(1, 2, 3)))[0]) for x in shown]
    assert 0 < flip_mask.sum() < 10

    images = split.images[indices]
    images = np.where(flip_mask[:, None, None, None], images[:, :, ::-1], images)
    logits = network(images).numpy()
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    cross_entropy = -log_probabilities[np.arange(10), split.labels[indices]].mean()
    tokens = keras.Model(network.input, network.get_layer("norm").output)(images)
    targets = maps[indices, flip_mask.astype(int)].astype(np.float32)
    error = np.mean((trainer.projection(tokens).numpy() - targets) ** 2)
    loss = float(trainer.train_step(batch)["loss"])
    assert loss == pytest.approx(cross_entropy + 0.5 * error, rel=1e-4)


@pytest.mark.slow
def test_a_taught_run_records_its_teacher_and_its_time(finished_run, plain_vit, tmp_path):
    run = tmp_path / "run"
    assert main([*TAUGHT_VIT, "--teacher", str(finished_run), "--run", str(run)]) == 0
    metrics, of_teacher = read_metrics(run), read_metrics(finished_run)
    assert metrics["teacher_seconds"] > of_teacher["train_seconds"]
    assert metrics["train_seconds"] > metrics["teacher_seconds"]
    assert metrics["teacher"] == "digits-cnn"
    fingerprints = json.loads((run / "fingerprints.json").read_text())
    digest = hashlib.sha256((finished_run / "model.keras").read_bytes()).hexdigest()
    assert fingerprints["teacher_sha256"] == digest
    # The projection of the tokens is no part of the model.
    assert metrics["parameters"] == read_metrics(plain_vit)["parameters"]
    assert read_metrics(plain_vit)["teacher_seconds"] == 0


@pytest.mark.slow
def test_a_killed_taught_run_ends_like_an_uninterrupted_one(finished_run, tmp_path):
    options = [*TAUGHT_VIT, *SAVE_EVERY_STEP, "--deterministic", "--teacher", str(finished_run)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*options, "--run", str(whole)]) == 0
    run_until_killed(7, [*options, "--run", str(killed)])
    assert main(["resume", str(killed)]) == 0
    assert outcome_of(killed) == outcome_of(whole)


def test_the_features_of_a_teacher_count_as_memory(finished_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**6)
    options = ["--teacher", finished_run, "--run", tmp_path / "run"]
    # 1,293 images, two views, 4x4 positions, 16 channels, two bytes each.
    assert f"features of the teacher ({1293 * 2 * 4 * 4 * 16 * 2 / 1e6:.1f} MB)" in refusal(
        capsys, *TAUGHT_VIT, *options
    )


def test_a_recipe_that_needs_a_teacher_says_how_to_train_one(tmp_path, capsys):
    message = refusal(capsys, *TAUGHT_VIT, "--run", tmp_path / "run")
    assert "needs a teacher" in message
    assert "train cnn-laptop --dataset digits" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (["--seed", "1"], "was trained on validation images of this run"),
        (["--set", "data.validation_fraction=0.2"], "was trained on 1,293 images"),
        (["--set", "data.train_fraction=0.5"], "was trained on 1,293 images"),
    ],
)
def test_a_teacher_of_another_split_is_refused(change, problem, finished_run, tmp_path, capsys):
    arguments = [
        *TAUGHT_VIT,
        *change,
        "--teacher",
        str(finished_run),
        "--run",
        str(tmp_path / "run"),
    ]
    assert problem in refusal(capsys, *arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("class_names", [*"abcdefghij"], "its classes are"),
        ("sha256", "0" * 64, "was trained on other data"),
    ],
)
def test_a_teacher_of_other_data_is_refused(key, value, problem, finished_run, tmp_path, capsys):
    other = tmp_path / "teacher"
    shutil.copytree(finished_run, other)
    content = json.loads((other / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps({**content, key: value}))
    message = refusal(capsys, *TAUGHT_VIT, "--teacher", other, "--run", tmp_path / "run")
    assert problem in message


def test_an_unfinished_teacher_and_a_transformer_are_refused(
    finished_run, plain_vit, tmp_path, capsys
):
    unfinished = tmp_path / "unfinished"
    shutil.copytree(finished_run, unfinished)
    (unfinished / "metrics.json").unlink()
    run = str(tmp_path / "run")
    message = refusal(capsys, *TAUGHT_VIT, "--teacher", unfinished, "--run", run)
    assert "not finished" in message
    message = refusal(capsys, *TAUGHT_VIT, "--teacher", plain_vit, "--run", run)
    assert "choose a run of a CNN" in message


@pytest.mark.parametrize(
    ("recipe", "override", "problem"),
    [
        ("cnn-laptop", "training.teacher_weight=1", "only tokens of a transformer"),
        ("vit-laptop", "training.teacher=runs/a", "must be above 0 with a teacher"),
        ("vit-laptop", "augmentation.mixup_alpha=0.2", "mixup_alpha must be off"),
    ],
)
def test_options_that_do_not_go_with_a_teacher(recipe, override, problem, capsys):
    weight = [] if "teacher=" in override else ["--set", "training.teacher_weight=1"]
    assert problem in refusal(capsys, "train", recipe, *weight, "--set", override)


@pytest.mark.slow
def test_a_changed_teacher_is_refused_by_resume(finished_run, tmp_path, capsys):
    own = tmp_path / "teacher"
    shutil.copytree(finished_run, own)
    run = tmp_path / "run"
    options = [*TAUGHT_VIT, *SAVE_EVERY_STEP, "--teacher", str(own), "--run", str(run)]
    run_until_killed(7, options)
    other = tmp_path / "other"
    assert main([*TINY_CNN, "--seed", "0", "--set", "training.epochs=1", "--run", str(other)]) == 0
    shutil.copy(other / "model.keras", own / "model.keras")
    assert "weights of the teacher have changed" in refusal(capsys, "resume", run)


def test_a_relative_path_of_a_teacher_names_the_same_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative, absolute = (
        identifying_values(read_recipe("vit-laptop-taught", [f"training.teacher={path}"]))
        for path in ("teacher", tmp_path / "teacher")
    )
    assert relative == absolute
