"""Runs on folders of images: kinds of classes, files that are left out, and what is printed."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_models.cli.main import main
from tests.conftest import TINY_CNN, as_overrides, read_metrics, write_noise_images

ONE_EPOCH = [*TINY_CNN, *as_overrides(["training.epochs=1", "training.batch_size=32"])]


def train(folder: Path, run: Path, *overrides: str) -> dict:
    """Train on a folder, and return dataset.json."""
    options = as_overrides(list(overrides))
    assert main([*ONE_EPOCH, "--dataset", f"folder:{folder}", *options, "--run", str(run)]) == 0
    return json.loads((run / "dataset.json").read_text())


@pytest.mark.slow
def test_a_folder_with_one_percent_of_damaged_files_lists_exactly_those(tmp_path):
    folder = write_noise_images(tmp_path / "images", ("cat", "dog"), 100)
    damaged = [folder / "cat" / "17.png", folder / "dog" / "90.png"]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:40])
    info = train(folder, tmp_path / "run", "data.bad_files=skip")
    assert [line.partition(": ")[0] for line in info["unusable_files"]] == sorted(map(str, damaged))
    counts = [info[f"{part}_images"] for part in ("train", "validation", "test")]
    assert sum(counts) == 198


@pytest.mark.slow
def test_a_folder_of_grey_images_with_two_classes_is_learned(tmp_path):
    """Dark and bright images: a run that sees them as they are learns them."""
    rng = np.random.default_rng(0)
    for name, brightness in (("dark", 60), ("bright", 190)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(60):
            pixels = rng.normal(brightness, 20, (28, 28)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    train(tmp_path / "images", tmp_path / "run", "training.epochs=10")
    assert read_metrics(tmp_path / "run")["accuracy"] == 1


@pytest.mark.slow
def test_a_folder_of_a_thousand_classes_trains(tmp_path):
    names = [f"class {number:04}" for number in range(1000)]
    folder = write_noise_images(tmp_path / "images", names, 12)
    info = train(folder, tmp_path / "run")
    assert len(info["class_names"]) == 1000
    assert len(read_metrics(tmp_path / "run")["per_class"]) == 1000


def test_the_size_that_the_network_sees_is_printed_and_recorded(tmp_path, capsys):
    folder = write_noise_images(tmp_path / "images", ("cat", "dog"), 30)
    info = train(folder, tmp_path / "run", "model.image_size=12")
    output = capsys.readouterr().out
    assert "their median size of 8x8 pixels becomes 12x12 (crop)" in output
    assert "training images of 12x12 pixels, " in output
    assert info["image_shape"] == [12, 12, 3]


def test_a_key_that_is_gone_names_the_one_that_replaces_it(capsys):
    assert main(["train", "cnn", "--set", "data.folder_image_size=224"]) == 2
    error = capsys.readouterr().err
    assert "data.folder_image_size has been replaced by model.image_size" in error


def test_small_batches_of_small_data_are_said_and_recorded(tmp_path, capsys):
    folder = write_noise_images(tmp_path / "images", ("cat", "dog"), 40)
    info = train(folder, tmp_path / "run")
    expected = info["train_images"] // 8
    assert f"batches of {expected} images instead of 32" in capsys.readouterr().out
    metrics = read_metrics(tmp_path / "run")
    assert metrics["batch_size"] == expected and metrics["steps"] >= 8
