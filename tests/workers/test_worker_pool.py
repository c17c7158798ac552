"""The order in which a pool does its jobs, with workers that follow a script."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from cifar_models.errors import RunError
from cifar_models.runtime.signals import Interruption, stop_request
from cifar_models.workers.job import Death, Job, JobResult, Ready
from cifar_models.workers.worker_pool import WorkerPool


class ScriptedWorker:
    """A worker whose job "NAME-3" ends after the pool has waited three times.

    Args:
        dying: Names of jobs in which a worker dies, once for each time that they are listed.
    """

    def __init__(self, dying: list[str]):
        self._dying = dying
        self._news: Ready | JobResult | Death | None = Ready()
        self._waits = 0
        self.has_job = False
        self.is_stopped = False

    def send(self, job: Job) -> None:
        self.has_job = True
        name, waits = job.path.name.split("-")
        self._news, self._waits = JobResult(accuracy=0.5), int(waits)
        if name in self._dying:
            self._dying.remove(name)
            self._news = Death("killed")

    def has_news_after_a_wait(self) -> bool:
        self._waits -= 1
        return self._news is not None and self._waits <= 0

    def receive(self) -> Ready | JobResult | Death | None:
        news, self._news = self._news, None
        return news

    def is_alive(self) -> bool:
        return True

    def ask_to_stop(self) -> None:
        self.is_stopped = True

    def kill(self) -> None:
        pass

    def join(self) -> None:
        pass


class ScriptedCrew:
    max_deaths = 3

    def __init__(self, count: int, dying: Sequence[str] = ()):
        self.count = count
        self.workers: list[ScriptedWorker] = []
        self._dying = list(dying)

    def num_places(self) -> int:
        return self.count

    def start(self, slot: int) -> ScriptedWorker:
        self.workers.append(ScriptedWorker(self._dying))
        return self.workers[-1]

    def wait(self, workers: Sequence[ScriptedWorker], seconds: float) -> list[ScriptedWorker]:
        return [worker for worker in workers if worker.has_news_after_a_wait()]


def jobs_of(*names: str) -> list[Job]:
    return [Job(path=Path(name), recipe="") for name in names]


def test_a_free_worker_does_not_wait_for_a_busy_one():
    ended: list[str] = []
    results = WorkerPool(ScriptedCrew(2)).run(
        jobs_of("a-10", "b-1", "c-1", "d-1"), lambda job, _: ended.append(job.path.name)
    )
    assert ended == ["b-1", "c-1", "d-1", "a-10"]
    assert len(results) == 4


def test_no_job_begins_after_one_that_may_not():
    begun: list[str] = []

    def may_begin(job: Job) -> bool:
        begun.append(job.path.name)
        return job.path.name != "c-1"

    results = WorkerPool(ScriptedCrew(2)).run(
        jobs_of("a-5", "b-1", "c-1", "d-1"), may_begin=may_begin
    )
    assert begun == ["a-5", "b-1", "c-1"]  # d-1 is not even asked for
    assert [result.accuracy for result in results] == [0.5, 0.5]


def test_a_job_whose_worker_died_goes_on_although_no_new_one_may_begin():
    begun: list[str] = []

    def may_begin(job: Job) -> bool:
        begun.append(job.path.name)
        return len(begun) == 1

    results = WorkerPool(ScriptedCrew(1, dying=["a"])).run(jobs_of("a-2", "b-1"), None, may_begin)
    assert begun == ["a-2", "b-1"]
    assert [result.accuracy for result in results] == [0.5]


def test_a_job_in_which_too_many_workers_died_has_failed():
    results = WorkerPool(ScriptedCrew(1, dying=["a"] * 3)).run(jobs_of("a-2", "b-1"))
    assert [result.problem for result in results] == ["killed", ""]


class CrewStoppedWithItsWorkers(ScriptedCrew):
    """A crew whose workers end at the signal that also asks this process to stop."""

    max_deaths = 1

    def wait(self, workers: Sequence[ScriptedWorker], seconds: float) -> list[ScriptedWorker]:
        if any(worker.has_job for worker in workers):
            os.kill(os.getpid(), signal.SIGTERM)
        return super().wait(workers, seconds)


def test_a_worker_that_ends_at_a_stop_does_not_fail_its_job():
    ended: list[str] = []
    with pytest.raises(Interruption), stop_request():
        WorkerPool(CrewStoppedWithItsWorkers(1, dying=["a"])).run(
            jobs_of("a-1"), lambda job, _: ended.append(job.path.name)
        )
    assert ended == []


def test_an_error_about_a_result_stops_the_other_workers():
    def refuse(job: Job, _: JobResult) -> None:
        raise RunError(f"{job.path.name} is enough")

    crew = ScriptedCrew(2)
    with pytest.raises(RunError, match="b-1 is enough"):
        WorkerPool(crew).run(jobs_of("a-9", "b-1"), refuse)
    assert all(worker.is_stopped for worker in crew.workers)
