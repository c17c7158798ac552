"""How a search chooses its trials: KerasTuner's oracles, and successive halving.

The choices depend on the seed, the number of workers and the results only, so a resumed search
makes the same ones.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras_tuner
from keras_tuner.engine import trial as trial_module
from keras_tuner.src import config as keras_tuner_config

from cifar_models.config.recipe import Recipe
from cifar_models.errors import RequestError
from cifar_models.sweeps.rungs import rungs, survivors
from cifar_models.sweeps.search_space import search_space, suggest
from cifar_models.sweeps.trials import Trial, Trials

logger = logging.getLogger("cifar_models")

keras_tuner_config.DEBUG = False  # it would print the traceback of a failed trial
MAX_FAILURES = 3  # in a row, with which a search ends
OBJECTIVE = keras_tuner.Objective("validation_accuracy", "max")
RUNNING, COMPLETED, FAILED = (
    getattr(trial_module.TrialStatus, name) for name in ("RUNNING", "COMPLETED", "FAILED")
)


class _Chooser(keras_tuner.Tuner):
    """KerasTuner's oracle with a folder for its files."""

    def __init__(self, oracle: keras_tuner.Oracle, folder: Path):
        oracle.verbose = 0
        super().__init__(oracle, directory=folder, project_name="keras_tuner")

    def run_trial(self, trial, *arguments, **options):
        """Do nothing; KerasTuner requires this method of a tuner without a model."""


def make_oracle(
    kind: type, recipe: Recipe, max_trials: int, folder: Path, max_failures: int = 0
) -> keras_tuner.Oracle:
    """Return an oracle of KerasTuner for the ranges of a recipe.

    Args:
        kind: Its class.
        recipe: Recipe with a `search` table.
        max_trials: Number of trials.
        folder: Folder in which it makes the folder keras_tuner/ for its state.
        max_failures: Number of failed trials in a row with which it gives up. 0: it does not.
    """
    oracle = kind(
        OBJECTIVE,
        max_trials=max_trials,
        hyperparameters=search_space(recipe),
        tune_new_entries=False,
        allow_new_entries=False,
        seed=recipe.runtime.seed + 1,  # KerasTuner reads 0 as no seed
        max_consecutive_failed_trials=max_failures or max_trials + 1,
    )
    return _Chooser(oracle, folder).oracle


def _next_trials(
    oracle: keras_tuner.Oracle, recipe: Recipe, count: int
) -> list[tuple[trial_module.Trial, Trial]]:
    """Return up to `count` new trials, as KerasTuner and as this package have them."""
    found = []
    for number in range(count):
        chosen = oracle.create_trial(f"worker{number}")
        if chosen.status != RUNNING:
            break
        proposed = suggest(chosen.hyperparameters, recipe)
        found.append((chosen, Trial(len(oracle.start_order), proposed)))
    return found


def run_oracle(kind: type, trials: Trials, max_trials: int, scratch: Path) -> None:
    """Let an oracle of KerasTuner choose trials, as many at once as there are workers.

    Args:
        kind: Class of the oracle.
        trials: The trials of the search.
        max_trials: Number of trials, earlier ones included.
        scratch: An empty folder.

    Raises:
        RuntimeError: Three trials in a row have failed.
        BudgetSpent: The budget allows no more trials.
    """
    oracle = make_oracle(kind, trials.recipe, max_trials, scratch, MAX_FAILURES)
    while chosen := _next_trials(oracle, trials.recipe, trials.pool.count):
        accuracies = trials.accuracies([trial for _, trial in chosen])
        for (one, _), accuracy in zip(chosen, accuracies, strict=True):
            one.status = FAILED if accuracy is None else COMPLETED
            if accuracy is not None:
                oracle.update_trial(one.trial_id, {OBJECTIVE.name: accuracy})
            oracle.end_trial(one)


def run_halving(trials: Trials, max_trials: int, scratch: Path) -> None:
    """Train random trials for a few epochs, and go on with the best third, again and again.

    A trial goes on from its last checkpoint, with the schedule of the whole training.

    Args:
        trials, max_trials, scratch: As for `run_oracle`.

    Raises:
        RequestError: The recipe trains for a time and not for a number of epochs.
        BudgetSpent: The budget allows no more training.
    """
    if not trials.recipe.training.epochs:
        raise RequestError(
            f"{trials.recipe.name}: halving needs a number of epochs; set training.epochs, or "
            "choose another --oracle"
        )
    oracle = make_oracle(keras_tuner.oracles.RandomSearchOracle, trials.recipe, max_trials, scratch)
    left = [trial for _, trial in _next_trials(oracle, trials.recipe, max_trials)]
    epochs = trials.recipe.training.epochs
    for rung in (goals := rungs(len(left), epochs)):
        is_last = rung == goals[-1]
        accuracies: dict[int, float] = {}
        for batch in _batches(left, trials.pool.count):
            found = trials.accuracies(batch, 0 if is_last else rung)
            for trial, accuracy in zip(batch, found, strict=True):
                if accuracy is not None:
                    accuracies[trial.number] = accuracy
        alive = [trial for trial in left if trial.number in accuracies]
        alive.sort(key=lambda trial: -accuracies[trial.number])
        left = alive[: survivors(len(left))]
        if not is_last:
            logger.info("%d of %d trials go on after %d epochs", len(left), len(alive), rung)


def _batches(trials: Sequence[Trial], size: int) -> Iterator[Sequence[Trial]]:
    for first in range(0, len(trials), size):
        yield trials[first : first + size]


Strategy = Callable[[Trials, int, Path], None]

# Name → class of KerasTuner. `config/search.py` has the names of these and of other strategies.
ORACLE_CLASSES: dict[str, type] = {
    "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
    "random": keras_tuner.oracles.RandomSearchOracle,
}


def oracle_class(name: str) -> type:
    """Return the class of an oracle of KerasTuner.

    Raises:
        RequestError: The name is that of another strategy.
    """
    if name not in ORACLE_CLASSES:
        raise RequestError(
            f"--oracle {name}: is not of KerasTuner, whose chief gives out the trials here; choose "
            f"one of {', '.join(ORACLE_CLASSES)}"
        )
    return ORACLE_CLASSES[name]


def strategy(name: str) -> Strategy:
    """Return the function that chooses and trains the trials, by the name of an oracle."""
    return run_halving if name == "halving" else functools.partial(run_oracle, oracle_class(name))
