"""A declared study: what it plans, how it goes on, what it refuses."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from cifar_models import study as study_module
from cifar_models.cli import main
from cifar_models.errors import RequestError
from cifar_models.run_folder import RunFolder
from cifar_models.study import planned_runs, read_study
from tests.made_runs import answers, make_run

STUDY = """
recipes = ["digits-cnn"]
seeds = [0, 1]
train_fractions = [1.0, 0.2]
overrides = ["training.epochs=1", "model.stage_filters=[4, 4]", "model.stem_filters=4"]
"""


@pytest.fixture
def labels() -> np.ndarray:
    return np.arange(60) % 3


@pytest.fixture
def study_path(tmp_path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(STUDY)
    return path


def test_every_study_of_the_project_can_be_planned(tmp_path):
    for path in study_module.STUDIES.glob("*.toml"):
        assert list(planned_runs(read_study(path.stem), tmp_path))


def test_every_combination_is_one_run(study_path, tmp_path):
    runs = list(planned_runs(read_study(str(study_path)), tmp_path / "out"))
    assert [run.path.relative_to(tmp_path / "out").as_posix() for run in runs] == [
        f"digits/runs/digits-cnn-{fraction}-{seed}" for seed in (0, 1) for fraction in ("1", "0.2")
    ]


def test_a_study_runs_what_is_missing_survives_a_failure_and_compares(
    study_path, tmp_path, capsys, monkeypatch
):
    out, commands, real = tmp_path / "out", [], subprocess.run
    study_path.write_text(STUDY.replace("[0, 1]", "[0]"))
    monkeypatch.setattr(study_module, "_measure_further", lambda *arguments: None)

    def run(command, **options):
        commands.append(command)
        if len(commands) == 2:
            command = [*command, "--set", "training.peak_learning_rate=1e30"]
        return real(command, **options)

    monkeypatch.setattr(study_module.subprocess, "run", run)
    assert main(["study", str(study_path), "--out", str(out)]) == 0
    output = capsys.readouterr().out
    assert "run 2 of 2" in output and "min left" in output
    assert "failed: error: " in output and "training diverged" in output
    assert (out / "digits" / "comparison" / "report.html").exists()
    finished = [
        path for path in (out / "digits" / "runs").iterdir() if RunFolder(path).is_finished()
    ]
    assert len(finished) == 1

    failed = next(path for path in (out / "digits" / "runs").iterdir() if path not in finished)
    commands.clear()
    main(["study", str(study_path), "--out", str(out)])
    assert "2 runs, 1 of them to do" in capsys.readouterr().out
    assert [command[3:5] for command in commands] == [["resume", str(failed)]]


def test_one_run_of_each_recipe_is_measured_further_and_once(tmp_path, labels, monkeypatch):
    paths = [
        make_run(
            tmp_path / f"{name}-{seed}", f"digits-{name}", answers(labels, 0.8, rng), labels,
            (f"runtime.seed={seed}",),
        )
        for rng in [np.random.default_rng(0)]
        for seed in (0, 1)
        for name in ("cnn", "vit")
    ]  # fmt: skip
    served, commands = [], []
    monkeypatch.setattr(study_module, "serving_costs", served.extend)
    monkeypatch.setattr(
        study_module, "_succeeds", lambda path, arguments: commands.append((path, arguments))
    )
    RunFolder(paths[1]).write_robustness({"mean_corrupted_accuracy": 0.5})
    study_module._measure_further(paths, None)
    assert served == paths[:2]
    assert commands == [(paths[0], ["evaluate", str(paths[0]), "--corruptions"])]
    study_module._measure_further(paths, 50)
    assert commands[1][1][2:] == ["--corruptions", "--images", "50"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [0, 1]", "seeds = 3", "seeds = 3 must be a list"),
        ("seeds = [0, 1]", "", "seeds must be a list that is not empty"),
        ("training.epochs=1", "runtime.seed=3", "override 'runtime.seed=3': say it in seeds"),
        ("seeds", "robustness_images = 0\nseeds", "robustness_images = 0 must be a positive"),
        ("seeds", "seed", "unknown key seed"),
        ("digits-cnn", "digits-cmn", "digits-cnn"),
        ("training.epochs=1", "training.epohcs=1", "training.epochs"),
        ("recipes", "[recipes", "not a TOML file"),
    ],
)
def test_a_wrong_study_is_refused_before_anything_runs(old, new, message, study_path, tmp_path):
    study_path.write_text(STUDY.replace(old, new))
    with pytest.raises(RequestError, match=message.replace("[", "\\[")):
        list(planned_runs(read_study(str(study_path)), tmp_path))


def test_an_unknown_study(capsys):
    assert main(["study", "nothing"]) == 2
    assert (
        "study 'nothing': neither a file nor one of cifar10-small, digits"
        in capsys.readouterr().err
    )
