"""A search on the digits: its trials, its result, and how it is resumed."""

import errno
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from urllib.request import Request, urlopen

import keras_tuner
import psutil
import pytest
from PIL import Image

import cifar_models
from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe
from cifar_models.errors import Divergence, RequestError, RunError
from cifar_models.run.load import load_run
from cifar_models.runtime import memory
from cifar_models.storage.atomic_files import locked
from cifar_models.sweeps import oracles, tuning
from cifar_models.sweeps.budget import SearchBudget
from cifar_models.sweeps.rungs import rungs
from cifar_models.sweeps.search_space import search_space, suggest
from cifar_models.workers import work as worker
from cifar_models.workers.job import Job, JobResult
from cifar_models.workers.worker_pool import raise_if_all_end
from tests.conftest import (
    TINY_CNN_TOML,
    read_history,
    read_metrics,
    refusal,
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


class PoolInThisProcess:
    """A pool whose jobs are done one after the other, without workers.

    Args:
        count: Number of trials that the search may choose at once.
    """

    def __init__(self, count: int):
        self.count = count

    def run(self, jobs: Sequence[Job], ended=None, may_begin=None) -> list[JobResult]:
        results: list[JobResult] = []
        for job in jobs:
            if may_begin and not may_begin(job):
                break
            results.append(worker.do_job(job))
            raise_if_all_end(results[-1])
            if ended:
                ended(job, results[-1])
        return results


@pytest.fixture
def in_this_process(monkeypatch):
    """Train trials in this process, which is faster than to start a worker for each test."""

    monkeypatch.setattr(
        tuning, "open_pool", lambda options, *_: nullcontext(PoolInThisProcess(options.workers))
    )


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """Return the names of the trials that are trained or resumed, as they are."""
    names: list[str] = []
    real = worker._train

    def train(job: Job) -> float:
        names.append(job.path.name)
        return real(job)

    monkeypatch.setattr(worker, "_train", train)
    return names


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
    assert tune(recipe_path, out, 3, "--set", "runtime.deterministic=true") == 0
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
    # With fewer trials than in the folder, all of them are used.
    assert tune(recipe_path, out, 1, "--set", "runtime.deterministic=true") == 0
    assert (out / "best.toml").read_text() == text
    assert main(["train", str(out / "best.toml"), "--run", str(tmp_path / "run")]) == 0
    trained, again = read_history(out / "trials" / best), read_history(tmp_path / "run")
    columns = [name for name in trained[0] if "loss" in name or "accuracy" in name]
    assert {"train_loss", "validation_loss", "validation_accuracy"} <= set(columns)
    for name in columns:
        assert [row[name] for row in again] == [row[name] for row in trained]


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_a_killed_search_resumes_where_it_stopped(recipe_path, tmp_path, monkeypatch, trained):
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    assert tune(recipe_path, uninterrupted, 3) == 0
    trained.clear()
    counted = worker._train

    def train_until_killed(job: Job) -> float:
        if len(trained) == 1:
            trained.append(job.path.name)
            (job.path / "recipe.toml").write_text(job.recipe)  # before training began
            raise KeyboardInterrupt
        return counted(job)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "_train", train_until_killed)
        with pytest.raises(KeyboardInterrupt):
            tuning.tune(read_recipe(str(recipe_path)), 3, killed)
    assert tune(recipe_path, killed, 3) == 0
    assert trained == ["0001", "0002", "0002", "0003"]
    for trial in ("0001", "0002", "0003"):
        one, other = (
            folder / "trials" / trial / "recipe.toml" for folder in (uninterrupted, killed)
        )
        assert one.read_text() == other.read_text()


@pytest.mark.usefixtures("in_this_process")
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


def failing(problem: Exception, *names: str):
    """Return a function that trains, but fails for trials of these names; of none, for all."""
    real = worker._train

    def train(job: Job) -> float:
        if not names or job.path.name in names:
            raise problem
        return real(job)

    return train


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("error", [RunError("loss is nan"), ValueError("loss is nan")])
def test_a_failed_trial_does_not_end_the_search(recipe_path, tmp_path, monkeypatch, capsys, error):
    monkeypatch.setattr(worker, "_train", failing(error, "0001"))
    out = tmp_path / "search"
    assert tune(recipe_path, out, 2) == 0
    assert "trial 0002" in (out / "best.toml").read_text().splitlines()[0]
    assert "trial 1 failed: loss is nan" in capsys.readouterr().out


@pytest.mark.usefixtures("in_this_process")
def test_a_search_fails_if_all_its_trials_fail(recipe_path, tmp_path, monkeypatch, capsys):
    out = tmp_path / "search"
    monkeypatch.setattr(worker, "_train", failing(RunError("the device is lost")))
    assert tune(recipe_path, out, 7) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "3 trials in a row have failed" in error
    assert "the device is lost" in error
    assert len(list((out / "trials").iterdir())) == 3
    assert tune(recipe_path, out, 7) == 1  # it goes on with the next ones
    assert len(list((out / "trials").iterdir())) == 6


@pytest.mark.usefixtures("in_this_process")
def test_trials_that_diverge_do_not_end_the_search(recipe_path, tmp_path, monkeypatch):
    diverging = failing(Divergence("the loss is not finite"), "0001", "0002", "0003", "0004")
    monkeypatch.setattr(worker, "_train", diverging)
    out = tmp_path / "search"
    assert tune(recipe_path, out, 5, "--oracle", "random") == 0
    assert "trial 0005" in (out / "best.toml").read_text().splitlines()[0]


@pytest.mark.usefixtures("in_this_process")
def test_no_trial_begins_after_the_budget_is_spent(recipe_path, tmp_path):
    out = tmp_path / "search"
    assert tune(recipe_path, out, 1) == 0
    assert tune(recipe_path, out, 3, "--budget-seconds", "0") == 0
    assert [path.name for path in (out / "trials").iterdir()] == ["0001"]


@pytest.mark.usefixtures("in_this_process")
def test_the_budget_includes_earlier_processes(recipe_path, tmp_path, capsys):
    out = tmp_path / "search"
    assert tune(recipe_path, out, 1, "--budget-seconds", "1000") == 0
    seconds = json.loads((out / "search.json").read_text())["seconds"]
    assert 0 < seconds < 1000
    (out / "search.json").write_text('{"seconds": 2000}')
    assert tune(recipe_path, out, 2, "--budget-seconds", "1000") == 0
    assert "the budget of 1000 seconds is spent" in capsys.readouterr().out
    assert [path.name for path in (out / "trials").iterdir()] == ["0001"]
    (out / "search.json").write_text('{"seconds": "many"}')
    assert "search.json: cannot be read" in refusal(
        capsys, "tune", recipe_path, "--trials", 2, "--out", out
    )


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_a_budget_of_operations_ends_the_search(tmp_path, trained, capsys):
    lines = '"training.peak_learning_rate" = { low = 1e-3, high = 1.0 }', 'oracle = "random"'
    path, out = space_of(tmp_path, *lines), tmp_path / "search"
    assert tune(path, out, 1) == 0
    metrics = read_metrics(out / "trials" / "0001")
    images = json.loads((out / "trials" / "0001" / "dataset.json").read_text())["train_images"]
    of_a_trial = 3 * metrics["flops_per_image"] * images  # the gradients cost two passes; 1 epoch
    trained.clear()
    assert tune(path, out, 5, "--budget-flops", str(1.5 * of_a_trial)) == 0
    assert trained == ["0002"]
    assert "FLOPs is spent" in capsys.readouterr().out


def test_a_trial_that_was_allowed_may_go_on_after_the_budget_is_spent(recipe_path, tmp_path):
    recipe = read_recipe(str(recipe_path))
    assert SearchBudget(tmp_path, 1000.0, None).allows("0001", recipe, 3)
    spent = SearchBudget(tmp_path, 0.0, None)
    assert spent.allows("0001", recipe, 3)
    assert not spent.allows("0001", recipe, 9)  # the next rung of halving
    assert not spent.allows("0002", recipe, 3)


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_a_trial_in_training_counts_as_a_whole(recipe_path, tmp_path):
    """Otherwise the number of trials would depend on the speed of the workers."""
    out = tmp_path / "search"
    assert tune(recipe_path, out, 1) == 0
    budget = SearchBudget(out, None, 1e20)
    of_one = budget.spent_flops()
    recipe = load_run(out / "trials" / "0001").recipe
    (out / "trials" / "0002").mkdir()
    assert budget.spent_flops() == of_one
    assert budget.allows("0002", recipe, recipe.training.epochs)
    assert budget.spent_flops() == 2 * of_one


@pytest.mark.usefixtures("in_this_process")
def test_a_folder_with_another_search_is_refused(recipe_path, tmp_path, capsys):
    out = tmp_path / "search"
    assert tune(recipe_path, out, 1) == 0
    recipe_path.write_text(SEARCH.replace("batch_size = 128", "batch_size = 64"))
    assert tune(recipe_path, out, 1) == 2
    assert "another search" in capsys.readouterr().err


def test_a_folder_with_other_files_is_refused(recipe_path, tmp_path, capsys):
    assert tune(recipe_path, tmp_path, 1) == 2
    assert "holds other files" in capsys.readouterr().err


@pytest.mark.usefixtures("in_this_process")
def test_a_failed_trial_is_not_trained_again(recipe_path, tmp_path, capsys, trained):
    out = tmp_path / "search"
    recipe_path.write_text(SEARCH.replace("high = 1.0", "high = 1e33").replace("1e-3", "1e32"))
    assert tune(recipe_path, out, 1) == 1
    assert "training diverged" in capsys.readouterr().out
    assert tune(recipe_path, out, 1) == 1
    assert "training diverged" in capsys.readouterr().err
    assert trained == ["0001"]


@pytest.mark.usefixtures("in_this_process")
def test_a_trial_that_fails_before_training_does_not_end_the_next_search(
    recipe_path, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "search"
    problem = RequestError("the batch is larger than the data")
    monkeypatch.setattr(worker, "_train", failing(problem))
    for _ in range(2):
        assert tune(recipe_path, out, 1) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "the batch is larger than the data" in error
    recipe_path.write_text(SEARCH.replace("batch_size = 128", "batch_size = 64"))
    assert tune(recipe_path, out, 1) == 2
    assert "not of this search" in capsys.readouterr().err


@pytest.mark.usefixtures("in_this_process")
def test_a_search_that_does_not_fit_in_memory_goes_on_with_force(
    recipe_path, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "search"
    monkeypatch.setattr(memory, "available_bytes", lambda: 500_000)  # enough for the images
    assert tune(recipe_path, out, 3) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "of memory, and 0.5 MB are left" in error
    assert error.endswith("go on anyway with --force; then the same command resumes the search\n")
    jobs = []
    monkeypatch.setattr(worker, "_train", lambda job: jobs.append(job) or 0.5)
    assert tune(recipe_path, out, 1, "--force") == 2  # the folder of the trial holds no run
    assert [job.force for job in jobs] == [True]


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_a_later_trial_that_does_not_fit_in_memory_is_a_failed_trial(tmp_path, monkeypatch, capsys):
    """No trial of the first rung is finished, and the first one did fit."""
    monkeypatch.setattr(worker, "_train", failing(memory.MemoryShortage("too large"), "0003"))
    path = space_of(tmp_path, '"training.peak_learning_rate" = { low = 1e-3, high = 1.0 }')
    path.write_text(path.read_text().replace("epochs = 1", "epochs = 3"))
    assert tune(path, tmp_path / "search", 3, "--oracle", "halving") == 0
    assert "trial 3 failed: too large" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_a_search_over_image_sizes_of_a_folder_is_resumed(tmp_path, trained):
    images = write_noise_images(tmp_path / "images", ["ant", "bee"], 12)
    path = space_of(tmp_path, '"model.image_size" = { choices = [8, 16] }', 'oracle = "random"')
    text = path.read_text().replace('"digits"', f"'folder:{images}'")
    path.write_text(text.replace("batch_size = 128", "batch_size = 4"))
    out = tmp_path / "search"
    assert tune(path, out, 4) == 0
    sizes = {load_run(out / "trials" / name).recipe.model.image_size for name in set(trained)}
    assert sizes == {8, 16}
    trained.clear()
    assert tune(path, out, 4) == 0
    assert not trained


def test_the_gaussian_process_proposes_values_of_recipes(tmp_path):
    """The first proposals, three for each range, are random."""
    path = space_of(
        tmp_path,
        '"training.peak_learning_rate" = { low = 1e-3, high = 1.0, scale = "log" }',
        '"model.stem_filters" = { low = 4, high = 8 }',
    )
    recipe = read_recipe(str(path))
    oracle = oracles.make_oracle(
        keras_tuner.oracles.BayesianOptimizationOracle, recipe, 20, tmp_path
    )
    for number in range(1, 10):
        chosen = oracle.create_trial("worker")
        trial = oracles.trial_of(number, chosen, recipe)
        assert trial and 1e-3 <= trial.recipe.training.peak_learning_rate <= 1.0
        assert trial.recipe.model.stem_filters in range(4, 9)
        chosen.status = "COMPLETED"
        oracle.update_trial(chosen.trial_id, {"validation_accuracy": number / 10})
        oracle.end_trial(chosen)


def test_values_that_do_not_fit_together_are_left_out(tmp_path, caplog):
    path = tmp_path / "vit.toml"
    path.write_text(
        '[model]\narchitecture = "vit"\nhidden_dim = 12\nnum_heads = 2\n[search]\n'
        '"model.hidden_dim" = { choices = [8, 12] }\n"model.num_heads" = { choices = [2, 3] }\n'
    )
    recipe = read_recipe(str(path))
    space = search_space(recipe)
    space.values = {"model.hidden_dim": 0, "model.num_heads": 1}  # 8 and 3
    proposed = keras_tuner.engine.trial.Trial(hyperparameters=space)
    assert oracles.trial_of(5, proposed, recipe) is None
    assert "trial 5 is left out: " in caplog.text
    space.values = {"model.hidden_dim": 1, "model.num_heads": 1}  # 12 and 3
    assert oracles.trial_of(6, proposed, recipe).recipe.model.num_heads == 3


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
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
    assert error.count("the same command resumes the search") == 1
    assert not (out / "best.toml").exists()
    assert tune(recipe_path, out, 3) == 0
    assert (out / "best.toml").exists()


def test_a_folder_in_use_is_refused(recipe_path, tmp_path, capsys):
    out = tmp_path / "search"
    (out / "trials").mkdir(parents=True)
    with locked(out):
        assert tune(recipe_path, out, 1) == 2
    assert f"{out}: process" in capsys.readouterr().err


def space_of(tmp_path: Path, *lines: str) -> Path:
    """Write the recipe with other lines in its table of the search."""
    path = tmp_path / "small.toml"
    path.write_text(SEARCH.split("[search]")[0] + "[search]\n" + "\n".join(lines))
    return path


CONDITION = (
    '"training.optimizer" = { choices = ["sgd", "adamw"] }',
    '"training.momentum" = { low = 0.5, high = 0.95, when = { "training.optimizer" = ["sgd"] } }',
)


def test_a_key_is_searched_only_if_its_condition_holds(tmp_path):
    recipe = read_recipe(str(space_of(tmp_path, *CONDITION)))
    assert read_recipe(str(space_of(tmp_path, *CONDITION))) == recipe
    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective="val_accuracy", max_trials=30, hyperparameters=search_space(recipe), seed=1
    )
    oracles._Chooser(oracle, tmp_path)
    seen = {"sgd": set(), "adamw": set()}
    for number in range(30):
        proposed = suggest(oracle.create_trial(str(number)).hyperparameters, recipe)
        seen[proposed.training.optimizer].add(proposed.training.momentum)
    assert seen["adamw"] == {recipe.training.momentum}
    assert len(seen["sgd"]) > 5 and all(0.5 <= each <= 0.95 for each in seen["sgd"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('oracle = "grid"', "search.oracle = 'grid' must be one of bayesian, random, halving"),
        ('"model.l1" = { low = 1e-8, high = 1e-4, when = 3 }', "write when = {"),
        (
            '"model.l1" = { low = 1e-8, high = 1e-4, when = { "model.l2" = [0.1] } }',
            "when: 'model.l2' is not searched with choices",
        ),
        (
            CONDITION[0] + "\n" + CONDITION[1].replace('["sgd"]', '["muon"]'),
            "when: 'muon' is not a choice of 'training.optimizer'",
        ),
    ],
)
def test_wrong_conditions_are_refused(line, message, tmp_path):
    with pytest.raises(RequestError, match=re.escape(message)):
        read_recipe(str(space_of(tmp_path, line)))


@pytest.mark.parametrize(
    ("trials", "epochs", "expected"),
    [
        (9, 9, [1, 3, 9]),
        (27, 30, [2, 4, 10, 30]),
        (3, 30, [10, 30]),
        (2, 30, [30]),
        (100, 1, [1]),
        (9, 2, [2]),
    ],
)
def test_the_rungs_of_halving(trials, epochs, expected):
    assert rungs(trials, epochs) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_halving_continues_the_best_third_of_the_trials(tmp_path, trained, capsys):
    lines = ('oracle = "halving"', '"training.peak_learning_rate" = { low = 1e-3, high = 1.0 }')
    path = space_of(tmp_path, *lines)
    path.write_text(path.read_text().replace("epochs = 1", 'epochs = 9\nkeep = "last"'))
    out = tmp_path / "search"
    assert tune(path, out, 3) == 0
    assert trained[:3] == ["0001", "0002", "0003"] and len(trained) == 4
    histories = {name: read_history(out / "trials" / name) for name in trained[:3]}
    after_three = {name: float(rows[2]["validation_accuracy"]) for name, rows in histories.items()}
    assert trained[3] == max(after_three, key=after_three.get)
    # Epochs are so short that most rows of the history are not written at once.
    epochs = {name: len(rows) for name, rows in histories.items()}
    assert epochs == {name: 9 if name == trained[3] else 3 for name in trained[:3]}
    finished = [path.parent.name for path in out.rglob("metrics.json")]
    assert finished == [trained[3]]
    # It equals a run that was never paused.
    recipe = out / "trials" / trained[3] / "recipe.toml"
    assert main(["train", str(recipe), "--run", str(tmp_path / "whole")]) == 0
    whole = [row["validation_accuracy"] for row in read_history(tmp_path / "whole")]
    halved = [row["validation_accuracy"] for row in read_history(out / "trials" / trained[3])]
    assert whole == halved
    trained.clear()
    assert tune(path, out, 3) == 0 and trained == []


@pytest.mark.usefixtures("in_this_process")
def test_a_proposal_that_was_tried_before_is_not_trained_again(tmp_path, trained, capsys):
    path = space_of(tmp_path, '"model.stem_filters" = { choices = [4, 4, 4] }', 'oracle = "random"')
    assert tune(path, tmp_path / "search", 3) == 0
    assert trained == ["0001"]
    assert "is trial 1 again" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_the_best_recipe_is_confirmed_on_all_images(recipe_path, tmp_path):
    out = tmp_path / "search"
    assert tune(recipe_path, out, 1, "--confirm", "1", "--confirm-on-all") == 0
    trial, confirmed = (load_run(out / name / "0001") for name in ("trials", "confirmed"))
    assert confirmed.recipe.data.validation_fraction == 0
    assert (
        confirmed.dataset.train_images
        == trial.dataset.train_images + trial.dataset.validation_images
    )


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_a_begun_confirmation_of_another_recipe_is_refused(recipe_path, tmp_path, capsys):
    """The best recipe has changed since it was stopped, so resuming it would test the old one."""
    out = tmp_path / "search"
    assert tune(recipe_path, out, 1, "--confirm", "1") == 0
    confirmed = out / "confirmed" / "0001"
    (confirmed / "metrics.json").unlink()
    path = confirmed / "fingerprints.json"
    path.write_text(path.read_text().replace('"training.epochs": 1', '"training.epochs": 2'))
    error = refusal(capsys, "tune", recipe_path, "--trials", 1, "--confirm", 1, "--out", out)
    assert f"{confirmed}: is a run of another recipe than" in error


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_a_search_that_finds_nothing_better_keeps_its_confirmation(
    recipe_path, tmp_path, capsys, trained
):
    out = tmp_path / "search"
    assert tune(recipe_path, out, 1, "--confirm", "1") == 0
    path = out / "trials" / "0001" / "metrics.json"
    path.write_text(re.sub(r'"accuracy": [0-9.]+', '"accuracy": 1.0', path.read_text(), count=1))
    trained.clear()
    assert tune(recipe_path, out, 2, "--confirm", "1") == 0
    assert trained == ["0002"]  # the confirmed run, 0001, is not trained again
    assert "records 1 tuning trials, as it was confirmed before the search had 2" in (
        capsys.readouterr().out
    )


@pytest.mark.slow
def test_a_script_without_a_guard_searches_in_an_untrusted_folder(recipe_path, tmp_path):
    """A worker neither runs the script again nor imports what lies in the working directory."""
    script, hostile = tmp_path / "script.py", tmp_path / "hostile"
    script.write_text(
        "import sys\n"
        "from cifar_models.config.recipe_file import read_recipe\n"
        "from cifar_models.sweeps.tuning import tune\n"
        "print('begun')\n"
        "tune(read_recipe(sys.argv[1]), 1, sys.argv[2])\n"
    )
    hostile.mkdir()
    for module in ("socket", "pickle", "selectors", "numpy", "keras"):
        (hostile / f"{module}.py").write_text("raise SystemExit('code of a stranger')")
    result = subprocess.run(
        [sys.executable, str(script), str(recipe_path), str(tmp_path / "search")],
        cwd=hostile,
        env={**os.environ, "PYTHONPATH": str(Path(cifar_models.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("begun") == 1
    assert (tmp_path / "search" / "best.toml").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_two_recipes_are_searched_and_compared(recipe_path, tmp_path, capsys):
    other = tmp_path / "other.toml"
    other.write_text(SEARCH.replace("stem_filters = 4", "stem_filters = 6"))
    command = ["tune", recipe_path, other, "--trials", 1, "--out", tmp_path / "both"]
    assert "--confirm 3" in refusal(capsys, *command)
    assert main([*map(str, command), "--confirm", "2"]) == 0
    page = (tmp_path / "both" / "comparison" / "report.html").read_text()
    assert "small-tuned" in page and "other-tuned" in page
    assert "must have different names" in refusal(
        capsys, "tune", recipe_path, recipe_path, "--confirm", 1, "--out", tmp_path / "same"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_tensorboard_has_every_metric_of_every_trial(recipe_path, tmp_path):
    """TensorBoard's own server is asked, as its page asks it."""
    out = tmp_path / "search"
    assert tune(recipe_path, out, 2) == 0
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", out, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = next(
            found[0] for line in server.stderr if (found := re.search(r"http://\S+:\d+", line))
        )
        groups = wait_for_groups(f"{address}/data/plugin/hparams/", 2)
    finally:
        server.kill()
        server.wait()
    for group in groups:
        values = {
            each["name"]["tag"]: each["value"] for each in group["sessions"][0]["metricValues"]
        }
        trial = Path(group["sessions"][0]["name"]).parent
        metrics = read_metrics(out / trial)
        for name in ("accuracy", "loss", "f1_macro", "expected_calibration_error"):
            assert values[f"final/validation_{name}"] == pytest.approx(metrics[name], rel=1e-6)
        assert "model.stem_filters" in group["hparams"]


def wait_for_groups(address: str, count: int) -> list[dict]:
    """Return the session groups of TensorBoard's HParams tab, once it has read all of them."""
    for _ in range(60):
        experiment = ask(address + "experiment", {})
        request = {
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_RUNNING"],
            "colParams": [
                {kind: info["name"], "includeInResult": True}
                for kind in ("metric", "hparam")
                for info in experiment.get(f"{kind}Infos", [])
            ],
            "startIndex": 0,
            "sliceSize": 100,
        }
        groups = ask(address + "session_groups", request).get("sessionGroups", [])
        if len(groups) == count and all(
            group["sessions"][0].get("metricValues") for group in groups
        ):
            return groups
        time.sleep(1)
    raise AssertionError("TensorBoard did not read the trials")


def ask(address: str, request: dict) -> dict:
    body = json.dumps(request).encode()
    message = Request(address, body, {"Content-Type": "application/json"})
    with urlopen(message) as answer:
        return json.load(answer)


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_the_best_recipe_is_confirmed_with_other_seeds(recipe_path, tmp_path, trained, capsys):
    out = tmp_path / "search"
    assert tune(recipe_path, out, 1, "--confirm", "2") == 0
    assert trained == ["0001", "0001", "0002"]  # a trial, and two seeds
    runs = [load_run(out / "confirmed" / name) for name in ("0001", "0002")]
    assert [run.metrics.split for run in runs] == ["test", "test"]
    assert [run.recipe.runtime.seed for run in runs] == [1, 2]
    tested = [100 * run.metrics.accuracy for run in runs]
    mean, spread = statistics.mean(tested), statistics.stdev(tested)
    words = f"{mean:.2f} ± {spread:.2f} %"
    assert f"confirmed with 2 other seeds: test accuracy {words}" in capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert "report.html" not in page and words in page
    validated = [
        100 * max(float(row["validation_accuracy"]) for row in read_history(run.path))
        for run in runs
    ]
    assert f"{statistics.mean(validated):.2f} ± " in page
    trained.clear()
    assert tune(recipe_path, out, 1, "--confirm", "2") == 0 and trained == []


@pytest.mark.slow
def test_two_workers_train_the_trials_of_one(recipe_path, tmp_path, capsys):
    recipe_path.write_text(SEARCH.replace("[search]", '[search]\noracle = "random"'))
    one, two = tmp_path / "one", tmp_path / "two"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "open_pool", lambda *_: nullcontext(PoolInThisProcess(1)))
        assert tune(recipe_path, one, 2) == 0
    assert tune(recipe_path, two, 2, "--workers", "2") == 0
    for name in ("0001", "0002"):
        recipes = [(out / "trials" / name / "recipe.toml").read_text() for out in (one, two)]
        assert recipes[0] == recipes[1]
        assert read_metrics(two / "trials" / name)["split"] == "validation"
    assert "best so far" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_search_lose_nothing(recipe_path, tmp_path):
    """The first worker dies in a trial, which another one goes on with; then the search dies."""
    text = SEARCH.replace("epochs = 1", "epochs = 6").replace("batch_size = 128", "batch_size = 16")
    recipe_path.write_text(f"{text}\n[runtime]\ncheckpoint_seconds = 0\n")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "cifar_models", "tune", str(recipe_path), "--trials", "3"]
    subprocess.run([*command, "--out", str(whole)], check=True)
    for victim in ("worker", "search"):
        search = subprocess.Popen([*command, "--out", str(killed)])
        name = "0001" if victim == "worker" else "0002"
        while not list((killed / "trials" / name / "checkpoints").glob("*")):
            assert search.poll() is None
            time.sleep(0.05)
        children = psutil.Process(search.pid).children(recursive=True)
        workers = [each for each in children if "spawn_main" in " ".join(each.cmdline())]
        for process in workers if victim == "worker" else [search]:
            process.kill()
        if victim == "worker":
            assert search.wait() == 0
            shutil.rmtree(killed / "trials" / "0002")
            shutil.rmtree(killed / "trials" / "0003")
            (killed / "best.toml").unlink()
        else:
            search.wait()
    subprocess.run([*command, "--out", str(killed)], check=True)
    assert (killed / "best.toml").read_text() == (whole / "best.toml").read_text()


@pytest.mark.slow
def test_a_trial_that_hangs_is_a_failed_trial(recipe_path, tmp_path, capsys):
    recipe_path.write_text(SEARCH.replace("epochs = 1", "epochs = 100000"))
    assert tune(recipe_path, tmp_path / "search", 1, "--trial-seconds", "15") == 1
    assert "it took more than 15 s (--trial-seconds)" in capsys.readouterr().err
