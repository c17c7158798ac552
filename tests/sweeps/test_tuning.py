"""A search on the digits: its trials, its result, and how it is resumed."""

import errno
import os
import shutil
import tomllib
from pathlib import Path

import keras_tuner
import pytest
from PIL import Image

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe, recipe_toml
from cifar_models.errors import RequestError, RunError
from cifar_models.runtime import memory
from cifar_models.storage.atomic_files import locked
from cifar_models.sweeps import trials
from cifar_models.sweeps.search_space import search_space, suggest
from tests.conftest import (
    TINY_CNN_TOML,
    read_metrics,
    refusal,
    run_until_killed,
    write_noise_images,
)

SEARCH = f"""{TINY_CNN_TOML}stage_filters = [4, 8]
stage_blocks = [1, 1]

[training]
epochs = 1
batch_size = 128

[search]
"training.peak_learning_rate" = {{ low = 1e-3, high = 1.0, scale = "log" }}
"model.l1" = {{ low = 1e-8, high = 1e-4, scale = "log" }}
"model.stem_filters" = {{ low = 4, high = 8 }}
"model.stage_filters" = {{ choices = [[4, 8], [8, 8]] }}
"""


@pytest.fixture
def recipe_path(tmp_path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SEARCH)
    return path


def tune(recipe_path: Path, out: Path, trials: int, *more: str) -> int:
    return main(["tune", str(recipe_path), "--trials", str(trials), "--out", str(out), *more])


def test_every_proposal_is_in_its_range(recipe_path):
    recipe = read_recipe(str(recipe_path))
    space = search_space(recipe)
    seen, rates = set(), set()
    for seed in range(40):
        point = keras_tuner.HyperParameters.from_config(space.get_config())
        for hyperparameter in space.space:
            point.values[hyperparameter.name] = hyperparameter.random_sample(seed)
        proposed = suggest(point, recipe)
        assert 1e-3 <= proposed.training.peak_learning_rate <= 1.0
        assert 1e-8 <= proposed.model.l1 <= 1e-4
        assert proposed.model.stem_filters in range(4, 9)
        seen.add(proposed.model.stage_filters)
        rates.add(proposed.training.peak_learning_rate)
    assert seen == {(4, 8), (8, 8)}
    assert len(rates) == 40


@pytest.mark.slow
def test_a_search_writes_its_trials_and_a_best_recipe_that_trains(recipe_path, tmp_path):
    out = tmp_path / "search"
    assert tune(recipe_path, out, 3) == 0
    scores = {}
    for trial in sorted((out / "trials").iterdir()):
        metrics = read_metrics(trial)
        assert metrics["split"] == "validation"
        assert list((trial / "tensorboard").glob("events*"))  # a row of the HParams tab
        scores[trial.name] = metrics["accuracy"]
    assert list(scores) == ["0001", "0002", "0003"]
    best = max(scores, key=scores.get)
    text = (out / "best.toml").read_text()
    assert f"trial {best}" in text.splitlines()[0]
    best_trial = tomllib.loads((out / "trials" / best / "recipe.toml").read_text())
    assert best_trial["training"].pop("tuning_trials") == 0
    content = tomllib.loads(text)
    assert content["training"].pop("tuning_trials") == 3
    assert content.pop("name") == best_trial.pop("name") + "-tuned"
    assert content == best_trial
    assert (
        tune(recipe_path, out, 1) == 0
    )  # fewer trials than in the folder, so all of them are used
    assert (out / "best.toml").read_text() == text
    assert main(["train", str(out / "best.toml"), "--run", str(tmp_path / "run")]) == 0


@pytest.mark.slow
def test_a_killed_search_resumes_where_it_stopped(recipe_path, tmp_path, monkeypatch):
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    assert tune(recipe_path, uninterrupted, 3) == 0
    trained = []
    real_train = trials.train

    def train_until_killed(recipe, path, evaluation_split):
        trained.append(path.name)
        if len(trained) == 2:
            path.mkdir(parents=True, exist_ok=True)
            (path / "recipe.toml").write_text(recipe_toml(recipe))  # before training began
            raise KeyboardInterrupt
        return real_train(recipe, path, evaluation_split)

    monkeypatch.setattr(trials, "train", train_until_killed)
    assert tune(recipe_path, killed, 3) == 130
    assert tune(recipe_path, killed, 3) == 0
    assert trained == ["0001", "0002", "0002", "0003"]
    for trial in ("0001", "0002", "0003"):
        one, other = (
            folder / "trials" / trial / "recipe.toml" for folder in (uninterrupted, killed)
        )
        assert one.read_text() == other.read_text()


def test_a_search_does_not_go_on_over_changed_images(recipe_path, tmp_path, capsys):
    images, out = write_noise_images(tmp_path / "images", ("cat", "dog"), 20), tmp_path / "search"
    recipe_path.write_text(SEARCH.replace('"digits"', f"'folder:{images}'"))
    assert tune(recipe_path, out, 1) == 0
    Image.new("RGB", (8, 8)).save(images / "cat" / "0.png")
    command = ["tune", recipe_path, "--trials", 2, "--out", out]
    error = refusal(capsys, *command)
    assert f"{out / 'trials' / '0001'}: was trained on other images or classes than" in error
    shutil.copytree(images / "cat", images / "fox")
    assert "other images or classes" in refusal(capsys, *command)


@pytest.mark.parametrize("error", [RunError("loss is nan"), ValueError("loss is nan")])
def test_a_failed_trial_does_not_end_the_search(recipe_path, tmp_path, monkeypatch, capsys, error):
    real_train = trials.train

    def fail_once(recipe, path, evaluation_split):
        if path.name == "0001":
            raise error
        return real_train(recipe, path, evaluation_split)

    monkeypatch.setattr(trials, "train", fail_once)
    out = tmp_path / "search"
    assert tune(recipe_path, out, 2) == 0
    assert "trial 0002" in (out / "best.toml").read_text().splitlines()[0]
    assert "trial 1 failed: loss is nan" in capsys.readouterr().out


def test_a_search_fails_if_all_its_trials_fail(recipe_path, tmp_path, monkeypatch, capsys):
    def fail(recipe, path, evaluation_split):
        raise RunError("loss is nan in epoch 1")

    monkeypatch.setattr(trials, "train", fail)
    assert tune(recipe_path, tmp_path / "search", 4) == 1
    assert "loss is nan" in capsys.readouterr().err


def test_no_trial_begins_after_the_budget_is_spent(recipe_path, tmp_path, monkeypatch, capsys):
    out = tmp_path / "search"
    assert tune(recipe_path, out, 1) == 0
    assert tune(recipe_path, out, 3, "--budget-seconds", "0") == 0
    assert [path.name for path in (out / "trials").iterdir()] == ["0001"]


def test_a_folder_with_another_search_is_refused(recipe_path, tmp_path, capsys):
    out = tmp_path / "search"
    assert tune(recipe_path, out, 1) == 0
    recipe_path.write_text(SEARCH.replace("batch_size = 128", "batch_size = 64"))
    assert tune(recipe_path, out, 1) == 2
    assert "another search" in capsys.readouterr().err


def test_a_folder_with_other_files_is_refused(recipe_path, tmp_path, capsys):
    assert tune(recipe_path, tmp_path, 1) == 2
    assert "holds other files" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_trial_resumes_after_its_last_checkpoint(recipe_path, tmp_path, capsys):
    out = tmp_path / "search"
    recipe_path.write_text(SEARCH + "\n[runtime]\ncheckpoint_seconds = 0\n")
    run_until_killed(5, ["tune", str(recipe_path), "--trials", "1", "--out", str(out)])
    capsys.readouterr()
    recipe_path.write_text(SEARCH)  # a search with other checkpoint intervals is the same search
    assert tune(recipe_path, out, 1) == 0
    assert "resuming after step 4 of" in capsys.readouterr().out


def test_a_failed_trial_is_not_trained_again(recipe_path, tmp_path, capsys, monkeypatch):
    out = tmp_path / "search"
    recipe_path.write_text(SEARCH.replace("high = 1.0", "high = 1e33").replace("1e-3", "1e32"))
    assert tune(recipe_path, out, 1) == 1
    assert "training diverged" in capsys.readouterr().out
    monkeypatch.setattr(trials, "train", None)
    monkeypatch.setattr(trials, "resume", None)
    assert tune(recipe_path, out, 1) == 1
    assert "training diverged" in capsys.readouterr().err


def test_a_trial_that_fails_before_training_does_not_end_the_next_search(
    recipe_path, tmp_path, capsys, monkeypatch
):
    def refuse(recipe, path, evaluation_split):
        raise RequestError("the batch is larger than the data")

    out = tmp_path / "search"
    monkeypatch.setattr(trials, "train", refuse)
    for _ in range(2):
        assert tune(recipe_path, out, 1) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "the batch is larger than the data" in error
    recipe_path.write_text(SEARCH.replace("batch_size = 128", "batch_size = 64"))
    assert tune(recipe_path, out, 1) == 2
    assert "not of this search" in capsys.readouterr().err


def test_a_search_that_does_not_fit_in_memory_goes_on_with_force(
    recipe_path, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "search"
    monkeypatch.setattr(memory, "available_bytes", lambda: 500_000)  # enough for the images
    assert tune(recipe_path, out, 3) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "of memory, and 0.5 MB are left" in error
    assert error.endswith("go on anyway with --force; then the same command resumes the search\n")
    trained = []
    monkeypatch.setattr(trials, "train", lambda *arguments, **options: trained.append(arguments))
    assert tune(recipe_path, out, 1, "--force") == 1
    assert len(trained) == 1


@pytest.mark.slow
def test_a_full_disk_ends_the_search_without_failing_the_trial(recipe_path, tmp_path, capsys):
    out, real, models = tmp_path / "search", os.replace, []

    def replace(source, target, **folders):
        models.extend([target] if target == "model.keras" else [])
        if len(models) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target, **folders)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        assert tune(recipe_path, out, 3) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "0002/model.keras: cannot be written: No space left on device" in error
    assert error.endswith("then the same command resumes the search")
    assert not (out / "best.toml").exists()
    assert tune(recipe_path, out, 3) == 0
    assert (out / "best.toml").exists()


def test_a_folder_in_use_is_refused(recipe_path, tmp_path, capsys):
    out = tmp_path / "search"
    (out / "trials").mkdir(parents=True)
    with locked(out):
        assert tune(recipe_path, out, 1) == 2
    assert f"{out}: process" in capsys.readouterr().err
