"""Requests that cannot be right: exit status 2 and one line, before anything heavy is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_models.cli.main import main
from cifar_models.config.recipe import DataConfig
from cifar_models.config.recipe_file import read_recipe
from cifar_models.config.run_identity import identifying_values, recipe_differences
from tests.conftest import refusal, write_noise_images

LONG = "a" * 300

# Requests of which the words alone show that they are wrong → what the line says.
WRONG_REQUESTS = [
    (["train", "cnn", "--set", 'model.architecture=["vit"]'], "did you mean vit?"),
    (["train", "cnn", "--set", "training.epochs=" + "9" * 400], "must be a number from"),
    (["train", "cnn", "--set", "training.epochs=" + "9" * 5000], "must be a whole number"),
    (["train", "cnn", "--set", "training.epochs=1000000000000000000"], "must be a number from"),
    (["train", "cnn", "--set", "augmentation.mixup_alpha=inf"], "must be a number from"),
    (["train", "cnn", "--set", "training.weight_decay=inf"], "must be a number from"),
    (["train", "cnn", "--seed", "9" * 400], "must be a number from"),
    (["train", "cnn", "--dataset", "folder:~nosuchuser"], "no home folder of this name"),
    (["train", "cnn", "--dataset", f"folder:{LONG}"], "300 bytes, more than 255"),
    (["train", "cnn", "--dataset", "folder:"], "names no folder"),
    (["train", "cnn", "--dataset", "folder:a\0b"], "null character"),
    (["train", "cnn", "--dataset", "folder:\udce9"], "holds bytes that are no text"),
    (["train", "cnn", "--dataset", "[" * 3000], "nor a TensorFlow Datasets name"),
    (["train", "cnn", "--dataset", "no such name"], "nor a TensorFlow Datasets name"),
    (["train", "cnn", "--data-dir", LONG], "300 bytes, more than 255"),
    (["train", "cnn", "--run", LONG], "300 bytes, more than 255"),
    (["train", "cnn", "--run", "/".join(["a" * 200] * 25)], "bytes, more than 4095"),
    (["train", "cnn", "--run", "a\0b"], "null character"),
    (["train", "cnn", "--run", "~nosuchuser/run"], "no home folder of this name"),
    (["train", LONG], "300 bytes, more than 255"),
    (["train", "a\0b"], "null character"),
    (["tune", "cnn", "--out", LONG], "300 bytes, more than 255"),
    (["tune", "cnn", "--out", "x", "--budget-seconds", "nan"], "must be a number of seconds"),
    (["tune", "cnn", "--out", "x", "--budget-seconds", "-1"], "must be a number of seconds"),
    (["resume", LONG], "300 bytes, more than 255"),
    (["evaluate", LONG], "300 bytes, more than 255"),
    (["compare", LONG, "--out", "x"], "300 bytes, more than 255"),
    (["compare", "x", "--out", LONG], "300 bytes, more than 255"),
    (["study", LONG], "300 bytes, more than 255"),
    (["export", LONG], "300 bytes, more than 255"),
    (["benchmark", LONG], "300 bytes, more than 255"),
    (["list", "runs", "--under", LONG], "300 bytes, more than 255"),
    (["list", "recipes", "--under", "runs"], "--under applies to runs only"),
    (["benchmark", "vit-laptop-taught"], "its step needs the features of a teacher"),
    (["train", "cnn", "more\x1b[2J\narguments"], r"more\x1b[2J\narguments"),
]


@pytest.mark.parametrize(("command", "message"), WRONG_REQUESTS, ids=lambda value: str(value)[:60])
def test_a_wrong_request_is_refused_in_one_line(command, message, capsys):
    try:
        status = main(command)
    except SystemExit as error:  # from the parser
        status = error.code
    output = capsys.readouterr()
    assert status == 2 and not output.out
    assert output.err.startswith("error: ") and output.err.count("\n") == 1
    assert message in output.err and "\x1b" not in output.err


def test_no_wrong_request_imports_tensorflow(tmp_path):
    program = (
        "import sys, time\n"
        "from cifar_models.cli.main import main\n"
        f"for command in {[command for command, _ in WRONG_REQUESTS]!r}:\n"
        "    began = time.perf_counter()\n"
        "    try:\n"
        "        main(command)\n"
        "    except SystemExit:\n"
        "        pass\n"
        "    assert time.perf_counter() - began < 3, command\n"
        "    assert 'tensorflow' not in sys.modules, command\n"
    )
    result = subprocess.run(
        [sys.executable, "-"],
        input=program,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert result.returncode == 0, result.stderr[-1000:]
    assert not list(tmp_path.iterdir())


def test_too_many_steps_are_refused_before_the_folder_exists(tmp_path, capsys):
    command = ["train", "digits-cnn", "--set", "training.epochs=2000000000"]
    error = refusal(capsys, *command, "--run", tmp_path / "run")
    # 1293 training images in batches of 64: 20 steps an epoch.
    assert "40,000,000,000 steps, more than 2,147,483,647" in error
    assert not (tmp_path / "run").exists()


def test_a_tilde_is_the_home_folder_in_every_path(finished_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(finished_run.parent))
    assert main(["resume", f"~/{finished_run.name}"]) == 0
    assert "finished already" in capsys.readouterr().out
    assert main(["list", "runs", "--under", "~"]) == 0
    monkeypatch.setenv("HOME", str(tmp_path))
    images = write_noise_images(tmp_path / "photos", ["cat"], 3)
    for name, read in (("folder:~/photos", images), ("folder:~/none", tmp_path / "none")):
        assert str(read) in refusal(capsys, "train", "cnn", "--dataset", name, "--run", "~/run")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_the_terminal_lacks_are_escaped(encoding):
    program = (
        "from cifar_models.cli import tables\n"
        "from cifar_models.cli.main import main\n"
        "tables.print_recipes = lambda: print('\u65e5')\n"
        "main(['list', 'recipes'])\n"
        "main(['train', '\u65e5'])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == rb"\u65e5"
    assert rb"recipe '\u65e5': neither a file nor one of" in result.stderr


def test_a_relative_image_folder_is_found_from_everywhere(tmp_path, monkeypatch):
    """The recipe of the run has its absolute path. Training itself is left out."""
    for command in ("train", "resume"):
        monkeypatch.setattr(f"cifar_models.run.{command}.run_to_end", lambda *arguments: None)
    write_noise_images(tmp_path / "photos", ["cat", "dog"], 10)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    options = ["--dataset", "folder:photos", "--data-dir", "tfds", "--run", "run"]
    options += ["--set", "training.batch_size=8"]
    assert main(["train", "digits-cnn", *options]) == 0
    assert f'dataset = "folder:{tmp_path}/photos"' in Path("run/recipe.toml").read_text()
    assert f'data_dir = "{tmp_path}/tfds"' in Path("run/recipe.toml").read_text()
    monkeypatch.chdir("elsewhere")
    assert main(["resume", "../run"]) == 0


def test_a_run_of_an_earlier_version_with_a_relative_image_folder_resumes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = identifying_values(read_recipe("cnn", ["data.dataset=folder:photos"]))
    assert here["data.dataset"] == f"folder:{tmp_path}/photos"
    then = {"recipe": {**here, "data.dataset": "folder:photos"}}
    assert not recipe_differences(then, here)
    then = {"recipe": {**here, "data.dataset": "folder:other"}}
    assert recipe_differences(then, here)
    # The home folder of a user of another machine: the run still opens.
    elsewhere = read_recipe("cnn", ["data.dataset=folder:~nosuchuser/photos"])
    assert identifying_values(elsewhere)["data.dataset"] == "folder:~nosuchuser/photos"


def test_a_bucket_of_a_cloud_is_no_path():
    config = DataConfig(data_dir="gs://bucket/tfds").with_absolute_paths()
    assert config.data_dir == "gs://bucket/tfds"
