"""A job for a worker, its result, and what a pool of workers is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to be trained, or to be trained further.

    Attributes:
        path: Path of its run folder, absolute.
        recipe: Its recipe, TOML.
        pause_after: Number of epochs after which it is paused. 0: it is trained to its end.
        split: Split on which the finished run is measured: "validation" or "test".
        force: Whether to go on if memory seems too small.
        data_sha256: Hash that the data must have, or "".
    """

    path: Path
    recipe: str
    pause_after: int = 0
    split: str = "validation"
    force: bool = False
    data_sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What became of a job.

    Attributes:
        accuracy: Accuracy at the end, on the split of the job, or validation accuracy at the pause.
            None if the job failed.
        problem: Why it failed, or "".
        ends_all: Whether the next job would fail for the same reason, such as a full disk.
        is_refused: Whether the worker cannot do such jobs, because its machine has other data or
            other versions.
        is_memory: Whether too little memory was left.
        has_diverged: Whether training diverged, which says nothing about the next job.
        memory_bytes: Memory of the worker after the job.
    """

    accuracy: float | None
    problem: str = ""
    ends_all: bool = False
    is_refused: bool = False
    is_memory: bool = False
    has_diverged: bool = False
    memory_bytes: int = 0


@dataclass(frozen=True)
class Ready:
    """What a worker says when it can begin its first job."""


@dataclass(frozen=True)
class Death:
    """The end of a worker that nobody asked for.

    Attributes:
        reason: Why it ended, in words.
    """

    reason: str


class Worker(Protocol):
    """A process that does one job after another."""

    def send(self, job: Job) -> None:
        """Give the worker its next job. It must have said that it is ready."""

    def receive(self) -> Ready | JobResult | Death | None:
        """Return what a worker has said for which `Crew.wait` has waited; None: nothing yet."""

    def is_alive(self) -> bool:
        """Return whether the worker can be given a job."""

    def ask_to_stop(self) -> None:
        """Ask the worker to save the state of its run and to end. It is not waited for."""

    def kill(self) -> None:
        """End the worker at once. `join` must follow."""

    def join(self) -> None:
        """Let the worker end, and wait for it. It must have no job, or be ending."""


AnyWorker = TypeVar("AnyWorker", bound=Worker)


class Crew(Protocol[AnyWorker]):
    """What starts workers of one kind, and waits for them."""

    @property
    def count(self) -> int:
        """Number of workers."""

    @property
    def max_deaths(self) -> int:
        """Number of workers that may die in one job before the job has failed."""

    def num_places(self) -> int:
        """Return how many workers there can be now."""

    def start(self, slot: int) -> AnyWorker:
        """Start a worker, and return before it is ready.

        Args:
            slot: Its place, from 0 to count - 1. No other worker that is alive has it.
        """

    def wait(self, workers: Sequence[AnyWorker], seconds: float) -> list[AnyWorker]:
        """Wait until one of some workers has said something, and return those that have."""


Ended = Callable[[Job, JobResult], None]
MayBegin = Callable[[Job], bool]


class Pool(Protocol):
    """Workers that do jobs."""

    @property
    def count(self) -> int:
        """Number of jobs that are done at once."""

    def run(
        self, jobs: Sequence[Job], ended: Ended | None = None, may_begin: MayBegin | None = None
    ) -> list[JobResult]:
        """Do jobs, and return the results in their order.

        Args:
            jobs: The jobs.
            ended: Is called as each job ends.
            may_begin: Is asked before each job begins. If it says no, neither this job nor a later
                one begins, and the results are those of the earlier ones.

        Raises:
            RequestError: A machine has other data or other versions.
            RunError: No worker can be started, or the next job would fail too.
            Interruption: A signal asked this process to stop. The runs have saved their state.
        """
