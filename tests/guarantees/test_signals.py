"""A request to stop is never lost, whatever Python does at that moment.

Python drops an exception that is raised within `__del__`, the callback of a weak reference or a
callback of the garbage collector, so the signal handler cannot rely on raising one.
"""

import gc
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from cifar_models.cli.main import main
from cifar_models.run import record, train
from cifar_models.runtime.signals import Interruption, obey_stop, stop_request
from cifar_models.storage.run_folder import RunFolder
from cifar_models.sweeps import tuning
from cifar_models.training.stopwatch import Stopwatch
from cifar_models.workers.job import Job, JobResult
from tests.conftest import TINY_CNN, TINY_CNN_TOML, as_overrides, outcome_of

ROOT = Path(__file__).resolve().parents[2]
SHORT = [*TINY_CNN, *as_overrides(["training.epochs=1", "training.batch_size=256"])]
DETERMINISTIC = ["--deterministic", "--run"]
SEARCH = f"""{TINY_CNN_TOML}stem_filters = 4
stage_filters = [4]
stage_blocks = [1]

[training]
epochs = 1
batch_size = 256

[runtime]
checkpoint_seconds = 0

[search]
"training.peak_learning_rate" = {{ low = 1e-3, high = 1.0, scale = "log" }}
"""


class Deleted:
    """An object whose deletion is the moment at which SIGTERM arrives."""

    def __del__(self):
        send_and_handle()


def send_and_handle(number: int = signal.SIGTERM) -> None:
    """Send a signal to this process, and wait until Python has run its handler."""
    os.kill(os.getpid(), number)
    for _ in range(1000):
        pass


def stop_in_a_finalizer() -> None:
    Deleted()


def stop_in_a_weak_reference() -> None:
    referent = Deleted.__new__(type("Referent", (), {}))
    reference = weakref.ref(referent, lambda _: send_and_handle())
    del referent
    assert reference() is None


DROPPED = pytest.mark.parametrize("stop", [stop_in_a_finalizer, stop_in_a_weak_reference])


@DROPPED
def test_a_dropped_stop_is_obeyed_at_the_next_border(stop, capfd):
    with pytest.raises(Interruption) as interruption, stop_request():
        stop()
        reached = True
        obey_stop()
    assert reached and interruption.value.exit_status == 143
    assert capfd.readouterr().err == ""  # not even Python's note of the dropped exception


def test_a_dropped_stop_is_obeyed_at_the_end_even_without_a_border():
    with pytest.raises(Interruption), stop_request():
        stop_in_a_finalizer()
    obey_stop()  # the request ends with its block


def test_an_error_that_a_library_made_of_a_stop_is_a_stop():
    with pytest.raises(Interruption), stop_request():
        try:
            send_and_handle()
        except BaseException as error:
            raise ValueError("initialization failed") from error


def test_blocks_within_each_other_share_the_request():
    with pytest.raises(Interruption), stop_request() as outer:
        with stop_request() as inner, inner.deferred():
            send_and_handle()
        assert outer is inner and outer.is_requested()
        obey_stop()


def after(function: Callable, action: Callable[[], None]) -> Callable:
    """Return a function that acts after each call of another one."""

    def wrapped(*arguments, **options):
        result = function(*arguments, **options)
        action()
        return result

    return wrapped


@pytest.mark.parametrize(
    "owner, name, is_finished",
    [
        (train, "describe", False),
        pytest.param(Stopwatch, "on_train_batch_end", False, marks=pytest.mark.slow),
        (record, "predict_split", False),
        (record, "draw_figures", True),
    ],
)
def test_a_dropped_stop_ends_a_training(owner, name, is_finished, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    monkeypatch.setattr(owner, name, after(getattr(owner, name), stop_in_a_finalizer))
    assert main([*SHORT, "--run", str(run)]) == 143
    last = capsys.readouterr().err.splitlines()[-1]
    assert RunFolder(run).is_finished() == is_finished
    assert "the run is finished" in last if is_finished else "resume" in last or name == "describe"


def test_a_dropped_stop_between_two_trials_ends_the_search(tmp_path, monkeypatch, capsys):
    recipe, out = tmp_path / "searched.toml", tmp_path / "search"
    recipe.write_text(SEARCH)
    trained = []

    class StoppedPool:
        count = 1

        def run(self, jobs: list[Job], ended, may_begin) -> list[JobResult]:
            assert may_begin(jobs[0])
            trained.append(jobs[0])
            ended(jobs[0], JobResult(accuracy=0.5))
            stop_in_a_finalizer()
            return [JobResult(accuracy=0.5)]

    monkeypatch.setattr(tuning, "open_pool", lambda *_: nullcontext(StoppedPool()))
    assert main(["tune", str(recipe), "--trials", "3", "--out", str(out)]) == 143
    assert len(trained) == 1
    assert "the same command resumes the search" in capsys.readouterr().err


# Sends Ctrl-C to itself when a module is first imported by the command.
AT_AN_IMPORT = """
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, *rest):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
runpy.run_module("cifar_models", run_name="__main__")
"""


@pytest.mark.parametrize("module", ["cifar_models.cli", "argparse"])
def test_ctrl_c_during_the_imports_prints_nothing(module):
    result = subprocess.run(
        [sys.executable, "-c", AT_AN_IMPORT, module], capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (-signal.SIGINT, "")


# Says when Python itself has started, which prints a traceback of its own until then.
STARTED = """
import runpy, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
print("started", flush=True)
runpy.run_module("cifar_models", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", [["train", "digits-cnn"], ["list", "recipes"]])
def test_ctrl_c_at_any_moment_of_the_start_prints_at_most_one_line(command, tmp_path):
    ended_before = 0
    for number in range(30):
        process = subprocess.Popen(
            [sys.executable, "-c", STARTED, *command],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdout and process.stdout.readline() == "started\n"
        time.sleep(0.02 + number / 10)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        ended_before += process.returncode == 0
        assert process.returncode in (0, 130, -signal.SIGINT), errors
        assert "Traceback" not in errors
        assert len(errors.splitlines()) <= 1 or "the state is saved" in errors, errors
    assert ended_before < 30


class Shots:
    """Signals at random moments of commands that run in this process, and what came of them.

    Half of them arrive while the garbage collector runs, when Python drops exceptions.
    """

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.hits = self.dropped = 0  # signals during a command, and those in a collection
        self.slowest = 0.0  # seconds from a signal to the end of the command
        self.lost: list[str] = []
        self._due: Callable[[], None] | None = None  # what the next collection does

    def fire(self, command: list[str], seconds: float) -> int:
        """Run a command, send a signal within this time, and return the exit status."""
        number = self.rng.choice([signal.SIGINT, signal.SIGTERM])
        is_dropped = self.rng.random() < 0.5
        sent: list[float] = []
        late: list[int] = []
        before = signal.signal(number, lambda number, frame: late.append(number))

        def send() -> None:
            self._due = None
            sent.append(time.monotonic())
            send_and_handle(number)

        def on_time() -> None:
            if is_dropped:
                self._due = send
            else:
                send()

        timer = threading.Timer(self.rng.uniform(0, seconds), on_time)
        timer.start()
        status = main(command)
        timer.cancel()
        timer.join()
        self._due = None
        ended = time.monotonic()
        signal.signal(number, before)
        if sent and not late:
            self.hits += 1
            self.dropped += is_dropped
            self.slowest = max(self.slowest, ended - sent[0])
            if status != 128 + number:
                self.lost.append(f"{command[:2]}: status {status} after signal {number}")
        return status

    @contextmanager
    def in_collections(self) -> Iterator[None]:
        """Send the signals that are due from a callback of the garbage collector."""

        def callback(phase: str, info: dict) -> None:
            if self._due and threading.current_thread() is threading.main_thread():
                self._due()

        gc.callbacks.append(callback)
        try:
            yield
        finally:
            gc.callbacks.remove(callback)


@contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Discard what commands print, and return their messages."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as errors:
        yield errors


def shoot(shots: Shots, hits: int, command: Callable[[int], list[str]], tries: int) -> None:
    """Fire at commands until so many signals hit them. `command` returns that of a round."""
    with quiet(), shots.in_collections():
        main(command(0))  # traces and compiles
        began = time.monotonic()
        main(command(1))
        seconds = time.monotonic() - began
    number = 2
    while shots.hits < hits and number < tries:
        with quiet() as errors, shots.in_collections():
            began = time.monotonic()
            if shots.fire(command(number), seconds) == 0:
                seconds = min(seconds, time.monotonic() - began)
        assert "Traceback" not in errors.getvalue() and "ignored" not in errors.getvalue()
        number += 1
    assert shots.hits >= hits
    assert not shots.lost
    assert shots.dropped > hits / 10
    # The first step is traced before a stop is obeyed, which takes minutes on a busy machine.
    assert shots.slowest < 300


@pytest.mark.slow
def test_no_shot_at_a_training_is_lost_and_every_run_resumes(tmp_path, without_figures):
    recipe, runs = tmp_path / "short.toml", [tmp_path / "0"]
    recipe.write_text(SEARCH)

    def command(number: int) -> list[str]:
        """Resume the last run until it is finished, then train the next one."""
        if RunFolder(runs[-1]).is_finished():
            runs.append(tmp_path / str(len(runs)))
        run = str(runs[-1])
        is_begun = RunFolder(runs[-1]).has_begun()
        return ["resume", run] if is_begun else ["train", str(recipe), *DETERMINISTIC, run]

    shoot(Shots(0), 300, command, 2000)
    finished = [run for run in runs if RunFolder(run).is_finished()]
    assert len(finished) > 10
    expected = outcome_of(finished[0])
    assert all(outcome_of(run) == expected for run in finished[1:])


@pytest.mark.slow
def test_no_shot_at_a_search_is_lost_and_every_search_resumes(tmp_path, without_figures):
    recipe, searches = tmp_path / "searched.toml", [tmp_path / "0"]
    recipe.write_text(SEARCH)

    def command(number: int) -> list[str]:
        if (searches[-1] / "best.toml").exists():
            searches.append(tmp_path / str(len(searches)))
        return ["tune", str(recipe), "--trials", "2", "--out", str(searches[-1])]

    shoot(Shots(1), 200, command, 1500)
    finished = [out / "best.toml" for out in searches if (out / "best.toml").exists()]
    assert len(finished) >= 3
    assert len({path.read_text() for path in finished}) == 1


@pytest.mark.slow
def test_no_shot_at_other_commands_is_lost(finished_run, tmp_path):
    commands = [
        lambda number: ["evaluate", str(finished_run)],
        lambda number: ["export", str(finished_run), "--out", str(tmp_path / f"export-{number}")],
        lambda number: ["compare", str(finished_run), "--out", str(tmp_path / "comparison")],
    ]
    for seed, command in enumerate(commands):
        shoot(Shots(seed), 10, command, 100)
    assert not list(tmp_path.glob(".export-*"))
