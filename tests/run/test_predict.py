"""Predicting image files: the recorded predictions again, and files that cannot be read."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_models.cli.main import main
from cifar_models.data.image_paths import find_image_files
from cifar_models.errors import RequestError
from cifar_models.run.load import load_run
from tests.conftest import TINY_CNN, as_overrides, refusal, write_noise_images

CLASSES = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Return a folder with images, in `images`, and a run that was trained on them, in `run`."""
    root = tmp_path_factory.mktemp("trained")
    folder = write_noise_images(root / "images", CLASSES, 30)
    options = as_overrides(["training.epochs=1", "training.batch_size=8", "model.image_size=8"])
    command = [*TINY_CNN, "--dataset", f"folder:{folder}", *options]
    assert main([*command, "--run", str(root / "run")]) == 0
    return root


def test_predictions_of_the_test_files_are_the_recorded_ones_to_the_last_bit(trained):
    run = load_run(trained / "run")
    test = run.load_dataset().test
    predictions = list(run.predict(list(test.files)))
    assert [each.path for each in predictions] == list(test.files)
    np.testing.assert_array_equal(
        np.stack([each.probabilities for each in predictions]), run.probabilities
    )


def test_files_of_folders_are_found_in_the_order_of_their_names(tmp_path):
    for name in ("b/2.PNG", "b/1.jpg", "a.png", "b/.hidden.png", "b/Thumbs.db", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(Path(path).relative_to(tmp_path)) for path in find_image_files([tmp_path])]
    assert found == ["a.png", "b/1.jpg", "b/2.PNG"]


def test_links_to_folders_are_followed_once(tmp_path):
    (tmp_path / "given").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").touch()
    (tmp_path / "given" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "given")
    found = [Path(path).relative_to(tmp_path) for path in find_image_files([tmp_path / "given"])]
    assert found == [Path("given/link/1.png")]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    (tmp_path / "1.png").touch()
    real = os.scandir

    def scandir(path):  # root may read everything
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(RequestError, match="locked: cannot be read: Permission denied"):
        find_image_files([tmp_path])


def test_the_most_probable_classes_are_printed(trained, capsys):
    path = trained / "images" / "bee" / "3.png"
    assert main(["predict", str(trained / "run"), str(path), "--top", "2"]) == 0
    line = capsys.readouterr().out.strip().splitlines()[-1]
    (prediction,) = load_run(trained / "run").predict([path])
    (first, one), (second, two) = prediction.top(2)
    assert line == f"{path}: {first} {one:.1%}  {second} {two:.1%}"
    assert one >= two and {first, second} < set(CLASSES)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_bad_file_is_named_and_the_others_are_predicted(trained, tmp_path, kind, capsys):
    folder = write_noise_images(tmp_path / "new", ("x",), 5)
    (folder / "x" / "2.png").write_bytes(b"")
    out = tmp_path / f"predictions.{kind}"
    command = ["predict", str(trained / "run"), str(folder), "--top", "9", f"--{kind}", str(out)]
    assert main(command) == 1
    assert "1 of 5 files could not be read" in capsys.readouterr().err
    if kind == "csv":
        rows = list(csv.DictReader(out.open()))
        problems = [row["problem"] for row in rows]
        sums = [sum(float(row[f"probability_{n}"] or 0) for n in (1, 2, 3)) for row in rows]
    else:
        rows = json.loads(out.read_text())
        problems = [row["problem"] for row in rows]
        sums = [sum(each["probability"] for each in row["classes"]) for row in rows]
    assert [bool(problem) for problem in problems] == [False, False, True, False, False]
    np.testing.assert_allclose(sums, [1, 1, 0, 1, 1], atol=1e-5)


def test_strict_stops_at_the_first_bad_file(trained, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"")
    good = str(trained / "images" / "ant" / "0.png")
    command = ["predict", str(trained / "run"), str(tmp_path / "bad.png"), good, "--strict"]
    assert main(command) == 1
    output = capsys.readouterr()
    assert f"{tmp_path / 'bad.png'}: " in output.err and good not in output.out


def test_a_network_of_grey_images_reads_colours_as_grey(finished_run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colour.png")
    Image.fromarray(pixels).convert("L").save(tmp_path / "grey.png")
    one, other = load_run(finished_run).predict([tmp_path / "colour.png", tmp_path / "grey.png"])
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=0.02)


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (["none.png"], "none.png: no such file or folder"),
        (["empty"], "empty: holds no image files"),
        (["empty", "--top", "0"], "--top 0: must be at least 1"),
    ],
)
def test_wrong_requests_are_refused(inputs, problem, finished_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert problem in refusal(capsys, "predict", finished_run, *inputs)


def test_a_file_that_cannot_be_written_is_refused_before_the_work(finished_run, tmp_path, capsys):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for target, reason in (("none/p.csv", "there is no folder"), ("link", "is no regular file")):
        options = ["--csv", tmp_path / target]
        assert reason in refusal(capsys, "predict", finished_run, tmp_path / "red.png", *options)
