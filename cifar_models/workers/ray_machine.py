"""A worker on a machine of a Ray cluster, seen from that machine.

The worker is a process beside the Ray actor, as on one machine: its crash leaves the actor alive,
which says what has happened.
"""

import dataclasses
import fcntl
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TextIO

from cifar_models.errors import RunError
from cifar_models.workers.job import Death, Job, JobResult, Ready
from cifar_models.workers.local_worker import LocalWorker
from cifar_models.workers.parcel import Parcel, pack, unpack


@dataclass(frozen=True)
class Conditions:
    """What the machine is to have, and what the worker may use of it.

    Attributes:
        packages: Name → version of the packages that determine results, and "python" → version.
        token_path: Path of a file in the folder of the search or study.
        token: Its content. A machine on which it can be read sees that folder.
        command: Arguments of the command, which the runs record.
        onednn: runtime.onednn of the recipes.
        cpus: Number of cores that the worker may use.
    """

    packages: dict[str, str]
    token_path: Path
    token: str
    command: list[str]
    onednn: str
    cpus: int


@dataclass(frozen=True)
class News:
    """What a machine says.

    Attributes:
        message: What the worker says. None: nothing yet.
        parcel: The run folder, if the job has ended and the folder was not trained in place.
    """

    message: Ready | JobResult | Death | None
    parcel: Parcel | None = None


class RayMachine:
    """The place of one worker. Ray makes an actor of this class.

    Args:
        conditions: What the machine is to have.
    """

    def __init__(self, conditions: Conditions):
        self._problem = _other_versions(conditions.packages)
        self._sees_folder = _holds(conditions.token_path, conditions.token)
        self._cores, self._claims = _claim_cores(conditions.cpus)
        sys.argv = conditions.command  # the worker inherits it
        self._worker = None if self._problem else LocalWorker(self._cores, conditions.onednn)
        self._scratch: Path | None = None  # parent of a run folder that is not trained in place

    def sees_folder(self) -> bool:
        """Return whether run folders are trained in place."""
        return self._sees_folder

    def send(self, job: Job, parcel: Parcel | None) -> None:
        """Give the worker its next job.

        Args:
            job: The job.
            parcel: The run folder so far, if it is not trained in place.
        """
        if parcel:
            try:
                job = dataclasses.replace(job, path=self._unpacked(parcel, job.path.name))
            except (OSError, RunError) as error:
                self._problem = f"{platform.node()}: {error}"
                return
        if self._worker:
            self._worker.send(job)

    def receive(self, seconds: float) -> News:
        """Wait until the worker says something, for a time at most."""
        if self._problem:
            refused = self._worker is None
            return News(
                JobResult(
                    accuracy=None,
                    problem=self._problem,
                    is_refused=refused,
                    ends_all=not refused,
                )
            )
        assert self._worker
        if not self._worker.connection.poll(seconds):
            return News(None)
        message = self._worker.receive()
        ended = not isinstance(message, Ready)
        return News(message, self._parcel() if ended else None)

    def stop(self) -> News:
        """Ask the worker to save the state of its run and to end, and wait for it."""
        if self._worker:
            self._worker.ask_to_stop()
            self._worker.process.join()
        return News(Death("it was asked to stop"), self._parcel())

    def _unpacked(self, parcel: Parcel, name: str) -> Path:
        self._scratch = Path(tempfile.mkdtemp(prefix="cifar-models-"))
        folder = self._scratch / "runs" / name
        folder.parent.mkdir()
        unpack(parcel, folder)
        return folder

    def _parcel(self) -> Parcel | None:
        if self._scratch is None:
            return None
        (folder,) = (self._scratch / "runs").iterdir()
        parcel = pack(folder)
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch = None
        return parcel


def packages_here(names: tuple[str, ...]) -> dict[str, str]:
    """Return name → version of packages of this machine, and "python" → version.

    Args:
        names: Names of packages. Of one that is missing, the version is "none".
    """
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def _other_versions(wanted: dict[str, str]) -> str:
    """Return how the versions of this machine differ from others, or ""."""
    here = packages_here(tuple(name for name in wanted if name != "python"))
    different = [
        f"{name} {here[name]} and not {wanted[name]}"
        for name in wanted
        if here[name] != wanted[name]
    ]
    if not different:
        return ""
    return f"{platform.node()}: has {', '.join(different)}; install the same versions there"


def _holds(path: Path, token: str) -> bool:
    try:
        return path.read_text() == token
    except OSError:
        return False


def _claim_cores(count: int) -> tuple[list[int], list[TextIO]]:
    """Claim cores that no other worker of this machine has claimed.

    Args:
        count: Number of cores.

    Returns:
        The cores, empty for all, and the open files that hold the claims until this process ends.
    """
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return [], []
    cores = sorted(os.sched_getaffinity(0))
    folder = Path(tempfile.gettempdir()) / f"cifar-models-cores-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if count >= len(cores) or folder.is_symlink() or folder.stat().st_uid != os.getuid():
        return [], []
    claimed: list[int] = []
    files: list[TextIO] = []
    for core in cores:
        file = (folder / str(core)).open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        claimed.append(core)
        files.append(file)
        if len(claimed) == count:
            return claimed, files
    for claim in files:
        claim.close()
    return [], []
