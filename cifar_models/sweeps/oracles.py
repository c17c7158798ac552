"""How a search chooses its trials: KerasTuner's oracles, and successive halving.

The choices depend on the seed and the results only, those of "bayesian" also on the number of
workers, so a resumed search makes the same ones.
"""

import logging
import warnings
from collections.abc import Callable
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


def make_oracle(kind: type, recipe: Recipe, max_trials: int, folder: Path) -> keras_tuner.Oracle:
    """Return an oracle of KerasTuner for the ranges of a recipe.

    Args:
        kind: Its class.
        recipe: Recipe with a `search` table.
        max_trials: Number of trials.
        folder: Folder in which it makes the folder keras_tuner/ for its state.
    """
    oracle = kind(
        OBJECTIVE,
        max_trials=max_trials,
        hyperparameters=search_space(recipe),
        tune_new_entries=False,
        allow_new_entries=False,
        seed=recipe.runtime.seed + 1,  # KerasTuner reads 0 as no seed
        max_consecutive_failed_trials=max_trials + 1,  # `Trials` counts them
    )
    return _Chooser(oracle, folder).oracle


def trial_of(number: int, chosen: trial_module.Trial, recipe: Recipe) -> Trial | None:
    """Return a trial of KerasTuner as this package has it; None: its values do not fit together."""
    try:
        return Trial(number, suggest(chosen.hyperparameters, recipe))
    except RequestError as error:
        logger.warning("trial %d is left out: %s", number, error)
        return None


def _next_trials(
    oracle: keras_tuner.Oracle, recipe: Recipe, count: int
) -> list[tuple[trial_module.Trial, Trial | None]]:
    """Return up to `count` new trials, as KerasTuner and as this package have them."""
    found = []
    for number in range(count):
        with warnings.catch_warnings():  # that the fit of the Gaussian process is at a bound
            warnings.filterwarnings("ignore", module=r"sklearn\.gaussian_process")
            chosen = oracle.create_trial(f"worker{number}")
        if chosen.status != RUNNING:
            break
        found.append((chosen, trial_of(len(oracle.start_order), chosen, recipe)))
    return found


def run_bayesian(trials: Trials, max_trials: int, scratch: Path) -> None:
    """Let a Gaussian process choose trials, as many at once as there are workers.

    Args:
        trials: The trials of the search.
        max_trials: Number of trials, earlier ones included.
        scratch: An empty folder.

    Raises:
        BudgetSpent: The budget allows no more trials.
    """
    oracle = make_oracle(ORACLE_CLASSES["bayesian"], trials.recipe, max_trials, scratch)
    while chosen := _next_trials(oracle, trials.recipe, trials.pool.count):
        possible = [trial for _, trial in chosen if trial]
        found = trials.accuracies(possible)
        accuracies = {trial.number: a for trial, a in zip(possible, found, strict=True)}
        for one, trial in chosen:
            accuracy = accuracies[trial.number] if trial else None
            one.status = FAILED if accuracy is None else COMPLETED
            if accuracy is not None:
                oracle.update_trial(one.trial_id, {OBJECTIVE.name: accuracy})
            oracle.end_trial(one)


def run_random(trials: Trials, max_trials: int, scratch: Path) -> None:
    """Train random trials.

    Args:
        trials, max_trials, scratch: As for `run_bayesian`.

    Raises:
        BudgetSpent: The budget allows no more trials.
    """
    trials.accuracies(_random_trials(trials.recipe, max_trials, scratch))


def run_halving(trials: Trials, max_trials: int, scratch: Path) -> None:
    """Train random trials for a few epochs, and go on with the best third, again and again.

    A trial goes on from its last checkpoint, with the schedule of the whole training.

    Args:
        trials, max_trials, scratch: As for `run_bayesian`.

    Raises:
        RequestError: The recipe trains for a time and not for a number of epochs.
        BudgetSpent: The budget allows no more training.
    """
    if not trials.recipe.training.epochs:
        raise RequestError(
            f"{trials.recipe.name}: halving needs a number of epochs; set training.epochs, or "
            "choose another --oracle"
        )
    left = _random_trials(trials.recipe, max_trials, scratch)
    epochs = trials.recipe.training.epochs
    for rung in (goals := rungs(len(left), epochs)):
        is_last = rung == goals[-1]
        found = trials.accuracies(left, 0 if is_last else rung)
        accuracies = {
            trial.number: accuracy
            for trial, accuracy in zip(left, found, strict=True)
            if accuracy is not None
        }
        alive = [trial for trial in left if trial.number in accuracies]
        alive.sort(key=lambda trial: -accuracies[trial.number])
        left = alive[: survivors(len(left))]
        if not is_last:
            logger.info("%d of %d trials go on after %d epochs", len(left), len(alive), rung)


def _random_trials(recipe: Recipe, count: int, scratch: Path) -> list[Trial]:
    """Return random trials, of which none depends on the result of another one."""
    oracle = make_oracle(ORACLE_CLASSES["random"], recipe, count, scratch)
    return [trial for _, trial in _next_trials(oracle, recipe, count) if trial]


# Name → class of KerasTuner.
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


# Name of an oracle → what chooses and trains the trials. `config/search.py` has the names.
STRATEGIES: dict[str, Callable[[Trials, int, Path], None]] = {
    "bayesian": run_bayesian,
    "halving": run_halving,
    "random": run_random,
}
