"""Evaluating a run again: on the data of training, on changed data, and what is written."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cifar_models.cli.main import main
from cifar_models.run.load import load_run
from tests.conftest import TINY_CNN, as_overrides, refusal, write_noise_images

CLASSES = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Return a folder with images, in `images`, and a run that was trained on them, in `run`."""
    root = tmp_path_factory.mktemp("trained")
    images = write_noise_images(root / "images", CLASSES, 20)
    options = [f"data.dataset='folder:{images}'", "training.batch_size=8", "training.epochs=1"]
    options += ["data.folder_image_size=8"]
    command = as_overrides([*TINY_CNN, *options])
    assert main([*command, "--run", str(root / "run")]) == 0
    return root


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """Return a copy of the run without its predictions."""
    copy = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    (copy / "predictions.npz").unlink()
    return copy


@pytest.fixture
def changed_image(trained):
    """Change one pixel of one image until the test ends."""
    path = trained / "images" / "bee" / "3.png"
    before = path.read_bytes()
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] ^= 255
    Image.fromarray(pixels).save(path)
    yield
    path.write_bytes(before)


@pytest.mark.parametrize("options", [[], ["--split", "train"], ["--corruptions"]])
def test_changed_data_are_refused_and_nothing_is_written(run, changed_image, capsys, options):
    before = sorted(run.rglob("*"))
    error = refusal(capsys, "evaluate", run, *options)
    assert f"{run}: its data have changed since training: the SHA-256 of the data began" in error
    assert f"evaluate {run} --dataset folder:" in error
    assert sorted(run.rglob("*")) == before


def test_the_number_of_images_that_changed_is_named(trained, run, capsys):
    added = trained / "images" / "bee" / "added.png"
    shutil.copy(trained / "images" / "bee" / "3.png", added)
    error = refusal(capsys, "evaluate", run)
    added.unlink()
    info = json.loads((run / "dataset.json").read_text())
    assert f"{info['train_images']} train images are now" in error or (
        f"{info['test_images']} test images are now" in error
    )


def test_changed_data_can_be_measured_without_writing(trained, run, changed_image):
    before = sorted(run.rglob("*"))
    dataset = f"folder:{trained / 'images'}"
    assert main(["evaluate", str(run), "--dataset", dataset]) == 0
    assert sorted(run.rglob("*")) == before


@pytest.mark.slow
def test_a_run_on_changed_data_can_be_exported(run, changed_image, tmp_path):
    assert main(["export", str(run), "--out", str(tmp_path / "served")]) == 0


def test_missing_predictions_are_those_of_training(trained, run):
    assert main(["evaluate", str(run)]) == 0
    name = "predictions.npz"
    assert (run / name).read_bytes() == (trained / "run" / name).read_bytes()


def test_predictions_of_another_split_than_the_metrics_are_not_written(run):
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**metrics, "split": "validation"}))
    assert main(["evaluate", str(run)]) == 0
    assert not (run / "predictions.npz").exists()
    assert main(["evaluate", str(run), "--split", "train"]) == 0
    assert not (run / "predictions.npz").exists()


def test_predictions_that_disagree_with_the_metrics_are_not_written(run, capsys):
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**metrics, "loss": metrics["loss"] + 0.5}))
    assert main(["evaluate", str(run)]) == 0
    assert "predictions.npz: is not written, because the accuracy is" in capsys.readouterr().out
    assert not (run / "predictions.npz").exists()


@pytest.mark.slow
def test_odd_class_names_train_to_a_finished_run_that_every_command_reads(tmp_path, capsys):
    names = (os.fsdecode(b"caf\xe9"), "\u732b", "\U0001f408 $x^$", "two\nlines", "[red]", "x" * 250)
    folder, run = write_noise_images(tmp_path / "images", names, 20), tmp_path / "run"
    options = [f"data.dataset='folder:{folder}'", "training.batch_size=8", "training.epochs=1"]
    command = as_overrides([*TINY_CNN, *options, "data.folder_image_size=8"])
    assert main([*command, "--run", str(run)]) == 0
    assert "skipped" not in (run / "log.txt").read_text()
    assert len(list((run / "plots").iterdir())) == 4
    finished = load_run(run)
    assert sorted(names) == finished.dataset.class_names == list(finished.metrics.per_class)
    with np.load(run / "predictions.npz") as content:
        assert content["class_names"].tolist() == sorted(names)
    before = (run / "predictions.npz").read_bytes()
    (run / "predictions.npz").unlink()
    assert main(["evaluate", str(run)]) == 0
    assert (run / "predictions.npz").read_bytes() == before
    assert main(["compare", str(run), "--out", str(tmp_path / "comparison")]) == 0
    assert main(["export", str(run)]) == 0
    served = tf.saved_model.load(str(run / "export")).signatures["serving_default"]
    exported = served(images=tf.zeros((1, 8, 8, 3), tf.uint8))["class_names"].numpy()
    assert exported.tolist() == [os.fsencode(name) for name in sorted(names)]
