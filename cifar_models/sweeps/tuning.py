"""Hyperparameter search: KerasTuner proposes recipes, and each trial is a run.

The state of a search is in its run folders. In a resumed search, the same trials are chosen again
from the same seed, and the results of finished trials are read from their folders. Therefore, a
kill costs at most the progress of the trials in training since their last checkpoints.
"""

import contextlib
import logging
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import with_values
from cifar_models.config.search import ORACLES
from cifar_models.errors import RequestError
from cifar_models.runtime.environment import command_line
from cifar_models.runtime.memory import memory_for_training
from cifar_models.runtime.signals import Interruption
from cifar_models.storage.atomic_files import WriteError, locked
from cifar_models.storage.disk_errors import disk_errors
from cifar_models.storage.run_folder import RunFolder
from cifar_models.sweeps.budget import BudgetSpent, SearchBudget
from cifar_models.sweeps.confirmation import confirm
from cifar_models.sweeps.oracles import STRATEGIES
from cifar_models.sweeps.roles import CHIEF, WORKER, role
from cifar_models.sweeps.search_folder import BEST, refuse_other_files, write_best
from cifar_models.sweeps.trial_folder import RESUME
from cifar_models.sweeps.trials import Trials
from cifar_models.workers.open_pool import open_pool
from cifar_models.workers.pool_options import ONE_WORKER, PoolOptions

logger = logging.getLogger("cifar_models")

# Of the training images, in the trials of a recipe that trains on all of them.
SEARCH_VALIDATION_FRACTION = 0.1


@dataclass(frozen=True)
class SearchOptions:
    """How a search is run. Only `oracle` and `pool.workers` change which trials are made.

    Attributes:
        oracle: How trials are chosen, one of ORACLES. Empty: as the recipe says.
        budget_seconds: Time after which no trial begins, seconds. It includes that of earlier
            processes of the same search. None: no limit.
        budget_flops: Floating-point operations of training after which no trial begins. None: no
            limit.
        pool: Which workers train the trials.
        confirm: Number of seeds with which the best recipe is trained again and tested.
        confirm_on_all: Whether these runs train on the validation images too.
        force: Whether to go on if memory seems too small.
    """

    oracle: str = ""
    budget_seconds: float | None = None
    budget_flops: float | None = None
    pool: PoolOptions = ONE_WORKER
    confirm: int = 0
    confirm_on_all: bool = False
    force: bool = False


def tune(
    recipe: Recipe, max_trials: int, out: Path | str, options: SearchOptions = SearchOptions()
) -> Path:
    """Search the ranges of a recipe, and write the best recipe. No trial predicts a test image.

    If the search was stopped, calling this again resumes it. If the recipe has no validation split,
    the trials have one of SEARCH_VALIDATION_FRACTION, and the best recipe has none again.

    Args:
        recipe: Recipe with a `search` table.
        max_trials: Number of trials, earlier ones in the folder included. If the folder holds more
            trials, all of them are used.
        out: Folder of the search. trials/NNNN/ and confirmed/NNNN/ are run folders, best.toml is
            the best recipe.
        options: How the search is run.

    Returns:
        The path of best.toml, which `train` accepts unchanged.

    Raises:
        RequestError: `out` holds anything other than this search or trials on other data, or
            another process uses it.
        RunError: No trial succeeded, or a file cannot be written.
        Interruption: A signal asked the search to stop.
    """
    recipe, final_fraction = recipe.with_absolute_paths(), recipe.data.validation_fraction
    recipe = _with_validation_split(recipe)
    out, part = Path(out), role()
    refuse_other_files(out)
    if part and not (options.budget_seconds is None and options.budget_flops is None):
        raise RequestError(
            "--budget-seconds, --budget-flops: KerasTuner's chief knows no budget; leave them out"
        )
    with disk_errors(out, RESUME):
        (out / "trials").mkdir(parents=True, exist_ok=True)
        with (
            memory_for_training(options.force),
            nullcontext() if part == WORKER else locked(out),
            open_pool(options.pool, recipe.runtime.onednn, out) as pool,
        ):
            budget = SearchBudget(out, options.budget_seconds, options.budget_flops)
            is_on_cluster = options.pool.cluster is not None
            trials = Trials(recipe, out, pool, budget, options.force, is_on_cluster)
            try:
                if part == WORKER:
                    from cifar_models.sweeps.chief import work_for_chief

                    work_for_chief(trials)
                    return out / BEST  # which the chief writes
                _search(trials, max_trials, options)
                return _conclude(trials, final_fraction, options)
            except Interruption as interruption:
                interruption.args = (f"stopped; {RESUME}",)
                raise


def _with_validation_split(recipe: Recipe) -> Recipe:
    """Return the recipe of the trials, which always have a validation split."""
    if recipe.data.validation_fraction:
        return recipe
    logger.info(
        "the trials hold out %.0f %% of the training images for validation, unless the data "
        "have a validation split; the best recipe trains on all of them, as %s does",
        100 * SEARCH_VALIDATION_FRACTION,
        recipe.name,
    )
    return with_values(recipe, {"data.validation_fraction": SEARCH_VALIDATION_FRACTION})


def _conclude(trials: Trials, final_fraction: float, options: SearchOptions) -> Path:
    """Write the best recipe, confirm it if asked, write the page, and return the recipe's path."""
    best = write_best(trials, final_fraction)
    confirmation = None
    if options.confirm:
        confirmation = confirm(trials, best, options.confirm, options.confirm_on_all)
    from cifar_models.sweeps.search_report import write_search_report

    oracle = _oracle(trials.recipe, options)
    page = write_search_report(trials.recipe, trials.out, oracle, confirmation, command_line())
    logger.info("%s", page)
    return best


def _search(trials: Trials, max_trials: int, options: SearchOptions) -> None:
    """Run the search in its folder, which is locked."""
    out, recipe = trials.out, trials.recipe
    folders = [RunFolder(path) for path in sorted((out / "trials").iterdir())]
    begun = sum(folder.has_begun() or folder.has_ended() for folder in folders)
    if begun > max_trials:
        logger.info("%s: holds %d trials already; all of them are used", out, begun)
        max_trials = begun
    if role() == CHIEF:
        from cifar_models.sweeps.chief import give_out_trials

        give_out_trials(recipe, out, max_trials, _oracle(recipe, options))
        trials.collect()
        return
    choose = STRATEGIES[_oracle(recipe, options)]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            choose(trials, max_trials, Path(scratch))
        except BudgetSpent:
            pass  # the search has said so
        finally:
            with contextlib.suppress(WriteError):  # it would hide the error that ends the search
                trials.budget.save()
    trials.collect()


def _oracle(recipe: Recipe, options: SearchOptions) -> str:
    """Return how trials are chosen."""
    return options.oracle or recipe.oracle or ORACLES[0]
