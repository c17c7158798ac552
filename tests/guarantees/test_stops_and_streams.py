"""Stops within a validation, of other kinds, and without a terminal."""

import io
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cifar_models.cli.main import main
from cifar_models.run import prepare
from cifar_models.runtime.log import LogFile, log_to_file
from cifar_models.runtime.signals import Interruption, stop_request
from cifar_models.storage.atomic_files import locked
from cifar_models.storage.run_folder import RunFolder
from cifar_models.training.checkpoints import Checkpointer
from cifar_models.training.stopwatch import Stopwatch
from tests.conftest import TINY_CNN, as_overrides, refusal
from tests.guarantees.test_signals import after, send_and_handle

SHORT = [
    *TINY_CNN,
    *as_overrides(
        ["training.epochs=1", "training.batch_size=256", "training.min_steps_per_epoch=1"]
    ),
]
STEPS = 5


def before(function, action):
    def wrapped(*arguments, **options):
        action()
        return function(*arguments, **options)

    return wrapped


@pytest.mark.parametrize(
    "owner, name, when",
    [
        # At the last step of the epoch.
        pytest.param(Stopwatch, "on_train_batch_end", after, marks=pytest.mark.slow),
        (prepare, "predict_split", before),
        (Checkpointer, "on_epoch_end", after),
    ],
)
def test_a_stop_around_the_validation_loses_no_step(
    owner, name, when, tmp_path, monkeypatch, capsys
):
    run, real, steps = tmp_path / "run", getattr(owner, name), []

    def stop() -> None:
        steps.append(None)
        if owner is not Stopwatch or len(steps) == STEPS:
            send_and_handle()

    monkeypatch.setattr(owner, name, when(real, stop))
    assert main([*SHORT, "--run", str(run)]) == 143
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"stopped after step {STEPS}; the state is saved; resume with: ")
    assert RunFolder(run).checkpoint_paths()[0].name == f"step-{STEPS:010d}.safetensors"
    assert len(RunFolder(run).read_history()) == 1


def test_a_closed_terminal_is_a_stop_unless_its_signal_is_ignored():
    with pytest.raises(Interruption) as interruption, stop_request():
        send_and_handle(signal.SIGHUP)
    assert interruption.value.exit_status == 129
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        before = signal.signal(number, signal.SIG_IGN)  # as under nohup, or in a background job
        try:
            with stop_request():
                send_and_handle(number)
            assert signal.getsignal(number) == signal.SIG_IGN
        finally:
            signal.signal(number, before)


def test_other_signals_of_a_script_announce_no_stop(capfd):
    """A script may have an alarm clock of its own, whose signal wakes the same thread."""
    handled = []
    before = signal.signal(signal.SIGUSR1, lambda *arguments: handled.append(arguments))
    try:
        with stop_request() as stop, stop.deferred():
            send_and_handle(signal.SIGUSR1)
            time.sleep(0.1)  # the thread would print
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled and capfd.readouterr().err == ""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_status_is_right_although_nobody_reads_the_messages(stream):
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: writer}
    command = [sys.executable, "-m", "cifar_models", "evaluate", "nowhere"]
    assert subprocess.run(command, **streams).returncode == 2
    os.close(writer)


CLOSED_STREAMS = """
import os, sys
sys.modules["cifar_models.cli.main"] = type(sys)("cifar_models.cli.main")
sys.modules["cifar_models.cli.main"].main = lambda: 0
from cifar_models.__main__ import run
run()
null = os.stat(os.devnull).st_rdev
assert all(os.fstat(number).st_rdev == null for number in (0, 1, 2))
print("nobody reads this", file=sys.stderr, flush=True)
assert os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY) > 2
"""


def test_no_file_takes_the_place_of_a_closed_standard_stream(tmp_path):
    """TensorFlow would write its messages into it."""
    shell = 'exec "$@" <&- >&- 2>&-'
    command = ["sh", "-c", shell, "sh", sys.executable, "-c", CLOSED_STREAMS, tmp_path / "file"]
    assert subprocess.run(command).returncode == 0
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_on_a_full_disk_hides_no_other_error(tmp_path, monkeypatch):
    def open_full(self: LogFile) -> io.TextIOWrapper:
        return io.TextIOWrapper(io.BufferedWriter(io.FileIO("/dev/full", "w")))

    monkeypatch.setattr(LogFile, "_open", open_full)
    with log_to_file(tmp_path / "log.txt"):
        logging.getLogger("cifar_models").warning("a line")
    with pytest.raises(ZeroDivisionError), log_to_file(tmp_path / "log.txt"):
        raise ZeroDivisionError


def test_a_log_has_the_traceback_of_errors_but_not_of_stops(tmp_path):
    for error in (Interruption(signal.SIGTERM, "stopped; resume it"), ZeroDivisionError("by 0")):
        with pytest.raises(type(error)), log_to_file(tmp_path / f"{type(error).__name__}.txt"):
            raise error
    stopped = (tmp_path / "Interruption.txt").read_text()
    assert stopped.endswith(" stopped; resume it\n") and stopped.count("\n") == 1
    assert "Traceback" in (tmp_path / "ZeroDivisionError.txt").read_text()


def test_two_reports_in_one_folder_are_not_mixed(finished_run, tmp_path, capsys):
    with locked(tmp_path):
        error = refusal(capsys, "compare", finished_run, "--out", tmp_path)
    assert f"{tmp_path}: process {os.getpid()} is using this folder" in error
    assert not (tmp_path / "report.html").exists()
