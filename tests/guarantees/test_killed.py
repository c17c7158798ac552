"""Real processes that are killed, stopped by signals, or refused because of a lock."""

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
from cifar_models.storage.open_run import refuse_if_taken
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import SAVE_EVERY_STEP, TINY_CNN, as_overrides, outcome_of, refusal

ROOT = Path(__file__).resolve().parents[2]
TRAIN = as_overrides(
    [*TINY_CNN, "training.epochs=3", "training.ema_decay=0.9", "--deterministic"],
)
MOMENTS = ("step", "writing", "written", "flushed", "renamed")  # of tests/killed_process.py


def start(*command: str) -> subprocess.Popen:
    """Start Python with these arguments."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def run_and_kill(moment: str, count: int, *command: str) -> int:
    """Return the exit status of a command that kills itself, unless it ends before."""
    process = start("-m", "tests.killed_process", moment, str(count), *command)
    process.communicate(timeout=120)
    return process.returncode


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict:
    """Return the outcome of a run that was not killed."""
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert main([*TRAIN, "--run", str(run)]) == 0
    return outcome_of(run)


def test_a_run_killed_at_a_step_and_within_a_save_resumes(uninterrupted, tmp_path):
    run = str(tmp_path / "run")
    assert run_and_kill("step", 7, *TRAIN, *SAVE_EVERY_STEP, "--run", run) == -signal.SIGKILL
    assert run_and_kill("writing", 20, "resume", run) == -signal.SIGKILL
    assert main(["resume", run]) == 0
    assert outcome_of(Path(run)) == uninterrupted
    assert not list(Path(run).rglob(".partial-*"))


@pytest.mark.slow
def test_a_run_killed_two_dozen_times_resumes(uninterrupted, tmp_path):
    rng = random.Random(0)
    run, kills = str(tmp_path / "run"), 0
    command = [*TRAIN, *SAVE_EVERY_STEP, "--run", run]
    while kills < 24:
        moment = rng.choice(MOMENTS)
        if run_and_kill(moment, rng.randint(1, 4), *command) != -signal.SIGKILL:
            break
        kills += 1
        command = ["resume", run] if RunFolder(Path(run)).has_begun() else command
    assert kills >= 20
    assert main(["resume", run]) == 0
    assert outcome_of(Path(run)) == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn", "cnn-laptop", "vit-laptop", "hybrid-laptop"])
def test_a_killed_run_of_a_laptop_recipe_resumes(name, tmp_path):
    """The recipe as it is, on the digits at 32x32 pixels and with fewer epochs."""
    keys = ["data.dataset=digits", "training.epochs=2", "augmentation.tta_views=1"]
    train = ["train", name, "--deterministic", *as_overrides(keys)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*train, "--run", str(whole)]) == 0
    command = [*train, *SAVE_EVERY_STEP, "--run", str(killed)]
    assert run_and_kill("step", 3, *command) == -signal.SIGKILL
    assert main(["resume", str(killed)]) == 0
    assert outcome_of(killed) == outcome_of(whole)


@pytest.mark.slow
def test_a_run_killed_at_random_times_resumes(uninterrupted, tmp_path):
    """The process is starting, compiling, training or drawing figures when it is killed."""
    rng = random.Random(1)
    run = tmp_path / "run"
    for _ in range(10):
        has_begun = RunFolder(run).has_begun()
        command = (
            ["resume", str(run)] if has_begun else [*TRAIN, *SAVE_EVERY_STEP, "--run", str(run)]
        )
        process = start("-m", "cifar_models", *command)
        time.sleep(rng.uniform(0, 9))
        process.kill()
        _, errors = process.communicate()
        assert "error" not in errors
    assert main(["resume", str(run)] if RunFolder(run).has_begun() else command) == 0
    assert outcome_of(run) == uninterrupted


@pytest.mark.slow
def test_ctrl_c_and_sigterm_save_and_say_how_to_resume(uninterrupted, tmp_path):
    run = tmp_path / "run"
    folder = RunFolder(run)
    command = [*TRAIN, *SAVE_EVERY_STEP, "--run", str(run)]
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
    assert outcome_of(run) == uninterrupted


ENDLESS_STEP = """
import ctypes, sys
from cifar_models.runtime.quiet_tensorflow import import_tensorflow
import_tensorflow()
from cifar_models.training.stopwatch import Stopwatch

def on_train_batch_end(self, batch, logs=None):
    print("stuck", flush=True)
    mutex = (ctypes.c_char * 64)()
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)  # the second call never returns

Stopwatch.on_train_batch_end = on_train_batch_end
from cifar_models.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def stuck_process(tmp_path) -> Iterator[subprocess.Popen]:
    """Start a process, and wait until it is within a step that never ends."""
    process = start("-c", ENDLESS_STEP, *TRAIN, "--run", str(tmp_path / "run"))
    assert process.stdout
    assert "stuck\n" in iter(process.stdout.readline, "")
    yield process
    process.kill()
    process.communicate()


def test_a_second_ctrl_c_stops_at_once_even_within_a_step(stuck_process):
    stuck_process.send_signal(signal.SIGINT)
    assert any(
        "Ctrl-C again stops at once" in line for line in iter(stuck_process.stderr.readline, "")
    )
    assert stuck_process.poll() is None
    stuck_process.send_signal(signal.SIGINT)
    assert stuck_process.wait(timeout=10) == 130


def test_a_folder_in_use_is_locked_and_a_killed_process_leaves_no_lock(
    stuck_process, tmp_path, capsys
):
    run = tmp_path / "run"
    error = refusal(capsys, "resume", run)
    assert f"{run}: process {stuck_process.pid} is using this folder" in error
    stuck_process.kill()
    stuck_process.wait()
    with locked(run), pytest.raises(FolderInUse), locked(run):
        pass


@pytest.mark.parametrize(
    ("number", "seconds"), [(signal.SIGINT, 2.0), (signal.SIGTERM, 2.0), (signal.SIGTERM, 0.3)]
)
def test_a_run_stopped_before_its_first_step_can_be_started_again(number, seconds, tmp_path):
    """The signal arrives while Python starts or TensorFlow is imported."""
    run = tmp_path / "run"
    process = start("-m", "cifar_models", *TRAIN, "--run", str(run))
    time.sleep(seconds)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (128 + number, -number), errors
    if not RunFolder(run).has_begun():
        refuse_if_taken(run)


@pytest.mark.slow
def test_a_closed_output_pipe_does_not_end_the_run(tmp_path):
    run = tmp_path / "run"
    process = start("-m", "cifar_models", *TRAIN, "--run", str(run))
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    process.stderr.close()
    assert RunFolder(run).is_finished()
