"""A search whose trials KerasTuner's chief gives out."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cifar_models.errors import RequestError
from cifar_models.sweeps import chief
from cifar_models.sweeps.roles import role
from tests.conftest import SMALLEST_CNN_TOML, free_port, read_metrics, refusal

SEARCH = f"""{SMALLEST_CNN_TOML}
[training]
epochs = 6
batch_size = 16

[runtime]
checkpoint_seconds = 0

[search]
"training.peak_learning_rate" = {{ low = 1e-3, high = 1.0, scale = "log" }}
"""


@pytest.fixture
def variables(monkeypatch) -> dict[str, str]:
    """KerasTuner's variables of a worker."""
    found = {
        "KERASTUNER_TUNER_ID": "worker1",
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(free_port()),
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SEARCH)
    return path


def test_the_part_of_a_process(variables, monkeypatch):
    assert role() == "worker"
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    assert role() == "chief"
    monkeypatch.delenv("KERASTUNER_ORACLE_PORT")
    with pytest.raises(RequestError, match="KERASTUNER_ORACLE_PORT: is not set"):
        role()
    monkeypatch.delenv("KERASTUNER_TUNER_ID")
    monkeypatch.delenv("KERASTUNER_ORACLE_IP")
    assert role() is None


def test_a_chief_that_does_not_answer_is_refused(variables, recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(chief, "CONNECTION_SECONDS", 0.1)
    error = refusal(capsys, "tune", recipe, "--out", tmp_path / "search")
    assert f"127.0.0.1:{variables['KERASTUNER_ORACLE_PORT']}: no chief answers" in error


def test_what_a_chief_cannot_do_is_refused(variables, recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    command = ["tune", recipe, "--out", tmp_path / "search"]
    assert "knows no budget" in refusal(capsys, *command, "--budget-seconds", 10)
    assert "--oracle halving: is not of KerasTuner" in refusal(
        capsys, *command, "--oracle", "halving"
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", int(variables["KERASTUNER_ORACLE_PORT"])))
        listener.listen()
        assert variables["KERASTUNER_ORACLE_PORT"] in refusal(capsys, *command)


@pytest.mark.slow
def test_a_chief_and_two_workers_search_and_survive_a_kill(variables, recipe, tmp_path):
    out = tmp_path / "search"
    command = [sys.executable, "-m", "cifar_models", "tune", str(recipe), "--trials", "4"]

    def start(name: str) -> subprocess.Popen:
        environment = {**os.environ, "KERASTUNER_TUNER_ID": name}
        return subprocess.Popen([*command, "--out", str(out)], env=environment)

    processes = {name: start(name) for name in ("chief", "worker1", "worker2")}
    begin = time.monotonic()
    while not list((out / "trials").glob("*/checkpoints/*")):
        assert time.monotonic() - begin < 300
        time.sleep(0.05)
    processes["worker1"].kill()
    processes["worker1"].wait()
    processes["worker1"] = start("worker1")
    assert [process.wait(timeout=300) for process in processes.values()] == [0, 0, 0]
    scores = {path.name: read_metrics(path)["accuracy"] for path in (out / "trials").iterdir()}
    assert sorted(scores) == ["0001", "0002", "0003", "0004"]
    best = max(sorted(scores), key=scores.get)
    assert f"trial {best}" in (out / "best.toml").read_text().splitlines()[0]
    assert (out / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("low = 1e-3, high = 1.0", "low = 1e30, high = 1e35"),  # diverges
        ('"digits"', '"folder:/nowhere"'),
    ],
)
def test_a_chief_ends_although_every_trial_fails(variables, recipe, tmp_path, old, new):
    recipe.write_text(SEARCH.replace(old, new))
    out = tmp_path / "search"
    command = [sys.executable, "-m", "cifar_models", "tune", str(recipe), "--trials", "4"]
    processes = [
        subprocess.Popen(
            [*command, "--out", str(out)],
            env={**os.environ, "KERASTUNER_TUNER_ID": name},
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("chief", "worker1")
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 0], errors
    assert "no trial finished; trial 000" in errors[0]
