"""A declared study: every run that is missing of it, one process each, then the comparison."""

import contextlib
import itertools
import logging
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from cifar_models.compare import compare_runs
from cifar_models.errors import RequestError, RunError
from cifar_models.files import locked
from cifar_models.fingerprints import decisive_values, in_short, recipe_differences
from cifar_models.interruption import Interruption, stop_request
from cifar_models.recipe import Recipe
from cifar_models.recipe_file import EXPERIMENTS, read_recipe
from cifar_models.run_folder import RunFolder
from cifar_models.serving_cost import serving_costs

logger = logging.getLogger("cifar_models")

STUDIES = EXPERIMENTS / "studies"
LOOK_SECONDS = 0.5  # between two looks at whether somebody asked to stop
DECLARED = {  # what a study varies, so that no override may set it
    "data.dataset": "datasets",
    "data.train_fraction": "train_fractions",
    "runtime.seed": "seeds",
}


@dataclass(frozen=True)
class Study:
    """What experiments/studies/*.toml declares; every combination is one run."""

    recipes: tuple[str, ...]
    seeds: tuple[int, ...]
    datasets: tuple[str, ...] = ()  # none: each recipe's own
    train_fractions: tuple[float, ...] = (1.0,)
    overrides: tuple[str, ...] = ()  # "table.key=value", for every run
    robustness_images: int | None = None  # so many test images; none: all of them


@dataclass(frozen=True)
class StudyRun:
    recipe: Recipe
    dataset: str
    path: Path
    arguments: list[str]  # of `train`


def read_study(name_or_path: str) -> Study:
    """Reads a study by its name under experiments/studies/ or by the path of a TOML file.

    Raises:
        RequestError: no such study, not TOML, or something in it that no study has.
    """
    known = {path.stem: path for path in sorted(STUDIES.glob("*.toml"))}
    path = known.get(name_or_path, Path(name_or_path))
    if not path.is_file():
        raise RequestError(f"study {name_or_path!r}: neither a file nor one of {', '.join(known)}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: not a TOML file: {error}") from None
    keys = [field.name for field in fields(Study)]
    if strange := set(content) - set(keys):
        raise RequestError(f"{path}: unknown key {min(strange)}; a study has {', '.join(keys)}")
    for key in ("recipes", "seeds"):
        if not content.get(key):
            raise RequestError(f"{path}: {key} must be a list that is not empty")
    images = content.pop("robustness_images", None)
    if images is not None and (type(images) is not int or images < 1):
        raise RequestError(f"{path}: robustness_images = {images!r} must be a positive integer")
    for key, value in content.items():
        if not isinstance(value, list):
            raise RequestError(f"{path}: {key} = {value!r} must be a list")
    for override in content.get("overrides", []):
        if declared := DECLARED.get(str(override).partition("=")[0].strip()):
            raise RequestError(f"{path}: override {override!r}: say it in {declared}")
    return Study(**{key: tuple(value) for key, value in content.items()}, robustness_images=images)


def planned_runs(study: Study, out: Path) -> Iterator[StudyRun]:
    """Yields every run of a study, the seeds outermost, so that a study cut short is balanced.

    Raises:
        RequestError: a recipe that does not exist, an override that it does not have, or two runs
            of one name.
    """
    paths: set[Path] = set()
    combinations = itertools.product(
        study.seeds, study.train_fractions, study.recipes, study.datasets or (None,)
    )
    for seed, fraction, recipe, dataset in combinations:
        overrides = [*study.overrides, f"data.train_fraction={fraction}"]
        if dataset:
            overrides.append(f"data.dataset='''{dataset}'''")
        resolved = read_recipe(recipe, [*overrides, f"runtime.seed={seed}"])
        named = resolved.data.dataset.replace(":", "-").replace("/", "-")
        path = out / named / "runs" / f"{resolved.name}-{fraction:g}-{seed}"
        if path in paths:
            raise RequestError(
                f"recipe {recipe}: two runs of the study would be {path}; leave one out, or give "
                "the recipe another name (name = … at the head of a copy)"
            )
        paths.add(path)
        arguments = [recipe, "--seed", str(seed)]
        for override in overrides:
            arguments += ["--set", override]
        yield StudyRun(resolved, named, path, arguments)


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
    if differences := recipe_differences(folder.read_fingerprints(), decisive_values(run.recipe)):
        raise RequestError(
            f"{run.path}: is a run of another study: {in_short(differences)}; choose another --out"
        )


def _measure_further(runs: list[StudyRun], robustness_images: int | None) -> None:
    """What serving costs, and robustness, of each recipe's first run that the page compares."""
    largest = max(run.recipe.data.train_fraction for run in runs)
    first: dict[str, Path] = {}
    for run in runs:
        if run.recipe.data.train_fraction == largest:
            first.setdefault(run.recipe.name, run.path)
    missing = [path for path in first.values() if RunFolder(path).read_cost() is None]
    if missing:
        logger.info("measuring what %d models cost to serve", len(missing))
        serving_costs(missing)
    for path in first.values():
        if RunFolder(path).read_robustness() is None:
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
            if is_asked := stop.is_asked():
                process.terminate()  # once: from here on it is waited for
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, errors = process.communicate(timeout=None if is_asked else LOOK_SECONDS)
    stop.obey()
    if process.returncode:
        reason = (errors.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        logger.warning("%s failed: %s", path, reason)
    return process.returncode == 0
