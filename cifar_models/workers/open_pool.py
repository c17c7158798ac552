"""Opens the pool of workers that a user asks for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cifar_models.workers.job import Pool
from cifar_models.workers.local_worker import LocalCrew
from cifar_models.workers.pool_options import PoolOptions
from cifar_models.workers.worker_pool import WorkerPool


@contextmanager
def open_pool(options: PoolOptions, onednn: str, out: Path) -> Iterator[Pool]:
    """Give a pool of workers, which end with the block.

    Args:
        options: Which workers.
        onednn: runtime.onednn of the recipes.
        out: Folder under which the folders of all runs are.

    Raises:
        RequestError: Ray is not installed, or the cluster does not answer.
    """
    if options.cluster is None:
        pool = WorkerPool(LocalCrew(options.workers, onednn), options.job_seconds)
        try:
            yield pool
        finally:
            pool.close()
        return
    from cifar_models.workers.ray_crew import ray_crew

    with ray_crew(options, onednn, out) as crew:
        pool = WorkerPool(crew, options.job_seconds)
        try:
            yield pool
        finally:
            pool.close()
