"""Studies: the missing runs are trained, each in its own process, and all runs are compared."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from cifar_models.benchmark.serving_cost import measure_serving_costs
from cifar_models.comparison.compare_runs import compare
from cifar_models.config.paths import as_argument
from cifar_models.config.run_identity import identifying_values, recipe_differences, summarize
from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.signals import Interruption
from cifar_models.runtime.subprocesses import run_command
from cifar_models.runtime.text import duration_in_words
from cifar_models.storage.atomic_files import WriteError, locked
from cifar_models.storage.cost_records import ServingCost
from cifar_models.storage.disk_errors import disk_errors
from cifar_models.storage.records import Robustness
from cifar_models.storage.run_folder import RunFolder
from cifar_models.sweeps.parallel_study import RESUME, train_on_workers
from cifar_models.sweeps.study_file import PlannedRun, plan_runs, read_study
from cifar_models.workers.pool_options import ONE_WORKER, PoolOptions

logger = logging.getLogger("cifar_models")


def run_study(
    name_or_path: str, out: Path, force: bool = False, pool: PoolOptions = ONE_WORKER
) -> list[Path]:
    """Train the missing runs of a study, then compare all its runs.

    If the study was stopped, calling this again resumes it.

    Args:
        name_or_path: Name or path of the study file.
        out: Folder of the study. DATASET/runs/ holds run folders, DATASET/comparison/ the report.
        force: Whether to go on if memory seems too small.
        pool: Which workers train the runs.

    Returns:
        The path of the report of each data set.

    Raises:
        RequestError: The study file is not valid, `out` holds runs of another study, or another
            process uses it.
        RunError: No run of a data set succeeded.
        Interruption: A signal asked the study to stop.
    """
    study = read_study(name_or_path)
    runs = list(plan_runs(study, out))
    try:
        with disk_errors(out, RESUME):
            out.mkdir(parents=True, exist_ok=True)
            with locked(out):
                for run in runs:
                    _refuse_links(run, out)
                    _refuse_other_study(run)
                missing = [run for run in runs if not RunFolder(run.path).is_finished()]
                logger.info("%d runs, %d of them missing", len(runs), len(missing))
                if pool == ONE_WORKER:
                    _train_one_by_one(missing, ["--force"] if force else [])
                elif missing:
                    train_on_workers(missing, out, pool, force)
                return [
                    _compare_dataset(runs, dataset, out, study.robustness_images)
                    for dataset in dict.fromkeys(run.dataset for run in runs)
                ]
    except Interruption as interruption:
        interruption.args = (f"stopped; {RESUME}",)
        raise


def _refuse_links(run: PlannedRun, out: Path) -> None:
    """Raise RequestError if a folder in which the study would write is a link."""
    for path in (run.path, out / run.dataset / "comparison"):
        for folder in (path, *path.parents):
            if folder == out:
                break
            if folder.is_symlink():
                raise RequestError(f"{folder}: is a link; choose another --out, or remove it")


def _refuse_other_study(run: PlannedRun) -> None:
    """Raise RequestError if the folder of a planned run holds another run."""
    folder = RunFolder(run.path)
    if not folder.has_begun():
        return
    if differences := recipe_differences(
        folder.read_fingerprints(), identifying_values(run.recipe)
    ):
        raise RequestError(
            f"{run.path}: is a run of another study: {summarize(differences)}; choose another --out"
        )


def _train_one_by_one(missing: Sequence[PlannedRun], options: Sequence[str]) -> None:
    """Train or resume runs. A failed run does not end the study."""
    began, failed = time.monotonic(), 0
    for number, run in enumerate(missing):
        left = ""
        if number:
            seconds = (time.monotonic() - began) / number * (len(missing) - number)
            left = f", about {duration_in_words(seconds)} left"
        logger.info("run %d of %d: %s%s", number + 1, len(missing), run.path, left)
        failed += not _train_in_process(run, options)
    if failed:
        logger.warning("failed runs: %d; the same command tries them again", failed)


def _train_in_process(run: PlannedRun, options: Sequence[str]) -> bool:
    """Train or resume a run in a new process, so that memory and failures affect no other run."""
    path = as_argument(run.path)
    if RunFolder(run.path).has_begun():
        return _try_command(run.path, ["resume", path, *options])
    return _try_command(run.path, ["train", *run.arguments, "--run", path, *options])


def _try_command(path: Path, arguments: Sequence[str]) -> bool:
    """Run a command on a run folder in a new process, and return whether it succeeded.

    Raises:
        WriteError: The disk is full or read-only, so the next command would fail too.
    """
    try:
        run_command(arguments, failure=f"{path}: failed")
    except WriteError as error:
        raise WriteError(f"{error}; then {RESUME}", names_way_on=True) from None
    except (RequestError, RunError) as error:
        logger.warning("%s", error)
        return False
    return True


def _compare_dataset(
    runs: Sequence[PlannedRun], dataset: str, out: Path, robustness_images: int | None
) -> Path:
    """Compare the finished runs of one data set, and return the path of the report."""
    finished = [run for run in runs if run.dataset == dataset and RunFolder(run.path).is_finished()]
    if not finished:
        raise RunError(f"{out / dataset}: no run succeeded; each run's log.txt gives the reason")
    _measure_first_runs(finished, robustness_images)
    folder = out / dataset / "comparison"
    for line in compare([run.path for run in finished], folder).splitlines():
        logger.info("%s", line)
    return folder / "report.html"


def _measure_first_runs(runs: Sequence[PlannedRun], robustness_images: int | None) -> None:
    """Measure serving cost and robustness of the first run of each recipe, if they are missing.

    Only runs on the largest training fraction are considered, because the report compares those.
    """
    largest = max(run.recipe.data.train_fraction for run in runs)
    first: dict[str, Path] = {}
    for run in runs:
        if run.recipe.data.train_fraction == largest:
            first.setdefault(run.recipe.name, run.path)
    missing = [path for path in first.values() if not RunFolder(path).has(ServingCost)]
    if missing:
        logger.info("measuring the serving cost of %d models", len(missing))
        measure_serving_costs(missing)
    for path in first.values():
        if not RunFolder(path).has(Robustness):
            logger.info("measuring the robustness of %s", path)
            limit = ["--images", str(robustness_images)] if robustness_images else []
            _try_command(path, ["evaluate", as_argument(path), "--corruptions", *limit])
