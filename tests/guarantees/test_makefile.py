"""Make targets pass their variables to the command, and refuse variables that they do not read."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Replaces every program in .venv/bin, and writes its name and its arguments to a file.
STUB = """#!/bin/bash
python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "${0##*/}" "$@" >> calls.jsonl
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with the Makefile and a .venv in which all programs are stubs."""
    for name in ("Makefile", "requirements.txt", "requirements-gpu.txt"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name in ("python", "tensorboard", "jupyter", "ruff", "mypy"):
        (bin_folder / name).write_text(STUB)
        (bin_folder / name).chmod(0o755)
    for name in ("installed", "installed-gpu"):
        (tmp_path / ".venv" / name).touch()
    return tmp_path


def make(
    project: Path, *arguments: str, **environment: str
) -> tuple[subprocess.CompletedProcess, list[list[str]]]:
    """Run make, and return its result and the arguments of every program that it started."""
    result = subprocess.run(
        ["make", "--silent", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            **environment,
        },  # without variables of a make that runs the tests
    )
    calls = project / "calls.jsonl"
    lines = calls.read_text().splitlines() if calls.exists() else []
    calls.unlink(missing_ok=True)
    return result, [json.loads(line) for line in lines]


def command_of(project: Path, *arguments: str, **environment: str) -> list[str]:
    """Return the arguments of the one `python -m cifar_models` that a target runs."""
    result, calls = make(project, *arguments, **environment)
    assert result.returncode == 0, result.stderr
    ((program, *words),) = calls
    assert (program, words[:2]) == ("python", ["-m", "cifar_models"])
    return words[2:]


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("train-cnn", "train cnn"),
        ("train-cnn DATASET=digits DATA_DIR=d", "train cnn --dataset digits --data-dir d"),
        (
            "train-vit GPU=1 EPOCHS=5 SEED=3 BATCH_SIZE=32",
            "train vit --seed 3 --set training.epochs=5 --set training.batch_size=32",
        ),
        (
            "train-hybrid GPU=1 RUN=r ARGS='--no-xla --seed 1'",
            "train hybrid --run r --no-xla --seed 1",
        ),
        ("train-vit RECIPE=vit", "train vit"),
        ("train-hybrid DATASET=digits", "train hybrid --dataset digits"),
        ("train RECIPE=resnet18 SEED=0", "train resnet18 --seed 0"),
        ("train-cnn RECIPE=resnet18 EPOCHS=2", "train resnet18 --set training.epochs=2"),
        ("tune", "tune cnn --out runs/tune-cnn"),
        ("tune RECIPE=vit OUT=o", "tune vit --out o"),
        ("tune RECIPE=digits-vit DATASET=digits RUN=r", "tune digits-vit --dataset digits --out r"),
        ("tune DATASET=digits", "tune cnn --dataset digits --out runs/tune-cnn-digits"),
        (
            "tune RECIPE=my/own.toml DATASET=folder:a/b",
            "tune my/own.toml --dataset folder:a/b --out runs/tune-own-folder-a-b",
        ),
        (
            "tune TRIALS=4 BUDGET_SECONDS=60 SEED=1 EPOCHS=2 OUT=o",
            "tune cnn --seed 1 --set training.epochs=2 --trials 4 --budget-seconds 60 --out o",
        ),
        ("compare RUN='a b'", "compare a b --out runs/comparison"),
        ("compare RUN=a OUT=o", "compare a --out o"),
        ("study", "study digits"),
        ("study RECIPE=cifar10-small OUT=o", "study cifar10-small --out o"),
        ("export RUN=r OUT=o DATA_DIR=d", "export r --out o --data-dir d"),
        ("serve RUN='a b' ARGS='--port 0'", "serve a b --port 0"),
        ("benchmark", "benchmark cnn"),
        ("benchmark RUN='a b'", "benchmark a b"),
        ("benchmark RUN=a RECIPE=cnn", "benchmark a cnn"),
        (
            "benchmark RECIPE=vit DATASET=digits BATCH_SIZE=8",
            "benchmark vit --dataset digits --set training.batch_size=8",
        ),
        ("resume RUN='my run' DATA_DIR=d", "resume 'my run' --data-dir d"),
        ("train-cnn GPU=1 PYTHON=python3.11", "train cnn"),
    ],
)
def test_a_target_passes_its_variables_to_the_command(words, command, project):
    assert command_of(project, *shlex.split(words)) == shlex.split(command)


def test_a_cluster_has_a_chief_and_workers(project):
    result, calls = make(project, "tune-cluster", "RECIPE=digits-cnn", "WORKERS=3", "TRIALS=4")
    assert result.returncode == 0, result.stderr
    command = "python -m cifar_models tune digits-cnn --trials 4 --out runs/tune-digits-cnn"
    assert calls == 4 * [shlex.split(command)]


@pytest.mark.skipif(
    any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg")), reason="has a GPU"
)
@pytest.mark.parametrize("model", ["vit", "hybrid"])
def test_without_a_gpu_the_laptop_recipe_is_trained_and_the_other_one_named(model, project):
    result, calls = make(project, f"train-{model}")
    assert calls == [["python", "-m", "cifar_models", "train", f"{model}-laptop"]]
    assert f"RECIPE={model} " in result.stdout


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("tensorboard", "tensorboard --logdir runs"),
        ("tensorboard RUN=r ARGS='--port 1'", "tensorboard --logdir r --port 1"),
        ("results", "python -m experiments.results_table"),
        ("test ARGS='-k name'", "python -m pytest -m 'not slow and not gpu' -k name"),
        ("test-slow", "python -m pytest"),
    ],
)
def test_a_target_passes_its_variables_to_other_programs(words, call, project):
    result, calls = make(project, *shlex.split(words))
    assert result.returncode == 0, result.stderr
    assert calls == [shlex.split(call)]


DIFFICULT_PATHS = [
    "my run",
    "it's here",
    "my $dir",
    "$(shell id)",
    "${HOME}",
    'a "b"',
    "a;b",
    "a#b",
    "*",
    "`id`",
]


@pytest.mark.parametrize("value", DIFFICULT_PATHS)
@pytest.mark.parametrize(
    ("target", "variables"),
    [
        ("train", ("RECIPE", "DATASET", "DATA_DIR", "RUN")),
        ("train-cnn", ("DATASET", "DATA_DIR", "RUN")),
        ("resume", ("RUN", "DATA_DIR")),
        ("tune", ("RECIPE", "DATASET", "DATA_DIR", "OUT")),
        ("compare", ("RUN", "OUT")),
        ("study", ("RECIPE", "OUT")),
        ("export", ("RUN", "OUT", "DATA_DIR")),
        ("benchmark", ("RUN", "RECIPE", "DATASET", "DATA_DIR")),
    ],
)
def test_a_path_reaches_the_command_unchanged(target, variables, value, project):
    (project / value).mkdir()  # compare and benchmark: one run
    words = command_of(project, target, *(f"{name}={value}" for name in variables))
    assert words.count(value) == len(variables)


def test_a_path_reaches_tensorboard_unchanged(project):
    for value in DIFFICULT_PATHS:
        _, calls = make(project, "tensorboard", f"RUN={value}")
        assert calls == [["tensorboard", "--logdir", value]]


def test_several_runs_may_be_named_by_a_wildcard(project):
    for name in ("cnn-0", "cnn-1", "vit"):
        (project / name).mkdir()
    assert command_of(project, "compare", "RUN=cnn-* vit")[1:4] == ["cnn-0", "cnn-1", "vit"]


@pytest.mark.parametrize(
    ("words", "name", "read"),
    [
        ("train-cnn EPOCS=5", "EPOCS", "EPOCHS"),
        ("train-cnn TRIALS=3", "TRIALS", "DATASET"),
        ("export RUN=r EPOCHS=5", "EPOCHS", "RUN"),
        ("tune LR=0.1", "LR", "TRIALS"),
        ("demo EPOCHS=1", "EPOCHS", "PYTHON"),
        ("test SEED=1", "SEED", "ARGS"),
        ("clean VENV=/", "VENV", "no variables"),
        ("help RUN=r", "RUN", "no variables"),
        ("RUN=r", "RUN", "no variables"),
        ("tune GIVEN= LR=1", "LR", "TRIALS"),
        ("tune READS_tune=LR LR=1", "READS_tune", "LR"),
    ],
)
def test_a_variable_that_the_target_does_not_read_is_refused(words, name, read, project):
    result, calls = make(project, *shlex.split(words))
    assert (result.returncode, calls, result.stdout) == (2, [], "")
    assert result.stderr.count("\n") == 1
    target = words.split()[0] if "=" not in words.split()[0] else "help"
    refused, _, accepted = result.stderr.partition("; it reads ")
    assert f"`make {target}` does not read " in refused and name in refused.split()
    assert read in accepted
    assert (project / ".venv").exists()


def test_a_variable_of_one_of_several_targets_is_accepted(project):
    result, calls = make(project, "lint", "test", "ARGS=-x")
    assert result.returncode == 0
    assert calls[-1][-1] == "-x"


@pytest.mark.parametrize("target", ["resume", "compare", "export"])
def test_a_target_without_the_run_that_it_needs_is_refused(target, project):
    result, calls = make(project, target)
    assert (result.returncode, calls) == (2, [])
    assert f"`make {target}` needs RUN" in result.stderr and result.stderr.count("\n") == 1


def test_environment_variables_are_defaults_and_never_refused(project):
    words = command_of(project, "train-cnn", EPOCHS="5", TRIALS="7", OTHER="x", RUN="a $b")
    assert words == ["train", "cnn", "--set", "training.epochs=5", "--run", "a $b"]
    assert command_of(project, "train-cnn", "EPOCHS=6", EPOCHS="5")[-1] == "training.epochs=6"


def test_the_demo_stops_at_the_first_failure(project):
    (project / ".venv/bin/python").write_text(STUB + "exit 1\n")
    result, calls = make(project, "demo")
    assert result.returncode == 2 and len(calls) == 1


def test_help_names_every_target_and_variable(project):
    result, _ = make(project, "help")
    assert result.returncode == 0
    makefile = (ROOT / "Makefile").read_text()
    for line in makefile.splitlines():
        if line.startswith("READS_"):
            target, _, names = line.removeprefix("READS_").partition(" :=")
            assert f"\n{target} " in f"\n{result.stdout}"
            for name in names.split():
                assert f"{name}=" in result.stdout or name.startswith("$")
