"""The folder of a search: whether it is one, and the recipe of the best trial."""

import dataclasses
import logging
from pathlib import Path

from cifar_models.config.recipe_file import recipe_toml, with_values
from cifar_models.config.toml_file import MAX_BYTES
from cifar_models.errors import RequestError, RunError
from cifar_models.storage.atomic_files import write_bytes_atomic
from cifar_models.storage.run_folder import RunFolder
from cifar_models.storage.safe_open import read_bytes
from cifar_models.sweeps.confirmation import CONFIRMED
from cifar_models.sweeps.trials import Trials

logger = logging.getLogger("cifar_models")

BEST, BEST_HEAD = "best.toml", "# The best of "  # the file of the best recipe, and its beginning
TUNED_SUFFIX = "-tuned"  # of the name of the best recipe


def refuse_other_files(out: Path) -> None:
    """Raise RequestError if a folder holds files, and they are not those of a search."""
    if out.is_dir() and any(out.iterdir()) and not (out / "trials").is_dir():
        raise RequestError(f"{out}: holds other files; choose another --out")
    for runs in (out / "trials", out / CONFIRMED):
        for path in (runs, *(runs.iterdir() if runs.is_dir() else ())):
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


def last_failure(trials: Trials) -> str:
    """Return the trial that failed last, and why."""
    name, reason = list(trials.failed.items())[-1]
    return f"trial {name}: {reason}"


def write_best(trials: Trials, validation_fraction: float) -> Path:
    """Write the recipe of the best trial, and return the path of the file.

    Args:
        trials: The trials of the search.
        validation_fraction: data.validation_fraction of the recipe that was searched.
    """
    recipe, finished, path = trials.recipe, trials.finished, trials.out / BEST
    if not finished:
        reason = f"; {last_failure(trials)}" if trials.failed else ""
        raise RunError(f"{trials.out}: no trial finished{reason}")
    best = max(sorted(finished), key=finished.__getitem__)
    count = _num_compared(trials)
    values: dict[str, object] = {"training.tuning_trials": recipe.training.tuning_trials + count}
    if not validation_fraction:
        values["data.validation_fraction"] = 0.0
    tuned = with_values(RunFolder(trials.out / "trials" / best).read_recipe(), values)
    # Another name: a comparison or study of both recipes would otherwise list their differences.
    tuned = dataclasses.replace(
        tuned, name=f"{recipe.name.removesuffix(TUNED_SUFFIX)}{TUNED_SUFFIX}"
    )
    head = (
        f"{BEST_HEAD}{count} trials of {recipe.name} by validation accuracy: "
        f"trial {best}, {finished[best]:.4f}\n"
    )
    write_bytes_atomic(trials.out, path.name, (head + recipe_toml(tuned)).encode())
    logger.info("best: trial %s, validation accuracy %.4f; %s", best, finished[best], path)
    return path


def _num_compared(trials: Trials) -> int:
    """Return the number of trials with an accuracy, also of those that halving has given up."""
    folders = [RunFolder(path) for path in (trials.out / "trials").iterdir()]
    return sum(
        folder.is_finished() or (folder.num_epochs() > 0 and folder.path.name not in trials.failed)
        for folder in folders
        if folder.has_begun()
    )
