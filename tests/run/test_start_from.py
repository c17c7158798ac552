"""Runs that start from the weights of another run: what is copied, what is new, what is frozen."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe
from cifar_models.config.training import OPTIMIZERS
from cifar_models.errors import RequestError
from cifar_models.models.catalog import build_network
from cifar_models.optimizers.optimizers import make_optimizer
from cifar_models.run.load import load_run
from cifar_models.training.start_weights import (
    body_variables,
    copy_weights,
    freeze_body,
    interpolated_positions,
)
from tests.conftest import (
    SAVE_EVERY_STEP,
    TINY_CNN,
    as_overrides,
    outcome_of,
    read_history,
    refusal,
    run_until_killed,
    write_noise_images,
)

VIT = ["model.hidden_dim=16", "model.num_layers=2", "model.mlp_dim=16", "model.num_heads=2"]


def network_of(recipe: str, num_classes: int, *overrides: str, size: int = 8) -> keras.Model:
    resolved = read_recipe(recipe, [*overrides, f"model.image_size={size}"])
    return build_network(resolved.model, (size, size, 1), num_classes)


def weights_of(network: keras.Model) -> dict[str, np.ndarray]:
    return {weight.path: np.asarray(weight) for weight in network.weights}


def test_all_layers_are_copied_if_the_classes_are_the_same():
    source, network = (network_of("digits-cnn", 10, "model.stage_filters=[4, 4]") for _ in range(2))
    copy_weights(source, network, has_same_classes=True)
    for path, weight in weights_of(network).items():
        np.testing.assert_array_equal(weight, weights_of(source)[path])


@pytest.mark.parametrize("num_classes", [3, 10])
def test_other_classes_get_a_new_classifier(num_classes):
    source = network_of("digits-vit", 10, *VIT)
    network = network_of("digits-vit", num_classes, *VIT)
    before = weights_of(network)
    copy_weights(source, network, has_same_classes=False)
    for path, weight in weights_of(network).items():
        expected = before if path.startswith("classifier") else weights_of(source)
        np.testing.assert_array_equal(weight, expected[path])


def test_another_size_interpolates_the_positions():
    source = network_of("digits-vit", 10, *VIT)
    network = network_of("digits-vit", 10, *VIT, size=16)
    copy_weights(source, network, has_same_classes=True)
    (positions,) = (w for path, w in weights_of(network).items() if "position" in path)
    (before,) = (w for path, w in weights_of(source).items() if "position" in path)
    assert positions.shape == (64, 16) and before.shape == (16, 16)
    np.testing.assert_array_equal(positions, interpolated_positions(before, 64))


def test_a_ramp_of_positions_stays_a_ramp():
    """Token (y, x) of a 4x4 grid has the embedding (y, x). On 8x8, its distances are halved."""
    y, x = np.meshgrid(np.arange(4.0), np.arange(4.0), indexing="ij")
    resized = interpolated_positions(np.stack([y.ravel(), x.ravel()], axis=1), 64)
    inner = resized.reshape(8, 8, 2)[2:6, 2:6]  # the cubic filter reaches over the edge elsewhere
    expected = (np.arange(8) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(inner[:, 0, 0], expected[2:6], atol=0.05)
    np.testing.assert_allclose(inner[0, :, 1], expected[2:6], atol=0.05)


def test_positions_that_are_no_square_grid_are_kept():
    embedding = np.ones((17, 4))
    assert interpolated_positions(embedding, 65) is embedding


def test_a_network_without_common_layers_is_refused():
    source = network_of("digits-vit", 10, *VIT)
    network = network_of("digits-cnn", 10, "model.stage_filters=[4, 4]")
    with pytest.raises(RequestError, match="give both the same model table"):
        copy_weights(source, network, has_same_classes=True)


def test_a_frozen_body_leaves_two_trainable_variables():
    network = network_of("digits-cnn", 10, "model.stage_filters=[4, 4]")
    freeze_body(network)
    assert [variable.path for variable in network.trainable_variables] == [
        "classifier/kernel",
        "classifier/bias",
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_factor_of_the_body_scales_its_step_only(name):
    """After one step from the same weights, the body has moved by a quarter of the distance."""
    moved = {}
    for factor in (1.0, 0.25):
        network = network_of("digits-cnn", 10, "model.stage_filters=[4, 4]")
        rng = np.random.default_rng(0)
        for variable in network.trainable_variables:
            variable.assign(rng.normal(size=variable.shape))
        config = read_recipe("digits-cnn", _only(name)).training
        optimizer = make_optimizer(config, network, 10)
        optimizer.set_rate_factor(body_variables(network), factor)
        before = [np.asarray(variable) for variable in network.trainable_variables]
        gradients = [
            rng.normal(size=v.shape).astype("float32") for v in network.trainable_variables
        ]
        optimizer.apply(gradients, network.trainable_variables)
        moved[factor] = {
            variable.path: np.asarray(variable) - start
            for variable, start in zip(network.trainable_variables, before, strict=True)
        }
    body = {variable.path for variable in body_variables(network)}
    for path, whole in moved[1.0].items():
        if name == "muon_sgd" and path.endswith("kernel"):
            continue  # it sets the norm of a kernel before the step
        expected = whole * 0.25 if path in body else whole
        np.testing.assert_allclose(moved[0.25][path], expected, rtol=1e-3, atol=1e-6)


def _only(optimizer: str) -> list[str]:
    """Return overrides that choose an optimizer, and give the others' keys their defaults."""
    overrides = [f"training.optimizer={optimizer}", "training.weight_decay=0"]
    return [*overrides, "training.warmup_fraction=0", "training.schedule=linear"]


@pytest.fixture
def start(finished_run, tmp_path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "start"))


@pytest.mark.slow
def test_a_run_with_more_epochs_goes_on_where_the_earlier_one_ended(start, tmp_path):
    run = tmp_path / "longer"
    assert main([*TINY_CNN, "--from", str(start), "--run", str(run)]) == 0
    last = float(read_history(start)[-1]["train_loss"])
    assert float(read_history(run)[0]["train_loss"]) < last


@pytest.mark.slow
def test_a_frozen_body_keeps_its_weights_and_statistics(start, tmp_path):
    run = tmp_path / "frozen"
    options = ["--from", str(start), "--set", "training.frozen_body=true"]
    assert main([*TINY_CNN, *options, "--run", str(run)]) == 0
    before, after = (weights_of(load_run(path).load_network()) for path in (start, run))
    changed = {path for path in before if (before[path] != after[path]).any()}
    assert changed == {"classifier/kernel", "classifier/bias"}


def test_a_folder_of_other_classes_starts_from_the_digits(start, tmp_path, capsys):
    folder = write_noise_images(tmp_path / "images", ("cat", "dog"), 30)
    run = tmp_path / "run"
    options = ["--dataset", f"folder:{folder}", "--from", str(start), "--set", "training.epochs=1"]
    assert main([*TINY_CNN, *options, "--run", str(run)]) == 0
    output = capsys.readouterr().out
    assert "start from the earlier run; new layers: " in output and "classifier" in output


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bytes_and_refuses_changed_weights(
    start, tmp_path, capsys
):
    options = [*TINY_CNN, *SAVE_EVERY_STEP, "--deterministic", "--from", str(start)]
    assert main([*options, "--run", str(tmp_path / "whole")]) == 0
    killed = tmp_path / "killed"
    run_until_killed(7, [*options, "--run", str(killed)])
    assert main(["resume", str(killed)]) == 0
    assert outcome_of(killed) == outcome_of(tmp_path / "whole")
    again = tmp_path / "again"
    run_until_killed(7, [*options, "--run", str(again)])
    shutil.copy(killed / "model.keras", start / "model.keras")
    assert "the weights of the run to start from have changed" in refusal(capsys, "resume", again)


def test_wrong_starts_are_refused_before_training(start, tmp_path, capsys):
    options = ["--run", str(tmp_path / "run")]
    error = refusal(capsys, *TINY_CNN, "--from", tmp_path / "none", *options)
    assert str(tmp_path / "none") in error
    error = refusal(capsys, *TINY_CNN, "--set", "training.frozen_body=true", *options)
    assert "frozen_body = True needs start_from" in error
    assert not (tmp_path / "run").exists()


def test_validation_images_that_the_earlier_run_has_seen_are_said(start, tmp_path, capsys):
    options = ["--from", str(start), "--seed", "7", "--set", "training.epochs=1"]
    assert main([*TINY_CNN, *options, "--run", str(tmp_path / "run")]) == 0
    assert "was trained on validation images of this run" in capsys.readouterr().out


@pytest.mark.slow
def test_a_grown_folder_with_other_validation_images_is_said(tmp_path, capsys):
    images = write_noise_images(tmp_path / "images", ("cat", "dog"), 40)
    options = ["--dataset", f"folder:{images}", *as_overrides(["training.epochs=1"])]
    first, again, grown = (str(tmp_path / name) for name in ("first", "again", "grown"))
    assert main([*TINY_CNN, *options, "--run", first]) == 0
    assert main([*TINY_CNN, *options, "--from", first, "--run", again]) == 0
    assert "was trained on validation images" not in capsys.readouterr().out
    Image.new("RGB", (8, 8), "red").save(images / "cat" / "new.png")
    assert main([*TINY_CNN, *options, "--from", first, "--run", grown]) == 0
    assert "was trained on validation images of this run" in capsys.readouterr().out


def test_test_images_that_the_earlier_run_has_seen_are_counted(tmp_path, capsys):
    for name in ("first", "second"):
        for part, count in (("train", 20), ("test", 5)):
            write_noise_images(tmp_path / name / part, ("cat", "dog"), count)
    trained = (tmp_path / "first" / "train" / "cat" / "15.png").read_bytes()
    (tmp_path / "second" / "train" / "cat" / "15.png").unlink()
    for name in ("cat", "dog"):
        for path in (tmp_path / "second" / "test" / name).iterdir():
            path.unlink()
        (tmp_path / "second" / "test" / name / "0.png").write_bytes(trained)
    options = as_overrides(["training.epochs=1"])
    first, second = (
        [*TINY_CNN, "--dataset", f"folder:{tmp_path / name}", *options]
        for name in ("first", "second")
    )
    run = str(tmp_path / "run")
    assert main([*first, "--run", run]) == 0
    capsys.readouterr()
    assert main([*second, "--from", run, "--run", str(tmp_path / "again")]) == 0
    assert f"2 of the 2 test images are training images of {run}" in capsys.readouterr().out


@pytest.mark.slow
def test_images_of_another_size_cannot_be_compared(start, tmp_path, capsys):
    folder = write_noise_images(tmp_path / "images", ("cat", "dog"), 30)
    options = ["--dataset", f"folder:{folder}", "--from", str(start), "--set", "training.epochs=1"]
    assert main([*TINY_CNN, *options, "--run", str(tmp_path / "run")]) == 0
    assert "it is not known whether it has seen test or validation" in capsys.readouterr().out


def test_a_body_that_does_not_fit_is_not_frozen(start, tmp_path, capsys):
    """The digits have one channel and the pictures three, so the stem is new."""
    folder = write_noise_images(tmp_path / "images", ("cat", "dog"), 30)
    options = ["--dataset", f"folder:{folder}", "--from", start, "--run", tmp_path / "run"]
    error = refusal(capsys, *TINY_CNN, *options, "--set", "training.frozen_body=true")
    assert "training.frozen_body: layers " in error and "stem" in error


def test_other_seeds_have_the_same_validation_folder(tmp_path, capsys):
    for name, count in (("train", 20), ("val", 5), ("test", 5)):
        write_noise_images(tmp_path / "images" / name, ("cat", "dog"), count)
    shutil.rmtree(tmp_path / "images" / "val")
    rng = np.random.default_rng(1)  # the helper would write the same noise
    for name in ("cat", "dog"):
        (tmp_path / "images" / "val" / name).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(
            tmp_path / "images" / "val" / name / "0.png"
        )
    dataset = f"folder:{tmp_path / 'images'}"
    options = ["--dataset", dataset, *as_overrides(["training.epochs=1"])]
    first, other = str(tmp_path / "first"), str(tmp_path / "other")
    assert main([*TINY_CNN, *options, "--run", first]) == 0
    assert main([*TINY_CNN, *options, "--seed", "3", "--from", first, "--run", other]) == 0
    assert "was trained on validation images" not in capsys.readouterr().out
