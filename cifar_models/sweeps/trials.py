"""The trials of a search: KerasTuner proposes recipes, and each trial is a run."""

import dataclasses
import logging
import time
from pathlib import Path

import keras
import keras_tuner
from keras_tuner.src import config as keras_tuner_config

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import recipe_tables, recipe_toml
from cifar_models.config.run_identity import identifying_values, recipe_differences, summarize
from cifar_models.errors import RequestError
from cifar_models.run.resume import resume
from cifar_models.run.train import train
from cifar_models.runtime.memory import MemoryShortage
from cifar_models.runtime.signals import obey_stop
from cifar_models.storage.atomic_files import FolderInUse, WriteError
from cifar_models.storage.disk_errors import disk_errors
from cifar_models.storage.open_run import refuse_if_taken
from cifar_models.storage.records import Failure, RunMetrics
from cifar_models.storage.run_folder import RunFolder
from cifar_models.sweeps.search_space import search_space, suggest

logger = logging.getLogger("cifar_models")

RESUME = "the same command resumes the search"
keras_tuner_config.DEBUG = False  # it would print the traceback of a failed trial
OBJECTIVE = keras_tuner.Objective("validation_accuracy", "max")


# KerasTuner treats every exception as a failed trial, except a FatalError, which ends the search.
class BudgetSpent(keras_tuner.errors.FatalError):
    """The time is over in which trials may begin."""


class OtherSearch(keras_tuner.errors.FatalError):
    """The folder of a trial holds anything other than that trial."""


class CannotContinue(keras_tuner.errors.FatalError):
    """The next trial would fail for the same reason, such as a full disk."""


class RecipeTuner(keras_tuner.Tuner):
    """Tuner that trains each trial in its own run folder, and evaluates it on the validation split.

    Args:
        recipe: Recipe with a `search` table.
        max_trials: Number of trials, those of an earlier search in the same folder included.
        out: Folder of the search.
        budget_seconds: Time after which no trial begins, seconds. None: no limit.
        scratch: Folder of KerasTuner's own files, which no resumed search reads.
    """

    def __init__(
        self,
        recipe: Recipe,
        max_trials: int,
        out: Path,
        budget_seconds: float | None,
        scratch: Path,
    ):
        self.recipe = recipe
        self.max_trials = max_trials
        self.out = out
        self.budget_seconds = budget_seconds
        self.finished: dict[str, float] = {}  # name of the trial's folder → validation accuracy
        self.failed: dict[str, str] = {}  # name of the trial's folder → reason
        self.trained = 0  # trials that this process trained
        self._began = time.monotonic()
        oracle = keras_tuner.oracles.BayesianOptimizationOracle(
            OBJECTIVE,
            max_trials=max_trials,
            hyperparameters=search_space(recipe),
            tune_new_entries=False,
            allow_new_entries=False,
            seed=recipe.runtime.seed + 1,  # KerasTuner reads 0 as no seed
        )
        oracle.verbose = 0
        super().__init__(oracle, directory=scratch, project_name="keras_tuner")

    def run_trial(self, trial, *args, **kwargs):
        number = len(self.oracle.start_order)
        folder = RunFolder(self.out / "trials" / f"{number:04d}")
        proposed = dataclasses.replace(suggest(trial.hyperparameters, self.recipe), search={})
        obey_stop()
        try:
            with disk_errors(self.out, RESUME):
                return {OBJECTIVE.name: self._accuracy_of(number, folder, proposed)}
        except keras_tuner.errors.FatalError:
            raise
        except keras_tuner.errors.FailedTrialError as error:  # in an earlier search
            self.failed[folder.path.name] = str(error)
            raise
        except (WriteError, FolderInUse) as error:  # the next trial would fail too
            raise CannotContinue(error) from error
        except Exception as error:  # KerasTuner would continue without a message
            obey_stop()  # the error may be what a library made of the stop
            if isinstance(error, MemoryShortage) and not self.finished:  # so will the next trial be
                raise CannotContinue(error) from error
            logger.warning("trial %d failed: %s", number, error)
            self.failed[folder.path.name] = str(error)
            self._record_failure(folder, proposed, str(error))
            raise keras_tuner.errors.FailedTrialError(str(error)) from error

    def _record_failure(self, folder: RunFolder, proposed: Recipe, reason: str) -> None:
        if not folder.path.is_dir():
            return
        try:
            if not folder.has_begun():
                folder.write_recipe(recipe_toml(proposed))
            folder.write(Failure(reason=reason))
        except WriteError as error:
            raise CannotContinue(error) from error

    def _accuracy_of(self, number: int, folder: RunFolder, proposed: Recipe) -> float:
        """Return the validation accuracy of a trial, and train it if necessary."""
        accuracy = self._recorded_accuracy(folder, proposed)
        if accuracy is None:
            self._stop_if_budget_spent()
            self._log_trial(number, proposed)
            accuracy = self._train(folder, proposed)
            self.trained += 1
        self.finished[folder.path.name] = accuracy
        return accuracy

    def _train(self, folder: RunFolder, proposed: Recipe) -> float:
        keras.backend.clear_session()
        obey_stop()  # the objects of the last trial are deleted, which may drop Interruption
        if folder.has_begun():  # an earlier search was stopped or killed
            return resume(folder.path).accuracy
        try:
            refuse_if_taken(folder.path, recipe_toml(proposed))
        except RequestError:
            raise OtherSearch(
                f"{folder.path}: holds files that are not of this search; choose another --out"
            ) from None
        folder.path.mkdir(exist_ok=True)  # an error of the disk ends the search, not the trial
        return train(proposed, folder.path, evaluation_split="validation").accuracy

    def _recorded_accuracy(self, folder: RunFolder, proposed: Recipe) -> float | None:
        """Return the accuracy of a finished trial, or None if it is not finished."""
        if not folder.has_begun():
            if folder.holds_recipe(recipe_toml(proposed)):
                _raise_recorded_failure(folder)
            return None
        if differences := recipe_differences(
            folder.read_fingerprints(), identifying_values(proposed)
        ):
            raise OtherSearch(
                f"{folder.path}: is a trial of another search; choose another --out "
                f"({summarize(differences)})"
            )
        _raise_recorded_failure(folder)
        return folder.read(RunMetrics).accuracy if folder.is_finished() else None

    def _stop_if_budget_spent(self) -> None:
        spent = time.monotonic() - self._began
        if self.budget_seconds is not None and spent > self.budget_seconds:
            raise BudgetSpent(f"the budget of {self.budget_seconds:g} seconds is spent")

    def _log_trial(self, number: int, proposed: Recipe) -> None:
        left = ""
        if self.trained:
            mean = (time.monotonic() - self._began) / self.trained
            seconds = mean * (self.max_trials - number + 1)
            left = f", best so far {max(self.finished.values()):.4f}, about {seconds:.0f} s left"
        logger.info("trial %d of %d%s", number, self.max_trials, left)
        tables = recipe_tables(proposed)
        for key in self.recipe.search:
            table, _, field = key.partition(".")
            logger.info("  %s = %s", key, tables[table][field])


def _raise_recorded_failure(folder: RunFolder) -> None:
    """Raise FailedTrialError if a trial has failed before: the same recipe would fail again."""
    if failure := folder.read_if_there(Failure):
        raise keras_tuner.errors.FailedTrialError(failure.reason)
