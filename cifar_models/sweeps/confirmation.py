"""The confirmation of a search: its best recipe, trained again with seeds that it has not used."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import read_recipe, recipe_toml, with_values
from cifar_models.config.run_identity import identifying_values, recipe_differences
from cifar_models.errors import RequestError, RunError
from cifar_models.evaluation.validation_accuracy import accuracy_at_end
from cifar_models.storage.records import DatasetInfo, RunMetrics
from cifar_models.storage.run_folder import RunFolder
from cifar_models.sweeps.trial_folder import RESUME
from cifar_models.sweeps.trials import Trials
from cifar_models.workers.job import Job

logger = logging.getLogger("cifar_models")

CONFIRMED = "confirmed"  # folder of the runs, in the folder of the search
# Without validation images, neither the best epoch nor an early end can be chosen.
ON_ALL_IMAGES: dict[str, object] = {
    "data.validation_fraction": 0.0,
    "training.keep": "last",
    "training.early_stopping_epochs": 0,
}


@dataclass(frozen=True)
class Confirmation:
    """What the best recipe of a search reaches with other seeds.

    Attributes:
        test: Test accuracy of each run.
        validation: Validation accuracy of each run; empty if the runs trained on these images.
    """

    test: list[float]
    validation: list[float]


def confirm(trials: Trials, best: Path, count: int, on_all: bool) -> Confirmation:
    """Train the best recipe of a search with other seeds, and test it.

    The accuracy of the best trial is too high on average, because it was chosen for it. These are
    not.

    Args:
        trials: The trials of the search.
        best: Path of best.toml.
        count: Number of seeds.
        on_all: Whether to train on the validation images too, for the whole number of epochs.

    Raises:
        RequestError: A folder holds a run of another recipe.
        RunError: A run has failed.
        Interruption: A signal asked the search to stop.
    """
    recipe = read_recipe(str(best))
    seeds = [trials.recipe.runtime.seed + 1 + number for number in range(count)]
    folders = [RunFolder(trials.out / CONFIRMED / f"{seed:04d}") for seed in seeds]
    folders[0].path.parent.mkdir(exist_ok=True)
    on_all_images = ON_ALL_IMAGES if on_all else {}
    jobs = []
    for seed, folder in zip(seeds, folders, strict=True):
        confirmed = with_values(recipe, {"runtime.seed": seed, **on_all_images})
        if folder.has_begun():
            _check_begun(folder, confirmed, best)
        if not folder.is_finished():
            folder.path.mkdir(exist_ok=True)
            jobs.append(
                Job(
                    path=folder.path.absolute(),
                    recipe=recipe_toml(confirmed),
                    split="test",
                    force=trials.force,
                    data_sha256=trials.data_sha256(confirmed),
                )
            )
    for job, result in zip(jobs, trials.run(jobs) if jobs else [], strict=True):
        if result.accuracy is None:
            raise RunError(f"{job.path}: failed: {result.problem}; then {RESUME}")
    test = [folder.read(RunMetrics).accuracy for folder in folders]
    has_validation = all(folder.read(DatasetInfo).validation_images for folder in folders)
    validation = [accuracy_at_end(folder) for folder in folders] if has_validation else []
    _log(test, validation, max(trials.finished.values()))
    return Confirmation(test, validation)


def _check_begun(folder: RunFolder, recipe: Recipe, best: Path) -> None:
    """Raise RequestError if a run that has begun is not of a recipe."""
    if recipe_differences(folder.read_fingerprints(), identifying_values(recipe)):
        raise RequestError(
            f"{folder.path}: is a run of another recipe than {best}; remove "
            f"{folder.path.parent}, then {RESUME}"
        )
    then, now = folder.read_recipe().training.tuning_trials, recipe.training.tuning_trials
    if then != now:  # the search went on, and found nothing better
        logger.warning(
            "%s: records %d tuning trials, as it was confirmed before the search had %d; remove "
            "%s to train it again",
            folder.path,
            then,
            now,
            folder.path.parent,
        )


def mean_and_deviation(accuracies: Sequence[float]) -> str:
    """Return accuracies in words, in percent: their mean, and ± their standard deviation."""
    spread = f" ± {100 * np.std(accuracies, ddof=1):.2f}" if len(accuracies) > 1 else ""
    return f"{100 * np.mean(accuracies):.2f}{spread} %"


def _log(test: Sequence[float], validation: Sequence[float], best: float) -> None:
    logger.info(
        "confirmed with %d other seeds: test accuracy %s", len(test), mean_and_deviation(test)
    )
    if validation:
        logger.info(
            "validation accuracy %s, of the best trial %.2f %%: selection flattered it by %.2f",
            mean_and_deviation(validation),
            100 * best,
            100 * (best - float(np.mean(validation))),
        )
