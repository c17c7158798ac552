"""The jobs that a pool has been given."""

from collections import deque
from collections.abc import Sequence

from cifar_models.workers.job import Job, JobResult, MayBegin


class JobQueue:
    """Jobs in the order in which they begin, and the results of those that have ended.

    Args:
        jobs: The jobs.
        may_begin: Is asked before each job begins, once for each. If it says no, neither this job
            nor a later one begins. None: all may begin.
    """

    def __init__(self, jobs: Sequence[Job], may_begin: MayBegin | None = None):
        self._jobs = jobs
        self._may_begin = may_begin or (lambda _: True)
        self._waiting = deque(range(len(jobs)))
        self._num_begun = 0  # the first ones
        self._results: dict[int, JobResult] = {}

    @property
    def num_waiting(self) -> int:
        """Number of jobs that are to begin or to go on."""
        return len(self._waiting)

    def take(self) -> int | None:
        """Return the number of the next job, or None if no job is waiting or may begin."""
        if not self._waiting:
            return None
        number = self._waiting[0]
        if number == self._num_begun:  # smaller ones have begun before, and were given back
            if not self._may_begin(self._jobs[number]):
                self._waiting.clear()
                return None
            self._num_begun += 1
        return self._waiting.popleft()

    def give_back(self, number: int) -> None:
        """Let a job that has begun go on before others begin."""
        self._waiting.appendleft(number)

    def end(self, number: int, result: JobResult) -> None:
        """Note the result of a job."""
        self._results[number] = result

    def is_done(self) -> bool:
        """Return whether each job has ended or may not begin."""
        return not self._waiting and len(self._results) == self._num_begun

    def results(self) -> list[JobResult]:
        """Return the results, in the order of the jobs. All that have begun must have ended."""
        return [self._results[number] for number in range(self._num_begun)]
