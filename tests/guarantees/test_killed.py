"""Real processes, really killed, stopped and locked out."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar_models.cli.main import main
from cifar_models.storage.atomic_files import FolderInUse, locked
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import EVERY_STEP, TINY_CNN, outcome_of

ROOT = Path(__file__).resolve().parents[2]
RUN = [
    *(*TINY_CNN, "--deterministic"),
    *("--set", "training.epochs=3", "--set", "training.ema_decay=0.9"),
]
WHERE = ("step", "begun", "written", "flushed", "renamed")


def start(*command: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def die(where: str, count: int, *command: str) -> int:
    """Returns the exit status of a command that kills itself, or finishes before it can."""
    process = start("-m", "tests.dying_run", where, str(count), *command)
    process.communicate(timeout=120)
    return process.returncode


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    """The outcome of the run that nobody killed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main([*RUN, "--run", str(run)]) == 0
    return outcome_of(run)


def test_killed_at_a_step_and_in_the_middle_of_a_save(whole, tmp_path):
    run = str(tmp_path / "run")
    assert die("step", 7, *RUN, *EVERY_STEP, "--run", run) == -signal.SIGKILL
    assert die("begun", 20, "resume", run) == -signal.SIGKILL
    assert main(["resume", run]) == 0
    assert outcome_of(Path(run)) == whole
    assert not list(Path(run).rglob(".partial-*"))


@pytest.mark.slow
def test_killed_two_dozen_times_at_random(whole, tmp_path):
    chance = random.Random(0)
    run, kills = str(tmp_path / "run"), 0
    command = [*RUN, *EVERY_STEP, "--run", run]
    while kills < 24:
        where = chance.choice(WHERE)
        if die(where, chance.randint(1, 4), *command) != -signal.SIGKILL:
            break
        kills += 1
        command = ["resume", run] if RunFolder(Path(run)).has_begun() else command
    assert kills >= 20
    assert main(["resume", run]) == 0
    assert outcome_of(Path(run)) == whole


@pytest.mark.slow
def test_killed_at_random_moments(whole, tmp_path):
    """From outside, whatever the process is doing: starting, compiling, training, drawing."""
    chance = random.Random(1)
    run = tmp_path / "run"
    for _ in range(10):
        begun = RunFolder(run).has_begun()
        command = ["resume", str(run)] if begun else [*RUN, *EVERY_STEP, "--run", str(run)]
        process = start("-m", "cifar_models", *command)
        time.sleep(chance.uniform(0, 9))
        process.kill()
        _, errors = process.communicate()
        assert "error" not in errors
    assert main(["resume", str(run)] if RunFolder(run).has_begun() else command) == 0
    assert outcome_of(run) == whole


def test_ctrl_c_and_sigterm_save_and_say_how_to_go_on(whole, tmp_path):
    run = tmp_path / "run"
    folder = RunFolder(run)
    command = [*RUN, *EVERY_STEP, "--run", str(run)]
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        before = folder.checkpoint_paths()[:1]
        process = start("-m", "cifar_models", *command)
        wait_for(lambda before=before: folder.checkpoint_paths()[:1] != before)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == status, errors
        assert errors.splitlines()[-1].endswith(f"resume with: {folder.resume_command()}")
        newest = int(folder.checkpoint_paths()[0].stem.removeprefix("step-"))
        assert f"stopped after step {newest}; the state is saved" in errors
        command = ["resume", str(run)]
    assert main(command) == 0
    assert outcome_of(run) == whole


STUCK = """
import ctypes, sys
from cifar_models.runtime.quiet_tensorflow import import_tensorflow
import_tensorflow()
from cifar_models.training.callbacks import Stopwatch

def on_train_batch_end(self, batch, logs=None):
    print("stuck", flush=True)
    mutex = (ctypes.c_char * 64)()
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)  # the second one waits for ever

Stopwatch.on_train_batch_end = on_train_batch_end
from cifar_models.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def stuck(tmp_path) -> Iterator[subprocess.Popen]:
    """A process in the middle of a step that never ends."""
    process = start("-c", STUCK, *RUN, "--run", str(tmp_path / "run"))
    assert process.stdout
    assert "stuck\n" in iter(process.stdout.readline, "")
    yield process
    process.kill()
    process.communicate()


def test_a_second_ctrl_c_stops_at_once_even_inside_a_step(stuck):
    stuck.send_signal(signal.SIGINT)
    assert any("Ctrl-C again stops at once" in line for line in iter(stuck.stderr.readline, ""))
    assert stuck.poll() is None
    stuck.send_signal(signal.SIGINT)
    assert stuck.wait(timeout=10) == 130


def test_one_process_at_a_time_and_a_killed_one_leaves_no_lock(stuck, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["resume", str(run)]) == 2
    error = capsys.readouterr().err
    assert f"{run}: process {stuck.pid} is using this folder" in error and error.count("\n") == 1
    stuck.kill()
    stuck.wait()
    with locked(run), pytest.raises(FolderInUse), locked(run):
        pass


@pytest.mark.parametrize(
    ("number", "seconds"), [(signal.SIGINT, 2.0), (signal.SIGTERM, 2.0), (signal.SIGTERM, 0.3)]
)
def test_a_signal_before_the_first_step(number, seconds, tmp_path):
    """While Python starts, or TensorFlow is imported, nothing is left that stands in the way."""
    run = tmp_path / "run"
    process = start("-m", "cifar_models", *RUN, "--run", str(run))
    time.sleep(seconds)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (128 + number, -number), errors
    if not RunFolder(run).has_begun():
        RunFolder.refuse_if_taken(run)


def test_a_reader_who_leaves_does_not_end_the_run(tmp_path):
    run = tmp_path / "run"
    process = start("-m", "cifar_models", *RUN, "--run", str(run))
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    process.stderr.close()
    assert RunFolder(run).is_finished()
