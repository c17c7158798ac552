"""The temporary folder of an export: kills, exports at once, and disks that cannot be written."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_models.cli.main import main
from cifar_models.errors import RequestError
from cifar_models.serving import export as export_module
from cifar_models.serving.export_job import ExportJob
from cifar_models.serving.formats import EXPORT_FORMATS, ExportFormat
from cifar_models.serving.temporary_folder import MARK, temporary_folder
from tests.conftest import refusal

# Writes half of an export to the path of the second argument, and waits for a line.
HALF_AN_EXPORT = """
import sys
from pathlib import Path
from cifar_models.serving.temporary_folder import temporary_folder
with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "export").mkdir()
    (folder / "export" / "half").write_text("half")
    print("begun", flush=True)
    input()
"""


@pytest.fixture
def other_process(tmp_path):
    """Start a process that is exporting to tmp_path / "export"."""
    process = subprocess.Popen(
        [sys.executable, "-c", HALF_AN_EXPORT, str(tmp_path / "export")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "begun\n"
    yield process
    process.kill()
    process.communicate()


READ_SCRIPT = ""


def write_model(job: ExportJob) -> None:
    job.out.mkdir()
    (job.out / "model").write_text("exported")


@pytest.fixture
def text_format(monkeypatch) -> list[str]:
    """Add a format that is exported at once, and return its options."""
    monkeypatch.setitem(EXPORT_FORMATS, "text", ExportFormat(__name__, "text"))
    monkeypatch.setattr(export_module, "_compare", lambda *arguments: (0.0, 1.0))
    return ["--format", "text"]


def test_what_a_killed_export_left_is_removed_by_the_next_one(
    finished_run, other_process, text_format, tmp_path
):
    assert len(list(tmp_path.glob(".export-*"))) == 1
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    assert len(list(tmp_path.glob(".export-*"))) == 1
    out = tmp_path / "export"
    assert main(["export", str(finished_run), "--out", str(out), *text_format]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_two_exports_at_once_are_refused(
    finished_run, other_process, text_format, tmp_path, capsys
):
    out = tmp_path / "export"
    error = refusal(capsys, "export", finished_run, "--out", out, *text_format)
    assert error == f"error: {out}: another process is exporting to it; wait for it or stop it\n"
    other = tmp_path / "other"
    assert main(["export", str(finished_run), "--out", str(other), *text_format]) == 0


def test_nothing_else_is_removed(finished_run, text_format, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    foreign = tmp_path / ".export-abcdefgh" / "letter.txt"
    marked = tmp_path / ".export-abcdefgh-copy" / MARK
    linked = elsewhere / MARK
    for path in (foreign, marked, linked):
        path.parent.mkdir()
        path.touch()
    (tmp_path / ".export-00000000").symlink_to(elsewhere)
    out = tmp_path / "export"
    assert main(["export", str(finished_run), "--out", str(out), *text_format]) == 0
    assert foreign.exists() and marked.exists() and linked.exists()


def test_an_export_that_another_process_completed_first_is_kept(
    finished_run, text_format, monkeypatch, tmp_path, capsys
):
    out = tmp_path / "export"

    def write_late(job: ExportJob) -> None:
        job.out.mkdir()
        (job.out / "mine").touch()
        out.mkdir()
        (out / "theirs").touch()

    monkeypatch.setattr(sys.modules[__name__], "write_model", write_late)
    assert f"{out}: exists" in refusal(capsys, "export", finished_run, "--out", out, *text_format)
    assert [path.name for path in tmp_path.rglob("*")] == ["export", "theirs"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("function", ["mkdir", "save", "tensorflow"])
def test_a_disk_that_cannot_be_written(
    number, function, finished_run, tmp_path, monkeypatch, capsys
):
    import tensorflow as tf

    reason, out = os.strerror(number), tmp_path / "new" / "export"

    def fail(*arguments, **options):
        if function == "tensorflow":
            raise tf.errors.UnknownError(None, None, f"{out}/variables; {reason}")
        raise OSError(number, reason)

    if function == "mkdir":
        monkeypatch.setattr(Path, "mkdir", fail)
    else:
        monkeypatch.setattr(tf.saved_model, "save", fail)
    assert main(["export", str(finished_run), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    fix = "free some space" if number == errno.ENOSPC else "make the folder writable"
    assert error.startswith(f"error: {out.parent}: cannot be written: {reason} (")
    assert " free in " in error
    assert error.endswith(f"; {fix}, then: repeat the command\n") and error.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path != out.parent]


@pytest.mark.slow
def test_of_three_exports_at_once_one_is_complete_and_the_others_say_so(finished_run, tmp_path):
    out = tmp_path / "export"
    command = [sys.executable, "-m", "cifar_models", "export", str(finished_run), "--out", str(out)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 2, 2]
    for error in filter(None, errors):
        assert error.count("\n") == 1
        assert f"{out}: another process is exporting to it" in error or f"{out}: exists" in error
    assert (out / "saved_model.pb").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_folder_whose_lock_is_free_but_which_is_not_marked_stays(tmp_path):
    """Its process may have made it a moment ago."""
    new = tmp_path / ".export-12345678"
    new.mkdir()
    (new / ".lock").touch()
    with temporary_folder(tmp_path / "export") as folder:
        assert folder.is_dir() and new.is_dir()
        with pytest.raises(RequestError), temporary_folder(tmp_path / "export"):
            pass
    assert not folder.exists()
