"""Workers on the machines of a Ray cluster.

A run folder is trained in place on a machine that sees the folder of the search or study, as on a
network file system. To another machine it travels with its job, and it travels back.
"""

import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cifar_models
from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.environment import COMMIT_VARIABLE, PACKAGES, commit
from cifar_models.storage.atomic_files import write_bytes_atomic
from cifar_models.workers.job import Death, Job, JobResult, Ready
from cifar_models.workers.parcel import pack, unpack
from cifar_models.workers.pool_options import PoolOptions
from cifar_models.workers.ray_machine import Conditions, News, RayMachine, packages_here

logger = logging.getLogger("cifar_models")

TOKEN_FILE = ".cluster-token"
POLL_SECONDS = 0.2
MAX_DEATHS = 5  # machines that vanish are no fault of the job
CONNECTION_ATTEMPTS = "2"  # of about 42 s each if the head dies meanwhile; 20 by default


class RayWorker:
    """A worker on some machine of the cluster.

    Args:
        ray: The module.
        actor: Actor of a RayMachine.
    """

    def __init__(self, ray: Any, actor: Any):
        self._ray = ray
        self._actor = actor
        self._job: Job | None = None
        self._sees_folder = True
        self._pending: Any = None  # reference of the next news
        self._end: Any = None  # reference of the last news, after it was asked to stop

    def send(self, job: Job) -> None:
        """Give the worker its next job."""
        self._job = job
        self._actor.send.remote(job, None if self._sees_folder else pack(job.path))

    def news_reference(self) -> Any:
        """Return a reference that is ready as soon as the machine says something."""
        if self._pending is None:
            self._pending = self._actor.receive.remote(POLL_SECONDS)
        return self._pending

    def receive(self) -> Ready | JobResult | Death | None:
        """Return what the worker has said."""
        try:
            news: News = self._ray.get(self.news_reference())
            self._pending = None
            if isinstance(news.message, Ready):
                self._sees_folder = self._ray.get(self._actor.sees_folder.remote())
        except self._ray.exceptions.RayError as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            return Death(f"its machine is gone ({type(error).__name__}: {reason})")
        return self._accept(news)

    def _accept(self, news: News) -> Ready | JobResult | Death | None:
        """Write the run folder that came with news, and return the message."""
        if news.parcel and self._job:
            try:
                unpack(news.parcel, self._job.path)
            except RunError as error:
                return JobResult(accuracy=None, problem=str(error), ends_all=True)
        return news.message

    def is_alive(self) -> bool:
        """Return whether the worker can be given a job. A lost machine is noticed by `receive`."""
        return True

    def ask_to_stop(self) -> None:
        """Ask the worker to save the state of its run and to end."""
        self._end = self._actor.stop.remote()

    def kill(self) -> None:
        """End the worker at once."""
        self._ray.kill(self._actor)

    def join(self) -> None:
        """Let the worker end, and wait for it."""
        if self._end is not None:
            if self._pending is not None:
                self.receive()  # the job may have ended before the worker was asked to stop
            self._pending = self._end
            self.receive()
        self._ray.kill(self._actor)


class RayCrew:
    """Workers on the machines of a Ray cluster.

    Args:
        ray: The module, connected to the cluster.
        options: Number of workers, and what each takes of its machine.
        conditions: What each machine must have.
    """

    def __init__(self, ray: Any, options: PoolOptions, conditions: Conditions):
        self._ray = ray
        self._options = options
        self._conditions = conditions
        self._had_places = False
        self._machine = ray.remote(RayMachine).options(
            num_cpus=options.cpus, num_gpus=options.gpus, max_restarts=0
        )

    @property
    def count(self) -> int:
        """Number of workers."""
        return self._options.workers

    @property
    def max_deaths(self) -> int:
        """Number of workers that may die in one job before the job has failed."""
        return MAX_DEATHS

    def num_places(self) -> int:
        """Return how many workers the machines that are there now can hold."""
        places = sum(
            places_on(node["Resources"], self._options)
            for node in self._ray.nodes()
            if node["Alive"]
        )
        if not places and self._had_places:
            logger.warning("Ray: no machine is left; waiting for one to join")
        self._had_places = places > 0
        return places

    def start(self, slot: int) -> RayWorker:
        """Start a worker on a machine that Ray chooses."""
        return RayWorker(self._ray, self._machine.remote(self._conditions))

    def wait(self, workers: Sequence[RayWorker], seconds: float) -> list[RayWorker]:
        """Wait until one of some workers has said something, and return those that have."""
        by_reference = {worker.news_reference(): worker for worker in workers}
        references = list(by_reference)
        if not references:
            time.sleep(seconds)
            return []
        self._ray.wait(references, num_returns=1, timeout=seconds)
        ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        return [by_reference[reference] for reference in ready]


def places_on(resources: dict[str, float], options: PoolOptions) -> int:
    """Return how many workers a machine can hold.

    Args:
        resources: What it has: "CPU" and "GPU" → number.
        options: What each worker takes.
    """
    places = int(resources.get("CPU", 0) // options.cpus)
    if options.gpus >= 1:
        places = min(places, int(resources.get("GPU", 0) // options.gpus))
    elif options.gpus:  # several workers share a GPU, none has parts of two
        places = min(places, int(resources.get("GPU", 0)) * int(1 / options.gpus + 1e-9))
    return places


@contextmanager
def ray_crew(options: PoolOptions, onednn: str, out: Path) -> Iterator[RayCrew]:
    """Give workers on a Ray cluster, from which this process leaves with the block.

    Args:
        options: Address of the cluster, number of workers and what each takes of its machine.
        onednn: runtime.onednn of the recipes.
        out: Folder under which all run folders are.

    Raises:
        RequestError: Ray is not installed, the cluster does not answer, or no machine is large
            enough for a worker.
    """
    ray = _connected_ray(options.cluster or "")
    try:
        token = uuid.uuid4().hex
        write_bytes_atomic(out, TOKEN_FILE, token.encode())
        conditions = Conditions(
            packages=packages_here(PACKAGES),
            token_path=(out / TOKEN_FILE).absolute(),
            token=token,
            command=list(sys.argv),
            onednn=onednn,
            cpus=options.cpus,
        )
        crew = RayCrew(ray, options, conditions)
        if not crew.num_places():
            wish = f"--worker-cpus {options.cpus}"
            wish += f" --worker-gpus {options.gpus:g}" if options.gpus else ""
            raise RequestError(f"{wish}: no machine of the Ray cluster has that many; lower it")
        logger.info("Ray: number of places for workers: %d", crew.num_places())
        yield crew
    finally:
        ray.shutdown()


def _connected_ray(address: str) -> Any:
    """Return the module `ray`, connected to a cluster: that of this machine, or a new one."""
    if not find_spec("ray"):
        raise RequestError(
            "--on ray: needs ray; install it: pip install '.[ray]' in the folder of the project"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would be sent over the network
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", CONNECTION_ATTEMPTS)  # read at the import
    before = signal.getsignal(signal.SIGTERM)
    import ray

    package = str(Path(cifar_models.__file__).parent)
    try:
        ray.init(
            address=address or None,
            include_dashboard=False if not address else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={
                "py_modules": [package],
                "excludes": ["__pycache__"],
                "env_vars": {COMMIT_VARIABLE: commit() or ""},
            },
        )
    except Exception as error:  # Ray raises exceptions without a class of their own, too
        ray.shutdown()
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RequestError(f"--on {address or 'ray'}: no Ray cluster answers: {reason}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray has set a handler of its own
    return ray
