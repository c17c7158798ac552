"""The runs of a study, trained by several workers at once."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from cifar_models.config.recipe_file import recipe_toml
from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.text import duration_in_words
from cifar_models.storage.disk_errors import disk_errors
from cifar_models.sweeps.data_hashes import DataHashes
from cifar_models.sweeps.study_file import PlannedRun
from cifar_models.workers.job import Job, JobResult
from cifar_models.workers.open_pool import open_pool
from cifar_models.workers.pool_options import PoolOptions

logger = logging.getLogger("cifar_models")

RESUME = "the same command resumes the study"


def train_on_workers(
    missing: Sequence[PlannedRun], out: Path, options: PoolOptions, force: bool
) -> None:
    """Train or resume runs. A failed run does not end the study.

    Args:
        missing: The runs, at least one.
        out: Folder of the study.
        options: Which workers train them.
        force: Whether to go on if memory seems too small.

    Raises:
        RequestError: The recipes need different kernels, or a machine of the cluster has other
            data or other versions.
        RunError: The next run would fail too, such as on a full disk.
        Interruption: A signal asked the study to stop.
    """
    kernels = sorted({run.recipe.runtime.onednn for run in missing})
    if len(kernels) > 1:
        raise RequestError(
            f"runtime.onednn is {' and '.join(kernels)} in the recipes of the study, and a worker "
            "has one setting; set it for all of them in [overrides], or use one worker"
        )
    progress = _Progress(len(missing))
    hashes, is_on_cluster = DataHashes(), options.cluster is not None
    jobs = [
        _job(run, str(hashes.of(run.recipe)["data_sha256"]) if is_on_cluster else "", force)
        for run in missing
    ]
    with open_pool(options, kernels[0], out) as pool:
        try:
            pool.run(jobs, progress.count)
        except (RequestError, RunError) as error:
            raise type(error)(f"{error}; then {RESUME}") from error
    if progress.failed:
        logger.warning("failed runs: %d; the same command tries them again", progress.failed)


class _Progress:
    """Log of the runs that have ended.

    Args:
        total: Number of runs.
    """

    def __init__(self, total: int):
        self.failed = 0
        self._ended = 0
        self._total = total
        self._began = time.monotonic()

    def count(self, job: Job, result: JobResult) -> None:
        """Log the end of a run."""
        self._ended += 1
        if result.accuracy is None:
            self.failed += 1
            logger.warning("%s: failed: %s", job.path, result.problem)
            return
        left = (time.monotonic() - self._began) / self._ended * (self._total - self._ended)
        logger.info(
            "%d of %d: %s: test accuracy %.4f%s",
            self._ended,
            self._total,
            job.path,
            result.accuracy,
            f", about {duration_in_words(left)} left" if left else "",
        )


def _job(run: PlannedRun, data_sha256: str, force: bool) -> Job:
    with disk_errors(run.path, RESUME):
        run.path.mkdir(parents=True, exist_ok=True)
    return Job(
        path=run.path.absolute(),
        recipe=recipe_toml(run.recipe.with_absolute_paths()),
        split="test",
        force=force,
        data_sha256=data_sha256,
    )
