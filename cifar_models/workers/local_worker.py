"""Workers that are processes of this machine, which divide its cores."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing import connection
from multiprocessing.context import SpawnProcess

from cifar_models.runtime.spawned_processes import spawning
from cifar_models.workers.job import Death, Job, JobResult, Ready
from cifar_models.workers.work import work

MAX_DEATHS = 2


class LocalWorker:
    """A worker that is a process of this machine.

    Args:
        cores: The cores that it may use. Empty: all of them.
        onednn: runtime.onednn of its recipes.
    """

    def __init__(self, cores: list[int], onednn: str):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=work, args=(theirs, cores, onednn), daemon=True
        )
        with spawning():
            self.process.start()
        theirs.close()  # so that the end of the worker closes the connection

    def send(self, job: Job) -> None:
        """Give the worker its next job."""
        with contextlib.suppress(OSError):  # it has died, as `receive` will say
            self.connection.send(job)

    def receive(self) -> Ready | JobResult | Death | None:
        """Return what the worker has said."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return Death(_death_in_words(self.process))

    def is_alive(self) -> bool:
        """Return whether the process is alive."""
        return self.process.is_alive()

    def ask_to_stop(self) -> None:
        """Ask the worker to save the state of its run and to end."""
        self.process.terminate()

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()

    def join(self) -> None:
        """Let the process end, and wait for it."""
        self.connection.close()
        self.process.join()


class LocalCrew:
    """Worker processes of this machine.

    Args:
        count: Number of workers. The cores of this process are divided among them.
        onednn: runtime.onednn of the recipes.
    """

    def __init__(self, count: int, onednn: str):
        self._cores = divided_cores(count)
        self._onednn = onednn

    @property
    def count(self) -> int:
        """Number of workers."""
        return len(self._cores)

    @property
    def max_deaths(self) -> int:
        """Number of workers that may die in one job before the job has failed."""
        return MAX_DEATHS

    def num_places(self) -> int:
        """Return the number of workers."""
        return self.count

    def start(self, slot: int) -> LocalWorker:
        """Start the worker of a place."""
        return LocalWorker(self._cores[slot], self._onednn)

    def wait(self, workers: Sequence[LocalWorker], seconds: float) -> list[LocalWorker]:
        """Wait until one of some workers has said something or died, and return those that have."""
        ready = connection.wait([worker.connection for worker in workers], seconds)
        return [worker for worker in workers if worker.connection in ready]


def divided_cores(count: int) -> list[list[int]]:
    """Divide the cores of this process among workers.

    Args:
        count: Number of workers.

    Returns:
        The cores of each worker. They are empty if there is one worker, if there are fewer cores
        than workers, or if the operating system cannot say which cores a process has.
    """
    try:
        cores = sorted(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return [[] for _ in range(count)]
    if count == 1 or len(cores) < count:
        return [[] for _ in range(count)]
    return [cores[number::count] for number in range(count)]


def _death_in_words(process: SpawnProcess) -> str:
    status = process.exitcode or 0
    if status >= 0:
        return f"its process ended with status {status}"
    name = signal.Signals(-status).name
    return f"{name} ended its process; it may have run out of memory"
