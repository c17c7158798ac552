"""Which workers a user asks for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PoolOptions:
    """Which workers train the runs.

    Attributes:
        workers: Number of runs that are trained at once, each by a process of its own.
        job_seconds: Time after which a run has failed, seconds. None: no limit.
        cluster: Address of a Ray cluster, as `ray.init` takes it; "" for the cluster of this
            machine, or a new one. None: the workers are processes of this machine.
        cpus: With a cluster: CPUs of each worker.
        gpus: With a cluster: GPUs of each worker, also fractions.
    """

    workers: int = 1
    job_seconds: float | None = None
    cluster: str | None = None
    cpus: int = 1
    gpus: float = 0.0


ONE_WORKER = PoolOptions()
