"""Writes of several processes to one file at the same time."""

import errno
import subprocess
import sys

import pytest

from cifar_models.storage import atomic_files
from cifar_models.storage.atomic_files import FolderInUse, locked, write_atomic

OTHER_PROCESS = """
import sys
from pathlib import Path
from cifar_models.storage.atomic_files import write_bytes_atomic
print("begun", flush=True)
write_bytes_atomic(Path(sys.argv[1]), "file", b"theirs")
"""


def test_of_two_writes_at_once_each_is_whole_and_none_fails(tmp_path):
    """The second one begins when the first one has written half of the file."""
    others = []

    def write(file) -> None:
        file.write(b"mi")
        command = [sys.executable, "-c", OTHER_PROCESS, str(tmp_path)]
        other = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert other.stdout and other.stdout.readline() == b"begun\n"
        try:
            other.wait(timeout=0.3)
        except subprocess.TimeoutExpired:  # it waits
            others.append(other)
        file.write(b"ne")

    write_atomic(tmp_path, "file", write)
    assert (tmp_path / "file").read_bytes() in (b"mine", b"theirs")
    assert [other.wait(timeout=60) for other in others] == [0]
    others[0].stdout.close()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"theirs"


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, caplog):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    with locked(tmp_path), pytest.raises(FolderInUse), locked(tmp_path):
        pass
    monkeypatch.setattr(atomic_files.fcntl, "flock", flock)
    with locked(tmp_path):
        assert "cannot be locked (No locks available); use it in one process only" in caplog.text
