"""Hyperparameter search: KerasTuner proposes recipes, and each trial is a run.

The state of a search is in its run folders. In a resumed search, KerasTuner proposes the same
trials again from the same seed, and the results of finished trials are read from their folders.
Therefore, a kill costs at most the progress of one trial since its last checkpoint.
"""

import dataclasses
import logging
import tempfile
from pathlib import Path

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import recipe_toml, with_values
from cifar_models.config.toml_file import MAX_BYTES
from cifar_models.data.dataset import data_sha256
from cifar_models.data.load import load_dataset
from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.memory import MemoryShortage, memory_for_training
from cifar_models.runtime.signals import Interruption
from cifar_models.storage.atomic_files import locked, write_bytes_atomic
from cifar_models.storage.disk_errors import disk_errors
from cifar_models.storage.run_folder import RunFolder
from cifar_models.storage.safe_open import read_bytes
from cifar_models.sweeps.trials import (
    RESUME,
    BudgetSpent,
    CannotContinue,
    OtherSearch,
    RecipeTuner,
)

logger = logging.getLogger("cifar_models")

BEST, BEST_HEAD = "best.toml", "# The best of "  # the file of the best recipe, and its beginning
# Of the training images, in the trials of a recipe that trains on all of them.
SEARCH_VALIDATION_FRACTION = 0.1
TUNED_SUFFIX = "-tuned"  # of the name of the best recipe


def tune(
    recipe: Recipe,
    max_trials: int,
    out: Path | str,
    budget_seconds: float | None = None,
    force: bool = False,
) -> Path:
    """Search the ranges of a recipe, and write the best recipe. No test image is predicted.

    If the search was stopped, calling this again resumes it. If the recipe has no validation split,
    the trials have one of SEARCH_VALIDATION_FRACTION, and the best recipe has none again.

    Args:
        recipe: Recipe with a `search` table.
        max_trials: Number of trials, earlier ones in the folder included. If the folder holds more
            trials, all of them are used.
        out: Folder of the search. trials/NNNN/ are run folders, best.toml is the best recipe.
        budget_seconds: Time after which no trial begins, seconds. None: no limit.
        force: Whether to go on if memory seems too small.

    Returns:
        The path of best.toml, which `train` accepts unchanged.

    Raises:
        RequestError: `out` holds anything other than this search or trials on other data, or
            another process uses it.
        RunError: No trial succeeded, or a file cannot be written.
        Interruption: A signal asked the search to stop.
    """
    recipe, final_fraction = recipe.with_absolute_paths(), recipe.data.validation_fraction
    if not final_fraction:
        recipe = with_values(recipe, {"data.validation_fraction": SEARCH_VALIDATION_FRACTION})
        logger.info(
            "the trials hold out %.0f %% of the training images for validation, unless the data "
            "have a validation split; the best recipe trains on all of them, as %s does",
            100 * SEARCH_VALIDATION_FRACTION,
            recipe.name,
        )
    out = Path(out)
    _refuse_other_files(out)
    with disk_errors(out, RESUME):
        (out / "trials").mkdir(parents=True, exist_ok=True)
        with memory_for_training(force), locked(out):
            tuner = _search(recipe, max_trials, out, budget_seconds)
            return _write_best(tuner, final_fraction)


def _search(
    recipe: Recipe, max_trials: int, out: Path, budget_seconds: float | None
) -> RecipeTuner:
    """Run the search in its folder, which is locked, and return its tuner."""
    trials = [RunFolder(path) for path in sorted((out / "trials").iterdir())]
    _refuse_other_data(recipe, [folder for folder in trials if folder.has_begun()])
    ended = sum(folder.has_ended() for folder in trials)
    if ended > max_trials:
        logger.info("%s: holds %d trials already; all of them are used", out, ended)
        max_trials = ended
    with tempfile.TemporaryDirectory() as scratch:
        tuner = RecipeTuner(recipe, max_trials, out, budget_seconds, Path(scratch))
        _run_trials(tuner)
    return tuner


def _refuse_other_data(recipe: Recipe, begun: list[RunFolder]) -> None:
    """Raise RequestError if trials of the folder were trained on other data than the recipe's."""
    if not begun:
        return
    dataset = load_dataset(recipe)
    now = {"class_names": list(dataset.class_names), "data_sha256": data_sha256(dataset)}
    for folder in begun:
        then = folder.read_fingerprints()
        if any(key in then and then[key] != value for key, value in now.items()):
            raise RequestError(
                f"{folder.path}: was trained on other images or classes than {dataset.name} has "
                "now; restore them, or choose another --out"
            )


def _refuse_other_files(out: Path) -> None:
    """Raise RequestError if a folder holds files, and they are not those of a search."""
    trials = out / "trials"
    if out.is_dir() and any(out.iterdir()) and not trials.is_dir():
        raise RequestError(f"{out}: holds other files; choose another --out")
    for path in (trials, *(trials.iterdir() if trials.is_dir() else ())):
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise RequestError(f"{path}: is not a folder of a search; choose another --out")
    try:
        is_own = read_bytes(out, BEST, MAX_BYTES).startswith(BEST_HEAD.encode())
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        is_own = False
    if not is_own:
        raise RequestError(
            f"{out / BEST}: is not of a search, and would be replaced; choose another --out"
        )


def _run_trials(tuner: RecipeTuner) -> None:
    """Run the search, and translate the errors that end it."""
    try:
        tuner.search()
    except BudgetSpent as spent:
        logger.info("%s", spent)
    except Interruption as interruption:
        interruption.args = (f"stopped; {RESUME}",)
        raise
    except OtherSearch as error:
        raise RequestError(str(error)) from None
    except CannotContinue as error:
        cause, reason = error.args[0], str(error.args[0])
        kind = RequestError if isinstance(cause, MemoryShortage) else RunError
        raise kind(reason if RESUME in reason else f"{reason}; then {RESUME}") from None
    except RuntimeError as error:  # from KerasTuner: too many failed trials in a row
        raise RunError(
            f"the search stopped: {str(error).splitlines()[0]} {_last_failure(tuner)}"
        ) from None


def _last_failure(tuner: RecipeTuner) -> str:
    name, reason = list(tuner.failed.items())[-1]
    return f"trial {name}: {reason}"


def _write_best(tuner: RecipeTuner, validation_fraction: float) -> Path:
    """Write the recipe of the best trial, and return the path of the file.

    Args:
        tuner: Tuner that ran the trials.
        validation_fraction: data.validation_fraction of the recipe that was searched.
    """
    recipe, finished, path = tuner.recipe, tuner.finished, tuner.out / BEST
    if not finished:
        raise RunError(
            f"{tuner.out}: no trial finished{f'; {_last_failure(tuner)}' if tuner.failed else ''}"
        )
    best = max(finished, key=finished.__getitem__)
    values: dict[str, object] = {
        "training.tuning_trials": recipe.training.tuning_trials + len(finished)
    }
    if not validation_fraction:
        values["data.validation_fraction"] = 0.0
    tuned = with_values(RunFolder(tuner.out / "trials" / best).read_recipe(), values)
    # Another name: a comparison or study of both recipes would otherwise list their differences.
    tuned = dataclasses.replace(
        tuned, name=f"{recipe.name.removesuffix(TUNED_SUFFIX)}{TUNED_SUFFIX}"
    )
    head = (
        f"{BEST_HEAD}{len(finished)} trials of {recipe.name} by validation accuracy: "
        f"trial {best}, {finished[best]:.4f}\n"
    )
    write_bytes_atomic(tuner.out, path.name, (head + recipe_toml(tuned)).encode())
    logger.info("best: trial %s, validation accuracy %.4f; %s", best, finished[best], path)
    return path
