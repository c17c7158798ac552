"""A full or read-only disk costs no checkpoint, and every disk error is reported in one line."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras_tuner
import pytest

from cifar_models.benchmark import serving_cost
from cifar_models.cli.main import main
from cifar_models.run.train import training_session
from cifar_models.storage.atomic_files import WriteError, write_atomic
from cifar_models.storage.checkpoint_file import decode_checkpoint
from cifar_models.storage.open_run import create_run_folder
from cifar_models.storage.run_folder import RunFolder
from cifar_models.training.stopwatch import Stopwatch
from tests.conftest import SAVE_EVERY_STEP, TINY_CNN, outcome_of
from tests.synthetic_runs import make_cost

TRAIN = [*TINY_CNN, *SAVE_EVERY_STEP, "--deterministic"]

# Runs in a mount namespace. For each size, trains until the disk is full, enlarges it and resumes.
SMALL_DISK = """
import contextlib, io, json, subprocess, sys
from pathlib import Path
from cifar_models.cli.main import main

disk, results = Path(sys.argv[1]), []

def mount(*options):
    subprocess.run(["mount", *options, str(disk)], check=True)

def command(*arguments):
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        status = main([*arguments])
    return {"status": status, "errors": errors.getvalue()}

for kilobytes in json.loads(sys.argv[2]):
    mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs")
    full = command(*sys.argv[3:], "--run", str(disk / "run"))
    checkpoints = sorted(str(path) for path in disk.glob("run/checkpoints/*"))
    mount("-o", "remount,size=100m")
    resumed = command("resume", str(disk / "run"))
    copy = disk.with_name(f"copy-{kilobytes}")
    subprocess.run(["cp", "-r", str(disk / "run"), str(copy)], check=True)
    subprocess.run(["umount", str(disk)], check=True)
    results.append({"full": full, "resumed": resumed, "checkpoints": checkpoints})
Path(sys.argv[1]).with_name("results.json").write_text(json.dumps(results))
"""


def can_mount() -> bool:
    """Return whether this user may create a mount namespace."""
    if not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="this user may not create a mount namespace")
@pytest.mark.slow
def test_a_full_disk_costs_no_checkpoint(tmp_path):
    uninterrupted = tmp_path / "uninterrupted"
    assert main([*TRAIN, "--run", str(uninterrupted)]) == 0
    (tmp_path / "disk").mkdir()
    sizes = [120, 212]  # KiB: full at the second checkpoint, full at the model
    result = subprocess.run(
        [
            "unshare",
            "-rm",
            sys.executable,
            "-c",
            SMALL_DISK,
            str(tmp_path / "disk"),
            json.dumps(sizes),
            *TRAIN,
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr  # not a segmentation fault of h5py
    stopped_at = set()
    results = json.loads((tmp_path / "results.json").read_text())
    for kilobytes, one in zip(sizes, results, strict=True):
        assert one["full"]["status"] == 1
        error = one["full"]["errors"].splitlines()[-1]
        assert "No space left on device" in error and "free in" in error
        assert "free some space, then: python -m cifar_models resume" in error
        stopped_at.add(Path(error.removeprefix("error: ").partition(":")[0]).suffix)
        assert one["resumed"]["status"] == 0, one["resumed"]["errors"]
        assert outcome_of(tmp_path / f"copy-{kilobytes}") == outcome_of(uninterrupted)
    assert stopped_at == {".safetensors", ".keras"}
    assert [len(one["checkpoints"]) for one in results] == [1, 2]


@pytest.mark.parametrize(
    "number, hint",
    [
        (errno.EROFS, "make the folder writable"),
        (errno.ENOSPC, "free some space"),
        (errno.EMFILE, r"raise the limit of open files \(ulimit -n\)"),
    ],
)
def test_the_hint_depends_on_the_error(number, hint, tmp_path):
    def fail(file: object) -> None:
        raise OSError(number, os.strerror(number))

    folder = create_run_folder(tmp_path / "run")
    with pytest.raises(WriteError, match=f"{hint}, then: "), training_session(folder):
        write_atomic(folder.path, "log.txt", fail)


def test_a_read_only_folder_cannot_be_locked(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    folder = create_run_folder(tmp_path / "run")
    monkeypatch.setattr(os, "open", fail)
    with (
        pytest.raises(WriteError, match=r"\.lock: .*make the folder writable"),
        training_session(folder),
    ):
        pass


SAVES = {
    "recipe.toml",
    "environment.json",
    "dataset.json",
    "hashes.npz",
    "fingerprints.json",
    *(f"step-{step:010d}.safetensors" for step in range(1, 21)),
    "history.csv",
    "model.keras",
    "predictions.npz",
    "metrics.json",
}
FIGURES = ("curves.png", "confusion_matrix.png", "first_layer.png", "sample_predictions.png")
TESTED_FIRST = (
    "recipe.toml",
    "fingerprints.json",
    "step-0000000001.safetensors",
    "history.csv",
    "step-0000000007.safetensors",
    "step-0000000020.safetensors",
    "model.keras",
    "predictions.npz",
    "metrics.json",
)
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in sorted(SAVES - set(TESTED_FIRST))]


@contextmanager
def read_only(name: str) -> Iterator[None]:
    """Fail to write files of this name, as on a read-only disk."""
    real = os.replace

    def replace(source, target, **folders):
        if target == name:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        real(source, target, **folders)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        yield


def test_saves_lists_every_file_that_a_run_writes(tmp_path, monkeypatch):
    real, seen = os.replace, []
    monkeypatch.setattr(
        os, "replace", lambda old, new, **folders: (seen.append(new), real(old, new, **folders))
    )
    assert main([*TRAIN, "--set", "training.epochs=1", "--run", str(tmp_path / "run")]) == 0
    assert set(seen) == {*SAVES, *FIGURES}


@pytest.mark.parametrize("name", [*TESTED_FIRST, *OTHERS])
def test_an_error_at_each_save_is_reported_in_one_line(name, tmp_path, capsys):
    """The error is simulated, because the user who runs the tests may be allowed to write."""
    run = tmp_path / "run"
    with read_only(name):
        assert main([*TRAIN, "--set", "training.epochs=1", "--run", str(run)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{name}: cannot be written: Read-only file system" in error and "free in" in error
    assert not list(run.rglob(".partial-*"))
    for path in RunFolder(run).checkpoint_paths():
        decode_checkpoint(path.read_bytes())
    if name.startswith("step") and name != "step-0000000001.safetensors":
        before = f"step-{int(name[5:15]) - 1:010d}.safetensors"
        assert RunFolder(run).checkpoint_paths()[0].name == before


@pytest.mark.parametrize(
    "name", [FIGURES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in FIGURES[1:])]
)
def test_a_figure_that_cannot_be_written_costs_no_metrics(name, tmp_path):
    """The metrics are recorded before the figures."""
    run = tmp_path / "run"
    with read_only(name):
        assert main([*TINY_CNN, "--set", "training.epochs=1", "--run", str(run)]) == 0
    log = (run / "log.txt").read_text()
    assert f"{name}: cannot be written: Read-only file system" in log
    assert RunFolder(run).is_finished()
    assert {path.name for path in (run / "plots").iterdir()} == set(FIGURES) - {name}


def test_a_removed_run_folder_is_reported_in_one_line(tmp_path, capsys):
    run = tmp_path / "run"
    real = Stopwatch.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        real(self, batch, logs)
        if self._progress.step == 5:
            shutil.rmtree(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stopwatch, "on_train_batch_end", on_train_batch_end)
        assert main([*TRAIN, "--run", str(run)]) == 1
    error = capsys.readouterr().err
    assert f"{run}/checkpoints/step-0000000005.safetensors: cannot be written" in error
    assert "the run folder and its checkpoints are gone" in error and error.count("\n") == 1


# Command → the file that cannot be written.
WRITTEN_LATER = {
    "evaluate": (["evaluate", "{run}"], "predictions.npz"),
    "evaluate --corruptions": (
        ["evaluate", "{run}", "--corruptions", "--images", "2"],
        "robustness.json",
    ),
    "compare": (["compare", "{run}", "--out", "{out}"], "report.html"),
    "compare, figures": (["compare", "{run}", "--out", "{out}"], "accuracies.svg"),
}


@pytest.mark.parametrize("case", WRITTEN_LATER)
def test_other_commands_name_the_file_and_the_way_on(case, run_copy, tmp_path, capsys):
    command, name = WRITTEN_LATER[case]
    if name == "predictions.npz":
        (run_copy / name).unlink()
    with read_only(name):
        assert main([part.format(run=run_copy, out=tmp_path / "out") for part in command]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{name}: cannot be written: Read-only file system (" in error and "free in" in error
    assert error.endswith("; make the folder writable, then: repeat the command\n")


def test_a_serving_cost_that_cannot_be_written(run_copy, monkeypatch, capsys):
    monkeypatch.setattr(serving_cost, "measure_isolated", lambda *arguments: make_cost())
    with read_only("cost.json"):
        assert main(["benchmark", str(run_copy)]) == 1
    error = capsys.readouterr().err
    assert "cost.json: cannot be written: Read-only file system" in error
    assert error.endswith("; make the folder writable, then: repeat the command\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("what", ["tune", "study", "a trial", "KerasTuner"])
def test_a_search_or_study_names_the_folder_and_the_way_on(
    what, number, tmp_path, monkeypatch, capsys
):
    out, real = tmp_path / "out", Path.mkdir
    command = ["study", "digits"] if what == "study" else ["tune", "digits-cnn", "--trials", "3"]

    def mkdir(self, *arguments, **options):
        if self.name == "0001" or (what != "a trial" and self.is_relative_to(out)):
            raise OSError(number, os.strerror(number), str(self))
        return real(self, *arguments, **options)

    def save(*arguments):
        raise OSError(number, os.strerror(number), str(out / "keras_tuner" / "oracle.json"))

    if what == "KerasTuner":
        monkeypatch.setattr(keras_tuner.Oracle, "create_trial", save)
    else:
        monkeypatch.setattr(Path, "mkdir", mkdir)
    assert main([*command, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith(f"error: {out}")
    assert f": cannot be written: {os.strerror(number)} (" in error and "free in" in error
    fix = "free some space" if number == errno.ENOSPC else "make the folder writable"
    name = "study" if what == "study" else "search"
    assert error.endswith(f"{fix}, then: the same command resumes the {name}\n")


def test_a_study_ends_at_the_first_run_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    """The next run could not be written either."""
    child = (
        "import sys; sys.exit('error: a/model.keras: cannot be written: No space left on device "
        "(0 bytes free in a); free some space, then: python -m cifar_models resume a')"
    )
    started, real = [], subprocess.Popen

    def popen(command, **options):
        started.append(command)
        return real([sys.executable, "-c", child], **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    assert main(["study", "digits", "--out", str(tmp_path / "out")]) == 1
    assert len(started) == 1
    error = capsys.readouterr().err
    assert "No space left on device" in error and error.count("\n") == 1
    assert error.endswith("then the same command resumes the study\n")
