"""A declared study: every run that is missing of it, one process each, then the comparison."""

import contextlib
import logging
import subprocess
import sys
import time
from pathlib import Path

from cifar_models.benchmark.serving_cost import serving_costs
from cifar_models.comparison.compare_runs import compare_runs
from cifar_models.config.run_identity import identifying_values, recipe_differences, summarize
from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.signals import Interruption, stop_request
from cifar_models.storage.atomic_files import locked
from cifar_models.storage.records import Robustness, ServingCost
from cifar_models.storage.run_folder import RunFolder
from cifar_models.sweeps.study_file import Study, StudyRun, planned_runs, read_study

logger = logging.getLogger("cifar_models")

POLL_SECONDS = 0.5  # between two looks at whether somebody asked to stop


def run_study(name_or_path: str, out: Path) -> list[Path]:
    """Runs what is missing of a study, then compares; begun again, it goes on.

    Args:
        name_or_path: of the study.
        out: its folder; DATASET/runs/* are run folders, DATASET/comparison the page.

    Returns:
        The paths of the pages.

    Raises:
        RequestError: the study is wrong, or another process works on it.
        RunError: no run of a data set succeeded.
    """
    study = read_study(name_or_path)
    runs = list(planned_runs(study, out))
    out.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out):
            return _run_and_compare(study, runs, out)
    except Interruption as stop:
        stop.args = ("stopped; the same command goes on where the run was",)
        raise


def _run_and_compare(study: Study, runs: list[StudyRun], out: Path) -> list[Path]:
    for run in runs:
        _refuse_another(run)
    missing = [run for run in runs if not RunFolder(run.path).is_finished()]
    logger.info("%d runs, %d of them to do", len(runs), len(missing))
    began, failed = time.monotonic(), 0
    for number, run in enumerate(missing):
        left = ""
        if number:
            seconds = (time.monotonic() - began) / number * (len(missing) - number)
            left = f", about {seconds / 60:.0f} min left"
        logger.info("run %d of %d: %s%s", number + 1, len(missing), run.path, left)
        failed += not _run_in_a_process(run)
    if failed:
        logger.warning("%d runs failed; the same command tries them again", failed)
    pages = []
    for dataset in dict.fromkeys(run.dataset for run in runs):
        done = [run for run in runs if run.dataset == dataset]
        done = [run for run in done if RunFolder(run.path).is_finished()]
        if not done:
            raise RunError(f"{out / dataset}: no run succeeded; each run's log.txt says why")
        _measure_further(done, study.robustness_images)
        page = out / dataset / "comparison"
        logger.info("%s", compare_runs([run.path for run in done], page))
        pages.append(page / "report.html")
    return pages


def _refuse_another(run: StudyRun) -> None:
    """Raises RequestError where a run's folder holds one that the study does not declare."""
    folder = RunFolder(run.path)
    if not folder.has_begun():
        return
    if differences := recipe_differences(
        folder.read_fingerprints(), identifying_values(run.recipe)
    ):
        raise RequestError(
            f"{run.path}: is a run of another study: {summarize(differences)}; choose another --out"
        )


def _measure_further(runs: list[StudyRun], robustness_images: int | None) -> None:
    """What serving costs, and robustness, of each recipe's first run that the page compares."""
    largest = max(run.recipe.data.train_fraction for run in runs)
    first: dict[str, Path] = {}
    for run in runs:
        if run.recipe.data.train_fraction == largest:
            first.setdefault(run.recipe.name, run.path)
    missing = [path for path in first.values() if not RunFolder(path).has(ServingCost)]
    if missing:
        logger.info("measuring what %d models cost to serve", len(missing))
        serving_costs(missing)
    for path in first.values():
        if not RunFolder(path).has(Robustness):
            logger.info("measuring the robustness of %s", path)
            limit = ["--images", str(robustness_images)] if robustness_images else []
            _succeeds(path, ["evaluate", str(path), "--corruptions", *limit])


def _run_in_a_process(run: StudyRun) -> bool:
    """One process a run: none inherits the memory or the failure of another."""
    if RunFolder(run.path).has_begun():
        return _succeeds(run.path, ["resume", str(run.path)])
    return _succeeds(run.path, ["train", *run.arguments, "--run", str(run.path)])


def _succeeds(path: Path, arguments: list[str]) -> bool:
    """Runs a command of this package; asked to stop, it stops the command and waits for it."""
    command = [sys.executable, "-m", "cifar_models", *arguments]
    with (
        stop_request() as stop,
        stop.deferred(),
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process,
    ):
        errors = None
        while errors is None:
            if is_requested := stop.is_requested():
                process.terminate()  # once: from here on it is waited for
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, errors = process.communicate(timeout=None if is_requested else POLL_SECONDS)
    stop.raise_if_requested()
    if process.returncode:
        reason = (errors.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        logger.warning("%s failed: %s", path, reason)
    return process.returncode == 0
