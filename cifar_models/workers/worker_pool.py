"""A pool of workers, and what happens if they die, hang or grow."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.signals import stop_request
from cifar_models.workers.job import (
    Crew,
    Death,
    Ended,
    Job,
    JobResult,
    MayBegin,
    Ready,
    Worker,
)
from cifar_models.workers.job_queue import JobQueue

POLL_SECONDS = 0.2  # between two checks whether a signal asked this process to stop
MAX_GROWTH_BYTES = 1.0e9  # of a worker after its first job; then a new one takes its place


@dataclass
class _Post:
    """A worker, and what it does.

    Attributes:
        slot: Its place.
        worker: The worker.
        is_ready: Whether it can do a job.
        number: Number of the job that it does, or None.
        began: When it began that job, `time.monotonic`.
        first_memory: Memory after its first job, bytes. 0: it has done none.
    """

    slot: int
    worker: Worker
    is_ready: bool = False
    number: int | None = None
    began: float = 0.0
    first_memory: int = 0


class WorkerPool:
    """Workers, which are started when there are jobs for them.

    Args:
        crew: Starts the workers.
        job_seconds: Time after which a job has failed, seconds. None: no limit.
    """

    def __init__(self, crew: Crew, job_seconds: float | None = None):
        self._crew = crew
        self._job_seconds = job_seconds
        self._posts: list[_Post | None] = [None] * crew.count
        self._failed_starts = 0

    @property
    def count(self) -> int:
        """Number of workers."""
        return self._crew.count

    def run(
        self, jobs: Sequence[Job], ended: Ended | None = None, may_begin: MayBegin | None = None
    ) -> list[JobResult]:
        """Do jobs, as many at once as there are workers, and return the results in their order.

        A job whose worker dies goes on in another one, unless too many have died in it.

        Args:
            jobs: The jobs.
            ended: Is called as each job ends.
            may_begin: Is asked before each job begins. If it says no, neither this job nor a later
                one begins, and the results are those of the earlier ones.

        Raises:
            RequestError: A machine has other data or other versions.
            RunError: No worker can be started, or the next job would fail too, such as on a full
                disk. The other runs have saved their state. Errors of `ended` and `may_begin` end
                the other jobs in the same way.
            Interruption: A signal asked this process to stop. The runs have saved their state.
        """
        queue = JobQueue(jobs, may_begin)
        deaths = [0] * len(jobs)
        with stop_request() as stop, stop.deferred("the runs are saved"):
            try:
                while not queue.is_done() and not stop.is_requested():
                    self._start_workers(queue.num_waiting)
                    self._start_jobs(queue, jobs)
                    for number, news in self._news():
                        if isinstance(news, Death):
                            if stop.is_requested():  # the signal may have gone to the worker too
                                continue
                            deaths[number] += 1
                            if deaths[number] < self._crew.max_deaths:
                                queue.give_back(number)
                                continue
                            news = JobResult(accuracy=None, problem=news.reason)
                        raise_if_all_end(news)
                        queue.end(number, news)
                        if ended:
                            ended(jobs[number], news)
            except (RequestError, RunError):
                self._stop_all()
                raise
            if stop.is_requested():
                self._stop_all()
        stop.raise_if_requested()
        return queue.results()

    def close(self) -> None:
        """End the workers."""
        for post in filter(None, self._posts):
            if post.number is not None or not post.is_ready:  # only after an error, or at its start
                post.worker.kill()
            self._forget(post)

    def _start_workers(self, num_waiting: int) -> None:
        """Start as many workers as there are jobs that no worker will do otherwise."""
        for post in filter(None, self._posts):
            if post.number is None and post.is_ready and not post.worker.is_alive():
                self._forget(post)
        posts = [post for post in self._posts if post]
        needed = num_waiting - sum(post.number is None for post in posts)
        free = [slot for slot, post in enumerate(self._posts) if post is None]
        if needed > 0 and free:
            places = self._crew.num_places() - len(posts)
            for slot in free[: max(0, min(needed, places))]:
                self._posts[slot] = _Post(slot, self._crew.start(slot))

    def _start_jobs(self, queue: JobQueue, jobs: Sequence[Job]) -> None:
        for post in filter(None, self._posts):
            if post.is_ready and post.number is None and (number := queue.take()) is not None:
                post.number = number
                post.began = time.monotonic()
                post.worker.send(jobs[number])

    def _news(self) -> Iterator[tuple[int, JobResult | Death]]:
        """Yield the number of each job that has ended, with its result or the worker's death."""
        posts = [
            post for post in self._posts if post and (post.number is not None or not post.is_ready)
        ]
        ready = self._crew.wait([post.worker for post in posts], POLL_SECONDS)
        for post in posts:
            message = post.worker.receive() if post.worker in ready else None
            number = post.number
            if number is None:
                self._begin(post, message)
            elif isinstance(message, Death):
                self._forget(post)
                yield number, message
            elif isinstance(message, JobResult):
                post.number = None
                self._replace_if_grown(post, message.memory_bytes)
                yield number, message
            elif self._job_seconds and time.monotonic() - post.began > self._job_seconds:
                post.worker.kill()
                self._forget(post)
                problem = f"it took more than {self._job_seconds:g} s (--trial-seconds)"
                yield number, JobResult(accuracy=None, problem=problem)

    def _begin(self, post: _Post, message: Ready | JobResult | Death | None) -> None:
        """Note that a worker is ready, or that it cannot be."""
        if isinstance(message, Ready):
            post.is_ready = True
            self._failed_starts = 0
        elif isinstance(message, JobResult):
            raise_if_all_end(message)
        elif isinstance(message, Death):
            self._forget(post)
            self._failed_starts += 1
            if self._failed_starts >= self._crew.max_deaths:
                raise RunError(f"a worker cannot be started: {message.reason}")

    def _replace_if_grown(self, post: _Post, memory_bytes: int) -> None:
        post.first_memory = post.first_memory or memory_bytes
        if memory_bytes > post.first_memory + MAX_GROWTH_BYTES:
            self._forget(post)

    def _forget(self, post: _Post) -> None:
        """Wait for the end of a worker, whose place a new one may take."""
        self._posts[post.slot] = None
        post.worker.join()

    def _stop_all(self) -> None:
        """Ask the workers to save their state and to end, and wait for them."""
        posts = list(filter(None, self._posts))
        for post in posts:
            if post.is_ready:
                post.worker.ask_to_stop()
            else:
                post.worker.kill()
        for post in posts:
            self._forget(post)


def raise_if_all_end(result: JobResult) -> None:
    """Raise an error if the next job would fail for the same reason as this one."""
    if result.is_refused:
        raise RequestError(result.problem)
    if result.ends_all:
        raise RunError(result.problem)
