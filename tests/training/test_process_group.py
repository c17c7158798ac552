"""Two processes that train one run, against one process."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cifar_models.cli.main import main
from cifar_models.errors import RequestError
from cifar_models.run.load import load_run
from cifar_models.runtime.tf_config import rank_and_workers
from tests.conftest import read_history, refusal
from tests.training.test_data_parallel import GRADIENTS, TWO_CPUS, VIT

# The gradients of a process of TF_CONFIG, which has one device.
OF_A_PROCESS = GRADIENTS.replace(
    TWO_CPUS,
    """
import json, sys
import tensorflow as tf
from cifar_models.runtime.process_group import join_group
from cifar_models.config.recipe_file import read_recipe
join_group()
""",
)


def configs() -> list[str]:
    """Return TF_CONFIG of two processes on this machine."""
    listeners = [socket.socket() for _ in range(2)]
    for listener in listeners:
        listener.bind(("127.0.0.1", 0))
    workers = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
    for listener in listeners:
        listener.close()
    return [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}})
        for rank in range(2)
    ]


def start_two(arguments: list[str], **options) -> list[subprocess.Popen]:
    return [
        subprocess.Popen(
            [sys.executable, *arguments], env={**os.environ, "TF_CONFIG": config}, **options
        )
        for config in configs()
    ]


@pytest.fixture
def recipe_path(tmp_path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(VIT)
    return path


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}']
)
def test_a_wrong_variable_is_refused(text, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(RequestError, match="TF_CONFIG: must be"):
        rank_and_workers()
    assert "TF_CONFIG" in refusal(capsys, "train", "digits-cnn", "--run", tmp_path / "run")


def test_processes_need_a_common_folder(monkeypatch, capsys):
    monkeypatch.setenv("TF_CONFIG", configs()[0])
    assert "add --run" in refusal(capsys, "train", "digits-cnn")


@pytest.mark.slow
def test_gradients_equal_those_of_one_process(recipe_path):
    processes = start_two(["-c", OF_A_PROCESS, str(recipe_path)], stdout=subprocess.PIPE, text=True)
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    for output in outputs:
        found = json.loads(output.splitlines()[-1])
        assert found["difference"] < 1e-5
        assert found["loss"] < 1e-5 and found["logits"] < 1e-5


@pytest.mark.slow
def test_two_processes_train_and_go_on_after_a_kill(recipe_path, tmp_path):
    """The second process is killed, the first one ends with an error, and both are resumed."""
    text = VIT.replace("epochs = 2", "epochs = 8") + "checkpoint_seconds = 0\n"
    recipe_path.write_text(text)
    runs = {name: tmp_path / name for name in ("one", "whole", "killed")}
    train = ["-m", "cifar_models", "train", str(recipe_path), "--run"]
    assert main([*train[2:], str(runs["one"])]) == 0
    assert [p.wait(timeout=300) for p in start_two([*train, str(runs["whole"])])] == [0, 0]
    processes = start_two([*train, str(runs["killed"])], stderr=subprocess.PIPE, text=True)
    begin = time.monotonic()
    while not list((runs["killed"] / "checkpoints").glob("*")):
        assert time.monotonic() - begin < 300
        time.sleep(0.01)
    processes[1].kill()
    error = processes[0].communicate(timeout=300)[1]
    assert processes[0].returncode == 1
    assert "another process has gone; start all of them again with: " in error
    assert f"resume {runs['killed']}" in error
    resume = ["-m", "cifar_models", "resume", str(runs["killed"])]
    assert [p.wait(timeout=300) for p in start_two(resume)] == [0, 0]
    whole, killed, one = (load_run(runs[name]) for name in ("whole", "killed", "one"))
    assert killed.metrics.accuracy == whole.metrics.accuracy
    assert killed.metrics.loss == whole.metrics.loss
    for mine, theirs in zip(read_history(whole.path), read_history(one.path), strict=True):
        assert float(mine["train_loss"]) == pytest.approx(float(theirs["train_loss"]), rel=1e-3)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both(recipe_path, tmp_path):
    recipe_path.write_text(VIT.replace("epochs = 2", "epochs = 1000"))
    run = tmp_path / "run"
    command = ["-m", "cifar_models", "train", str(recipe_path), "--run", str(run)]
    processes = start_two(command)
    begin = time.monotonic()
    while not (run / "history.csv").exists():
        assert time.monotonic() - begin < 300
        time.sleep(0.05)
    processes[1].terminate()
    assert [process.wait(timeout=120) for process in processes] == [143, 143]
    assert list((run / "checkpoints").glob("*"))
