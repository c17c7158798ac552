"""The search: KerasTuner proposes, `run` trains.

The finished run folders are the state of a search. A search that goes on asks KerasTuner the same
questions again, with the same seed, and answers from the folders what they can answer; so a kill
at any moment costs the trial that was under way and no more.
"""

import dataclasses
import logging
import shutil
import time
from pathlib import Path

import keras
import keras_tuner

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import recipe_tables, recipe_toml, with_values
from cifar_models.config.run_identity import identifying_values, recipe_differences, summarize
from cifar_models.errors import RequestError, RunError
from cifar_models.run.resume import resume
from cifar_models.run.train import train
from cifar_models.runtime.signals import Interruption
from cifar_models.storage.atomic_files import FolderInUse, WriteError, locked, write_bytes_atomic
from cifar_models.storage.records import Failure, RunMetrics
from cifar_models.storage.run_folder import RunFolder
from cifar_models.sweeps.search_space import search_space, suggest

logger = logging.getLogger("cifar_models")

TUNED = "-tuned"  # ends the name of a winner
OBJECTIVE = keras_tuner.Objective("validation_accuracy", "max")


# FatalError ends KerasTuner's loop; it takes every other exception for a failed trial.
class _BudgetSpent(keras_tuner.errors.FatalError):
    pass


class _AnotherSearch(keras_tuner.errors.FatalError):
    pass


class _CannotGoOn(keras_tuner.errors.FatalError):
    pass


class RecipeTuner(keras_tuner.Tuner):
    """Trains each trial through `run`, in a run folder of its own, measured on validation.

    Args:
        recipe: with its `search` table.
        max_trials: in all, those of an earlier search in the same folder included.
        out: the folder of the search.
        budget_seconds: no trial begins after so long; None is no limit.
    """

    def __init__(self, recipe: Recipe, max_trials: int, out: Path, budget_seconds: float | None):
        self.recipe = recipe
        self.max_trials = max_trials
        self.out = out
        self.budget_seconds = budget_seconds
        self.finished: dict[str, float] = {}  # name of the trial's folder → validation accuracy
        self.trained = 0  # by this process
        self._began = time.monotonic()
        oracle = keras_tuner.oracles.BayesianOptimizationOracle(
            OBJECTIVE,
            max_trials=max_trials,
            hyperparameters=search_space(recipe),
            tune_new_entries=False,
            allow_new_entries=False,
            seed=recipe.runtime.seed + 1,  # KerasTuner takes 0 for no seed
        )
        oracle.verbose = 0
        super().__init__(oracle, directory=out, project_name="keras_tuner", overwrite=True)

    def run_trial(self, trial, *args, **kwargs):
        number = len(self.oracle.start_order)
        try:
            return {OBJECTIVE.name: self._accuracy_of(number, trial.hyperparameters)}
        except (keras_tuner.errors.FatalError, keras_tuner.errors.FailedTrialError):
            raise
        except (WriteError, FolderInUse) as error:  # no fault of the trial's
            raise _CannotGoOn(error) from error
        except Exception as error:  # KerasTuner would go on without a word
            logger.warning("trial %d failed: %s", number, error)
            if (folder := self._folder(number)).path.is_dir():
                folder.write(Failure(reason=str(error)))
            raise keras_tuner.errors.FailedTrialError(str(error)) from error

    def _accuracy_of(self, number: int, hyperparameters: keras_tuner.HyperParameters) -> float:
        proposed = dataclasses.replace(suggest(hyperparameters, self.recipe), search={})
        folder = self._folder(number)
        accuracy = self._already_measured(folder, proposed)
        if accuracy is None:
            self._stop_if_spent()
            logger.info("trial %d of %d%s", number, self.max_trials, self._time_left(number))
            tables = recipe_tables(proposed)
            for key in self.recipe.search:
                table, _, field = key.partition(".")
                logger.info("  %s = %s", key, tables[table][field])
            keras.backend.clear_session()
            if folder.has_begun():  # and was stopped or killed
                accuracy = resume(folder.path).accuracy
            else:
                shutil.rmtree(folder.path, ignore_errors=True)
                accuracy = train(proposed, folder.path, evaluation_split="validation").accuracy
            self.trained += 1
        self.finished[folder.path.name] = accuracy
        return accuracy

    def _folder(self, number: int) -> RunFolder:
        return RunFolder(self.out / "trials" / f"{number:04d}")

    def _already_measured(self, folder: RunFolder, proposed: Recipe) -> float | None:
        if not folder.has_begun():
            return None
        if differences := recipe_differences(
            folder.read_fingerprints(), identifying_values(proposed)
        ):
            raise _AnotherSearch(
                f"{folder.path}: is a trial of another search; choose another --out "
                f"({summarize(differences)})"
            )
        if failure := folder.read_if_there(Failure):  # the same recipe would fail again
            raise keras_tuner.errors.FailedTrialError(failure.reason)
        return folder.read(RunMetrics).accuracy if folder.is_finished() else None

    def _stop_if_spent(self) -> None:
        spent = time.monotonic() - self._began
        if self.budget_seconds is not None and spent > self.budget_seconds:
            raise _BudgetSpent(f"the budget of {self.budget_seconds:g} seconds is spent")

    def _time_left(self, number: int) -> str:
        if not self.trained:
            return ""
        mean = (time.monotonic() - self._began) / self.trained
        left = mean * (self.max_trials - number + 1)
        return f", best so far {max(self.finished.values()):.4f}, about {left:.0f} s left"


def search(recipe: Recipe, max_trials: int, out: Path, budget_seconds: float | None = None) -> Path:
    """Searches the recipe's ranges and writes the winner as a recipe; sees no test image.

    Args:
        recipe: with its `search` table.
        max_trials: in all; a search that was stopped goes on until there are so many. Trials
            that are there already count, however many.
        out: the folder of the search: trials/NNNN/ are run folders, best.toml the winner.
        budget_seconds: no trial begins after so long; None is no limit.

    Returns:
        The path of best.toml, which `train` runs unchanged.

    Raises:
        RequestError: there is no validation split, `out` holds something other than this search,
            or another process works there.
        RunError: no trial succeeded.
    """
    if not recipe.data.validation_fraction:
        raise RequestError(
            f"{recipe.name}: data.validation_fraction is 0, and a search needs a validation split"
        )
    if out.is_dir() and any(out.iterdir()) and not (out / "trials").is_dir():
        raise RequestError(f"{out}: holds other files; choose another --out")
    (out / "trials").mkdir(parents=True, exist_ok=True)
    with locked(out):
        ended = sum(folder.has_ended() for folder in map(RunFolder, (out / "trials").iterdir()))
        if ended > max_trials:
            logger.info("%s: holds %d trials already, all of which count", out, ended)
            max_trials = ended
        return _search(RecipeTuner(recipe, max_trials, out, budget_seconds))


def _search(tuner: RecipeTuner) -> Path:
    recipe, out = tuner.recipe, tuner.out
    try:
        tuner.search()
    except _BudgetSpent as spent:
        logger.info("%s", spent)
    except Interruption as stop:
        stop.args = ("stopped; the same command goes on where the trial was",)
        raise
    except _AnotherSearch as error:
        raise RequestError(str(error)) from None
    except _CannotGoOn as stop:
        raise RunError(f"{stop.args[0]}; then the same command goes on") from None
    except RuntimeError as error:  # KerasTuner's: too many failed trials in a row
        raise RunError(f"the search stopped: {str(error).splitlines()[0]}") from None
    if not tuner.finished:
        raise RunError(f"{out}: no trial finished")
    best = max(tuner.finished, key=tuner.finished.__getitem__)
    trials = recipe.training.tuning_trials + len(tuner.finished)
    winner = with_values(
        RunFolder(out / "trials" / best).read_recipe(),
        {"training.tuning_trials": trials},
    )
    # Beside the recipe that it was made of, a comparison or a study would have to spell out both.
    winner = dataclasses.replace(winner, name=f"{recipe.name.removesuffix(TUNED)}{TUNED}")
    head = (
        f"# The best of {len(tuner.finished)} trials of {recipe.name} by validation accuracy: "
        f"trial {best}, {tuner.finished[best]:.4f}\n"
    )
    path = out / "best.toml"
    write_bytes_atomic(path, (head + recipe_toml(winner)).encode())
    logger.info("best: trial %s, validation accuracy %.4f; %s", best, tuner.finished[best], path)
    return path
