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
    options += ["model.image_size=8"]
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


def evaluated(capsys, *options: object) -> dict[str, str]:
    """Evaluate a run, and return the rows of the table of metrics, and the output as "output"."""
    assert main(["evaluate", *map(str, options)]) == 0
    output = capsys.readouterr()
    rows = (line.split() for line in output.out.splitlines())
    return {"output": output.out + output.err, **{row[0]: row[-1] for row in rows if row}}


def test_the_test_split_stays_when_images_are_added(trained, run, capsys):
    before = json.loads((run / "metrics.json").read_text())
    names = [trained / "images" / name / "a.png" for name in CLASSES]
    for path in names:
        Image.new("RGB", (8, 8), "red").save(path)
    table = evaluated(capsys, run, "--dataset", f"folder:{trained / 'images'}")
    for path in names:
        path.unlink()
    assert "have changed since training" in table["output"]
    added = int(table["images"]) - json.loads((run / "dataset.json").read_text())["test_images"]
    assert 0 <= added <= len(CLASSES)
    if not added:
        assert table["accuracy"] == f"{before['accuracy']:.6f}"


@pytest.mark.parametrize("place", ["link", "dots"])
def test_the_folder_of_training_is_recognized_by_any_name(trained, run, tmp_path, capsys, place):
    added = trained / "images" / "bee" / "added.png"
    Image.new("RGB", (8, 8), "red").save(added)
    (tmp_path / "link").symlink_to(trained / "images")
    path = {"link": tmp_path / "link", "dots": f"{trained}/run/../images"}[place]
    table = evaluated(capsys, run, "--dataset", f"folder:{path}")
    validation = evaluated(capsys, run, "--dataset", f"folder:{path}", "--split", "validation")
    added.unlink()
    assert table["split"] == "test" and "have changed since training" in table["output"]
    assert "training images of" not in table["output"]  # those of the test split are not
    # The validation images of the larger folder are other ones.
    assert "images are training images of" in validation["output"]


def test_training_images_among_other_images_are_counted(trained, run, tmp_path, capsys):
    moved = Path(shutil.copytree(trained / "images", tmp_path / "moved"))
    Image.new("RGB", (8, 8), "red").save(moved / "bee" / "added.png")
    table = evaluated(capsys, run, "--dataset", f"folder:{moved}")
    info = json.loads((run / "dataset.json").read_text())
    expected = f"{info['train_images']} of the 61 images are training images of"
    assert table["split"] == "all" and expected in " ".join(table["output"].split())


def test_a_validation_split_beside_a_training_split_is_measured(run, tmp_path, capsys):
    for name, count in (("train", 5), ("val", 3)):
        write_noise_images(tmp_path / "other" / name, CLASSES, count)
    other = f"folder:{tmp_path / 'other'}"
    expected = {"validation": 9, "train": 15, "test": 24, "all": 24}
    for split, images in expected.items():
        table = evaluated(capsys, run, "--dataset", other, "--split", split)
        assert table["images"] == str(images), split
        assert table["split"] == ("all" if split == "test" else split)


def test_the_advice_for_unusable_files_can_be_followed(run, tmp_path, capsys):
    other = write_noise_images(tmp_path / "other", CLASSES, 3)
    (other / "bee" / "bad.png").write_bytes(b"")
    error = refusal(capsys, "evaluate", run, "--dataset", f"folder:{other}")
    assert "repair or remove them: " in error and "--set" not in error


def test_a_folder_without_images_of_the_classes_is_refused(run, tmp_path, capsys):
    flat = tmp_path / "flat"
    (flat / "bee").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(flat / "red.png")
    error = refusal(capsys, "evaluate", run, "--dataset", f"folder:{flat}")
    assert "holds no images of the run's classes" in error


def test_another_folder_is_measured_whole_and_may_lack_classes(trained, run, tmp_path, capsys):
    folder = write_noise_images(tmp_path / "other", ("ant", "cat"), 3)
    table = evaluated(capsys, run, "--dataset", f"folder:{folder}")
    assert (table["split"], table["images"]) == ("all", "6")
    network, info = load_run(run).network, load_run(run).dataset
    paths = [folder / name / f"{number}.png" for name in ("ant", "cat") for number in range(3)]
    predicted = network.predict(np.stack([Image.open(path) for path in paths]), verbose=0)
    labels = np.repeat([info.class_names.index(name) for name in ("ant", "cat")], 3)
    assert table["accuracy"] == f"{(predicted.argmax(axis=1) == labels).mean():.6f}"
    recalls = [
        (predicted.argmax(axis=1) == labels)[part].mean() for part in (slice(3), slice(3, 6))
    ]
    assert table["recall_macro"] == f"{np.mean(recalls):.6f}"


@pytest.mark.parametrize(
    ("options", "images"),
    [([], 3), (["--split", "train"], 6), (["--split", "validation"], 9), (["--split", "all"], 18)],
)
def test_a_folder_with_splits_is_measured_by_split(run, tmp_path, capsys, options, images):
    for name, count in (("test", 1), ("train", 2), ("val", 3)):
        write_noise_images(tmp_path / "other" / name, CLASSES, count)
    table = evaluated(capsys, run, "--dataset", f"folder:{tmp_path / 'other'}", *options)
    assert table["images"] == str(images)


def test_a_split_that_the_data_lack_is_refused(run, tmp_path, capsys):
    write_noise_images(tmp_path / "other" / "test", CLASSES, 2)
    dataset = f"folder:{tmp_path / 'other'}"
    error = refusal(capsys, "evaluate", run, "--dataset", dataset, "--split", "train")
    assert "has no train split; choose test, all" in error


def test_data_of_training_in_another_place_are_recognized(trained, run, tmp_path, capsys):
    shutil.copytree(trained / "images", tmp_path / "moved")
    table = evaluated(capsys, run, "--dataset", f"folder:{tmp_path / 'moved'}")
    metrics = json.loads((run / "metrics.json").read_text())
    info = json.loads((run / "dataset.json").read_text())
    assert (table["split"], table["images"]) == ("test", str(info["test_images"]))
    assert table["accuracy"] == f"{metrics['accuracy']:.6f}"
    assert "changed" not in table["output"]


def test_all_images_of_a_run_can_be_measured(run, capsys):
    assert evaluated(capsys, run, "--split", "all")["images"] == "60"


@pytest.mark.slow
@pytest.mark.parametrize("has_data", [False, True])
def test_a_run_is_exported_without_its_images_or_with_moved_ones(
    trained, tmp_path, monkeypatch, capsys, has_data
):
    run = shutil.copytree(trained / "run", tmp_path / "run")
    moved = shutil.copytree(trained / "images", tmp_path / "moved")
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace(str(trained / "images"), "/nowhere"))
    options = ["--dataset", f"folder:{moved}"] if has_data else []
    assert main(["export", str(run), *options]) == 0
    output = capsys.readouterr().out
    assert f"on {12 if has_data else 256} " in output or has_data
    assert ("noise images" in output) != has_data
    assert "no such folder" in refusal(
        capsys, "export", run, "--dataset", "folder:/nowhere", "--out", "x"
    )
    other = write_noise_images(tmp_path / "other", CLASSES, 10)
    error = refusal(capsys, "export", run, "--dataset", f"folder:{other}", "--out", "x")
    assert "these are not the images that" in error


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
    command = as_overrides([*TINY_CNN, *options, "model.image_size=8"])
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
    signatures = tf.saved_model.load(str(run / "export")).signatures
    exported = signatures["class_names"]()["class_names"].numpy()
    assert exported.tolist() == [os.fsencode(name) for name in sorted(names)]
