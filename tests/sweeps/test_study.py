"""A study: the runs that it plans, how it is resumed, and what it refuses."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe, recipe_toml
from cifar_models.config.run_identity import fingerprints
from cifar_models.errors import RequestError
from cifar_models.runtime.signals import Interruption
from cifar_models.storage.open_run import create_run_folder
from cifar_models.storage.run_folder import RunFolder
from cifar_models.sweeps import study as study_module
from cifar_models.sweeps.study_file import STUDIES, PlannedRun, plan_runs, read_study
from tests.conftest import refusal

STUDY = """
recipes = ["digits-cnn"]
seeds = [0, 1]
train_fractions = [1.0, 0.2]
overrides = ["training.epochs=1", "model.stage_filters=[4, 4]", "model.stem_filters=4"]
"""


@pytest.fixture
def study_path(tmp_path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(STUDY)
    return path


def test_every_study_of_this_project_can_be_planned(tmp_path):
    for path in STUDIES.glob("*.toml"):
        assert list(plan_runs(read_study(path.stem), tmp_path))


def test_every_combination_is_one_run(study_path, tmp_path):
    runs = list(plan_runs(read_study(str(study_path)), tmp_path / "out"))
    assert [run.path.relative_to(tmp_path / "out").as_posix() for run in runs] == [
        f"digits/runs/digits-cnn-{fraction}-{seed}" for seed in (0, 1) for fraction in ("1", "0.2")
    ]


@pytest.mark.slow
def test_a_study_trains_missing_runs_tolerates_failures_and_compares(
    study_path, tmp_path, capsys, monkeypatch
):
    out, commands, real = tmp_path / "out", [], subprocess.Popen
    diverging = tmp_path / "diverging.toml"
    diverging.write_text(
        recipe_toml(read_recipe("digits-cnn", ["training.peak_learning_rate=1e30"]))
    )
    diverging.write_text(diverging.read_text().replace('"digits-cnn"', '"diverging"', 1))
    study = STUDY.replace("[0, 1]", "[0]").replace("[1.0, 0.2]", "[1.0]")
    study_path.write_text(study.replace("]", f', "{diverging}"]', 1))
    monkeypatch.setattr(study_module, "_measure_first_runs", lambda *arguments: None)

    def popen(command, **options):
        commands.append(command)
        return real(command, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    assert main(["study", str(study_path), "--out", str(out)]) == 0
    output = capsys.readouterr().out
    failing = out / "digits" / "runs" / "diverging-1-0"
    assert re.search(r"run 2 of 2: .*, about \d+ (s|min) left", output)
    assert f"{failing}: failed: " in output and "training diverged" in output
    assert (out / "digits" / "comparison" / "report.html").exists()
    finished = [
        path for path in (out / "digits" / "runs").iterdir() if RunFolder(path).is_finished()
    ]
    assert len(finished) == 1

    failed = next(path for path in (out / "digits" / "runs").iterdir() if path not in finished)
    commands.clear()
    main(["study", str(study_path), "--out", str(out)])
    assert "2 runs, 1 of them missing" in capsys.readouterr().out
    assert [command[3:5] for command in commands] == [["resume", str(failed)]]


def start_runs(study: str, folder: Path) -> list[PlannedRun]:
    """Plan the runs of a study, and write what their folders hold when training begins."""
    (folder / "small.toml").write_text(study)
    runs = list(plan_runs(read_study(str(folder / "small.toml")), folder))
    for run in runs:
        identity = fingerprints(run.recipe, ["cat", "dog"], "0" * 64, "test")
        create_run_folder(run.path).write_fingerprints(identity)
    return runs


def test_the_first_run_of_each_recipe_is_measured_once(tmp_path, monkeypatch):
    """Only runs on the largest training fraction are measured, wherever they are in the list."""
    study = """
        recipes = ["digits-cnn", "digits-vit"]
        seeds = [0, 1]
        train_fractions = [0.1, 1.0]
    """
    runs = start_runs(study, tmp_path)
    paths = [run.path for run in runs if run.recipe.data.train_fraction == 1]
    served, commands = [], []
    monkeypatch.setattr(study_module, "measure_serving_costs", served.extend)
    monkeypatch.setattr(
        study_module, "_try_command", lambda path, arguments: commands.append((path, arguments))
    )
    (paths[1] / "robustness.json").write_text("{}")
    study_module._measure_first_runs(runs, None)
    assert served == paths[:2]
    assert commands == [(paths[0], ["evaluate", str(paths[0]), "--corruptions"])]
    study_module._measure_first_runs(runs, 50)
    assert commands[1][1][2:] == ["--corruptions", "--images", "50"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [0, 1]", "seeds = 3", "seeds = 3: must be a list"),
        ("seeds = [0, 1]", "", "seeds must be a list that is not empty"),
        ("training.epochs=1", "runtime.seed=3", "override 'runtime.seed=3': set it in seeds"),
        ("seeds", "robustness_images = 0\nseeds", "robustness_images must be at least 1"),
        ("seeds", "seed", "unknown key seed"),
        ("digits-cnn", "digits-cmn", "digits-cnn"),
        ("training.epochs=1", "training.epohcs=1", "training.epochs"),
        ("recipes", "[recipes", "not a TOML file"),
    ],
)
def test_a_wrong_study_is_refused_before_anything_runs(old, new, message, study_path, tmp_path):
    study_path.write_text(STUDY.replace(old, new))
    with pytest.raises(RequestError, match=message.replace("[", "\\[")):
        list(plan_runs(read_study(str(study_path)), tmp_path))


def test_two_recipes_of_one_name_are_refused(study_path, tmp_path):
    """Their run folders would be the same, so the second one would never be trained."""
    other = tmp_path / "best.toml"
    recipe = recipe_toml(read_recipe("digits-cnn", ["training.peak_learning_rate=0.3"]))
    other.write_text(recipe)
    study_path.write_text(STUDY.replace("]", f', "{other}"]', 1))
    with pytest.raises(RequestError, match="two runs of the study would be"):
        list(plan_runs(read_study(str(study_path)), tmp_path))
    other.write_text(recipe.replace('"digits-cnn"', '"digits-cnn-tuned"', 1))
    assert len(list(plan_runs(read_study(str(study_path)), tmp_path))) == 8


def test_a_changed_study_refuses_its_earlier_runs(tmp_path, capsys):
    run = start_runs(STUDY, tmp_path)[0]
    study = tmp_path / "small.toml"
    study.write_text(STUDY.replace("epochs=1", "epochs=3"))
    error = refusal(capsys, "study", study, "--out", tmp_path)
    assert f"{run.path}: is a run of another study: training.epochs was 1 and is 3" in error


# A study whose only run waits, and takes a second to save when it is stopped.
STOPPED = '''
import subprocess, sys
from pathlib import Path
from cifar_models.cli import main as cli
from cifar_models.sweeps import study
RUN = """
import signal, sys, time
def save(number, frame):
    time.sleep(1)
    open(sys.argv[1], "w").write("saved")
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, save)
open(sys.argv[1] + "-started", "w").close()
time.sleep(60)
"""
cli.COMMANDS["study"] = lambda options: study._try_command(Path("a run"), ["-c", RUN, sys.argv[1]])
real = subprocess.Popen
subprocess.Popen = lambda command, **options: real([command[0], *command[3:]], **options)
sys.exit(cli.main(["study", "digits"]))
'''


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_study_waits_until_its_run_has_saved(number, tmp_path):
    saved = tmp_path / "saved"
    command = [sys.executable, "-c", STOPPED, str(saved)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not Path(f"{saved}-started").exists():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert saved.read_text() == "saved"
    assert "stopping after the state is saved" in errors


def test_a_stopped_study_says_how_to_resume(study_path, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments):
        raise Interruption(signal.SIGINT)

    monkeypatch.setattr(study_module, "_train_in_process", interrupted)
    assert main(["study", str(study_path), "--out", str(tmp_path / "out")]) == 130
    assert "stopped; the same command resumes the study" in capsys.readouterr().err


def test_an_unknown_study_is_refused(capsys):
    error = refusal(capsys, "study", "nothing")
    assert "study 'nothing': neither a file nor one of cifar10-small, digits, laptop" in error


def test_force_reaches_every_run(study_path, tmp_path, monkeypatch):
    runs, commands = list(plan_runs(read_study(str(study_path)), tmp_path)), []
    monkeypatch.setattr(study_module, "_try_command", lambda path, words: commands.append(words))
    study_module._train_one_by_one(runs, ["--force"])
    assert len(commands) == len(runs)
    assert all(command[0] == "train" and "--force" in command for command in commands)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("recipes = [1]", "recipes = 1: must be text"),
        ('seeds = ["a"]', "must be a whole number"),
        (f"seeds = [{10**400}]", "must be a number from"),
        ('train_fractions = ["half"]', "must be a number"),
        ("train_fractions = [nan]", "must be a number from"),
        ("datasets = [[]]", "must be text"),
        ("overrides = [{ a = 1 }]", "must be text"),
        ('overrides = ["training.epochs=9e999"]', "must be a whole number"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused(line, message, tmp_path):
    path = tmp_path / "odd.toml"
    key = line.partition(" ")[0]
    others = [each for each in STUDY.strip().splitlines() if not each.startswith(key)]
    path.write_text("\n".join([*others, line]))
    with pytest.raises(RequestError) as error:
        list(plan_runs(read_study(str(path)), tmp_path))
    assert message in str(error.value) and "\n" not in str(error.value)
