"""Hyperparameter search: KerasTuner proposes recipes, and each trial is a run.

The state of a search is in its run folders. In a resumed search, KerasTuner proposes the same
trials again from the same seed, and the results of finished trials are read from their folders.
Therefore, a kill costs at most the progress of one trial since its last checkpoint.
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
from cifar_models.runtime.signals import Interruption, obey_stop
from cifar_models.storage.atomic_files import FolderInUse, WriteError, locked, write_bytes_atomic
from cifar_models.storage.disk_errors import disk_errors
from cifar_models.storage.records import Failure, RunMetrics
from cifar_models.storage.run_folder import RunFolder
from cifar_models.sweeps.search_space import search_space, suggest

logger = logging.getLogger("cifar_models")

TUNED_SUFFIX = "-tuned"  # of the name of the best recipe
RESUME = "the same command resumes the search"
OBJECTIVE = keras_tuner.Objective("validation_accuracy", "max")


# KerasTuner treats every exception as a failed trial, except a FatalError, which ends the search.
class _BudgetSpent(keras_tuner.errors.FatalError):
    pass


class _OtherSearch(keras_tuner.errors.FatalError):
    pass


class _CannotContinue(keras_tuner.errors.FatalError):
    pass


class RecipeTuner(keras_tuner.Tuner):
    """Tuner that trains each trial in its own run folder, and evaluates it on the validation split.

    Args:
        recipe: Recipe with a `search` table.
        max_trials: Number of trials, those of an earlier search in the same folder included.
        out: Folder of the search.
        budget_seconds: Time after which no trial begins, seconds. None: no limit.
    """

    def __init__(self, recipe: Recipe, max_trials: int, out: Path, budget_seconds: float | None):
        self.recipe = recipe
        self.max_trials = max_trials
        self.out = out
        self.budget_seconds = budget_seconds
        self.finished: dict[str, float] = {}  # name of the trial's folder → validation accuracy
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
        super().__init__(oracle, directory=out, project_name="keras_tuner", overwrite=True)

    def run_trial(self, trial, *args, **kwargs):
        number = len(self.oracle.start_order)
        obey_stop()
        try:
            with disk_errors(self.out, RESUME):
                return {OBJECTIVE.name: self._accuracy_of(number, trial.hyperparameters)}
        except (keras_tuner.errors.FatalError, keras_tuner.errors.FailedTrialError):
            raise
        except (WriteError, FolderInUse) as error:  # the next trial would fail too
            raise _CannotContinue(error) from error
        except Exception as error:  # KerasTuner would continue without a message
            obey_stop()  # the error may be what a library made of the stop
            logger.warning("trial %d failed: %s", number, error)
            self._record_failure(self._folder(number), str(error))
            raise keras_tuner.errors.FailedTrialError(str(error)) from error

    def _record_failure(self, folder: RunFolder, reason: str) -> None:
        if not folder.path.is_dir():
            return
        try:
            folder.write(Failure(reason=reason))
        except WriteError as error:
            raise _CannotContinue(error) from error

    def _accuracy_of(self, number: int, hyperparameters: keras_tuner.HyperParameters) -> float:
        """Return the validation accuracy of a trial, and train it if necessary."""
        proposed = dataclasses.replace(suggest(hyperparameters, self.recipe), search={})
        folder = self._folder(number)
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
        shutil.rmtree(folder.path, ignore_errors=True)
        folder.path.mkdir(exist_ok=True)  # an error of the disk ends the search, not the trial
        return train(proposed, folder.path, evaluation_split="validation").accuracy

    def _folder(self, number: int) -> RunFolder:
        return RunFolder(self.out / "trials" / f"{number:04d}")

    def _recorded_accuracy(self, folder: RunFolder, proposed: Recipe) -> float | None:
        """Return the accuracy of a finished trial, or None if it is not finished."""
        if not folder.has_begun():
            return None
        if differences := recipe_differences(
            folder.read_fingerprints(), identifying_values(proposed)
        ):
            raise _OtherSearch(
                f"{folder.path}: is a trial of another search; choose another --out "
                f"({summarize(differences)})"
            )
        if failure := folder.read_if_there(Failure):  # the same recipe would fail again
            raise keras_tuner.errors.FailedTrialError(failure.reason)
        return folder.read(RunMetrics).accuracy if folder.is_finished() else None

    def _stop_if_budget_spent(self) -> None:
        spent = time.monotonic() - self._began
        if self.budget_seconds is not None and spent > self.budget_seconds:
            raise _BudgetSpent(f"the budget of {self.budget_seconds:g} seconds is spent")

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


def tune(
    recipe: Recipe, max_trials: int, out: Path | str, budget_seconds: float | None = None
) -> Path:
    """Search the ranges of a recipe, and write the best recipe. No test image is predicted.

    If the search was stopped, calling this again resumes it.

    Args:
        recipe: Recipe with a `search` table.
        max_trials: Number of trials, earlier ones in the folder included. If the folder holds more
            trials, all of them are used.
        out: Folder of the search. trials/NNNN/ are run folders, best.toml is the best recipe.
        budget_seconds: Time after which no trial begins, seconds. None: no limit.

    Returns:
        The path of best.toml, which `train` accepts unchanged.

    Raises:
        RequestError: The recipe has no validation split, `out` holds anything other than this
            search, or another process uses it.
        RunError: No trial succeeded, or a file cannot be written.
        Interruption: A signal asked the search to stop.
    """
    if not recipe.data.validation_fraction:
        raise RequestError(
            f"{recipe.name}: data.validation_fraction is 0, and a search needs a validation split"
        )
    out = Path(out)
    if out.is_dir() and any(out.iterdir()) and not (out / "trials").is_dir():
        raise RequestError(f"{out}: holds other files; choose another --out")
    with disk_errors(out, RESUME):
        (out / "trials").mkdir(parents=True, exist_ok=True)
        with locked(out):
            ended = sum(folder.has_ended() for folder in map(RunFolder, (out / "trials").iterdir()))
            if ended > max_trials:
                logger.info("%s: holds %d trials already; all of them are used", out, ended)
                max_trials = ended
            tuner = RecipeTuner(recipe, max_trials, out, budget_seconds)
            _run_trials(tuner)
            return _write_best(tuner)


def _run_trials(tuner: RecipeTuner) -> None:
    """Run the search, and translate the errors that end it."""
    try:
        tuner.search()
    except _BudgetSpent as spent:
        logger.info("%s", spent)
    except Interruption as interruption:
        interruption.args = (f"stopped; {RESUME}",)
        raise
    except _OtherSearch as error:
        raise RequestError(str(error)) from None
    except _CannotContinue as error:
        reason = str(error.args[0])
        raise RunError(reason if RESUME in reason else f"{reason}; then {RESUME}") from None
    except RuntimeError as error:  # from KerasTuner: too many failed trials in a row
        raise RunError(f"the search stopped: {str(error).splitlines()[0]}") from None


def _write_best(tuner: RecipeTuner) -> Path:
    """Write the recipe of the best trial, and return the path of the file."""
    recipe, finished, path = tuner.recipe, tuner.finished, tuner.out / "best.toml"
    if not finished:
        raise RunError(f"{tuner.out}: no trial finished; the log gives the reasons")
    best = max(finished, key=finished.__getitem__)
    tuned = with_values(
        RunFolder(tuner.out / "trials" / best).read_recipe(),
        {"training.tuning_trials": recipe.training.tuning_trials + len(finished)},
    )
    # Another name: a comparison or study of both recipes would otherwise list their differences.
    tuned = dataclasses.replace(
        tuned, name=f"{recipe.name.removesuffix(TUNED_SUFFIX)}{TUNED_SUFFIX}"
    )
    head = (
        f"# The best of {len(finished)} trials of {recipe.name} by validation accuracy: "
        f"trial {best}, {finished[best]:.4f}\n"
    )
    write_bytes_atomic(path, (head + recipe_toml(tuned)).encode())
    logger.info("best: trial %s, validation accuracy %.4f; %s", best, finished[best], path)
    return path
