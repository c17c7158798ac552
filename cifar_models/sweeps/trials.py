"""The trials of a search: each is a run in a folder of its own, trained by a worker."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import recipe_tables, recipe_toml
from cifar_models.config.run_identity import identifying_values, recipe_differences, summarize
from cifar_models.errors import RequestError, RunError
from cifar_models.evaluation.validation_accuracy import accuracy_after
from cifar_models.runtime.signals import obey_stop
from cifar_models.runtime.text import duration_in_words
from cifar_models.storage.disk_errors import disk_errors
from cifar_models.storage.open_run import refuse_if_taken
from cifar_models.storage.records import Failure, RunMetrics
from cifar_models.storage.run_folder import RunFolder
from cifar_models.sweeps.budget import SearchBudget
from cifar_models.workers.job import Job, JobResult, Pool

logger = logging.getLogger("cifar_models")

RESUME = "the same command resumes the search"


class BudgetSpent(Exception):
    """The budget of the search allows no more training."""


@dataclass(frozen=True)
class Trial:
    """A trial of a search.

    Attributes:
        number: Its number, counted from 1.
        recipe: Its recipe.
    """

    number: int
    recipe: Recipe


class Trials:
    """The trials of a search, those of earlier processes included.

    Args:
        recipe: Recipe with a `search` table.
        out: Folder of the search.
        pool: Trains the trials.
        budget: What the search may spend.
        force: Whether to go on if memory seems too small.
        data_sha256: Hash that the data must have where a trial is trained, or "".
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        pool: Pool,
        budget: SearchBudget,
        force: bool,
        data_sha256: str = "",
    ):
        self.recipe = recipe
        self.out = out
        self.pool = pool
        self.budget = budget
        self.force = force
        self.data_sha256 = data_sha256
        self.finished: dict[str, float] = {}  # name of the folder → validation accuracy
        self.failed: dict[str, str] = {}  # name of the folder → reason
        self.trained = 0  # that this process trained
        self._same: dict[str, int] = {}  # recipe, TOML → number of its first trial
        # (number, epochs) → accuracy after the epochs, None of a trial that has failed
        self._accuracies: dict[tuple[int, int], float | None] = {}

    def folder(self, number: int) -> RunFolder:
        """Return the run folder of a trial."""
        return RunFolder(self.out / "trials" / f"{number:04d}")

    def accuracies(self, trials: Sequence[Trial], epochs: int = 0) -> list[float | None]:
        """Return the validation accuracy of trials, and train those that are missing.

        Args:
            trials: The trials.
            epochs: Number of epochs after which they are compared. 0: at their end.

        Returns:
            The accuracies, in the order of the trials. None of one that has failed.

        Raises:
            RequestError: A folder holds another trial, or memory is too small for the first one.
            RunError: The next trial would fail too, such as on a full disk.
            BudgetSpent: A trial is missing, and the budget does not allow to train it.
            Interruption: A signal asked the search to stop.
        """
        obey_stop()
        missing = []
        for trial in trials:
            first = self._same.setdefault(recipe_toml(trial.recipe), trial.number)
            if first != trial.number:
                logger.info("trial %d: is trial %d again", trial.number, first)
                continue
            is_known, accuracy = self._recorded(trial, epochs)
            if is_known:
                self._accuracies[trial.number, epochs] = accuracy
            else:
                missing.append(trial)
        if missing and not self.budget.allows_more():
            raise BudgetSpent
        for trial in missing:
            self._log(trial, epochs)
        began = time.monotonic()
        results = self.run([self._job(trial, epochs) for trial in missing]) if missing else []
        for trial, result in zip(missing, results, strict=True):
            self._accuracies[trial.number, epochs] = self._accepted(trial, result, epochs)
        if missing:
            self.trained += len(missing)
            seconds = duration_in_words(time.monotonic() - began)
            best = f", best so far {max(self.finished.values()):.4f}" if self.finished else ""
            logger.info("%d trained in %s%s", len(missing), seconds, best)
        numbers = [self._same[recipe_toml(trial.recipe)] for trial in trials]
        return [self._accuracies[number, epochs] for number in numbers]

    def run(self, jobs: Sequence[Job]) -> list[JobResult]:
        """Do jobs as the pool does, with errors that say how to go on."""
        try:
            return self.pool.run(jobs)
        except (RequestError, RunError) as error:
            if RESUME in str(error):
                raise
            raise type(error)(f"{error}; then {RESUME}") from error

    def collect(self) -> None:
        """Take the results of all trials of the folder, whichever process trained them."""
        for path in sorted((self.out / "trials").iterdir()):
            folder = RunFolder(path)
            if folder.is_finished():
                self.finished[path.name] = folder.read(RunMetrics).accuracy
            else:
                self._recorded_failure(folder)

    def _job(self, trial: Trial, epochs: int) -> Job:
        folder = self.folder(trial.number)
        if not folder.has_begun():
            try:
                refuse_if_taken(folder.path, recipe_toml(trial.recipe))
            except RequestError:
                raise RequestError(
                    f"{folder.path}: holds files that are not of this search; choose another --out"
                ) from None
            with disk_errors(folder.path, RESUME):
                folder.path.mkdir(exist_ok=True)
        return Job(
            path=folder.path.absolute(),
            recipe=recipe_toml(trial.recipe),
            pause_after=epochs,
            force=self.force,
            data_sha256=self.data_sha256,
        )

    def _recorded(self, trial: Trial, epochs: int) -> tuple[bool, float | None]:
        """Return whether the result of a trial is known, and its accuracy if it has not failed."""
        folder = self.folder(trial.number)
        if not folder.has_begun():
            if folder.holds_recipe(recipe_toml(trial.recipe)):
                return self._recorded_failure(folder), None
            return False, None
        if differences := recipe_differences(
            folder.read_fingerprints(), identifying_values(trial.recipe)
        ):
            raise RequestError(
                f"{folder.path}: is a trial of another search; choose another --out "
                f"({summarize(differences)})"
            )
        if self._recorded_failure(folder):
            return True, None
        if folder.is_finished():
            accuracy = folder.read(RunMetrics).accuracy
            if not epochs:
                self.finished[folder.path.name] = accuracy
            return True, accuracy_after(folder, epochs) if epochs else accuracy
        if epochs and folder.num_epochs() >= epochs:
            return True, accuracy_after(folder, epochs)
        return False, None

    def _recorded_failure(self, folder: RunFolder) -> bool:
        """Return whether a trial has failed before: the same recipe would fail again."""
        failure = folder.read_if_there(Failure)
        if failure:
            self.failed[folder.path.name] = failure.reason
        return failure is not None

    def _accepted(self, trial: Trial, result: JobResult, epochs: int) -> float | None:
        """Record the result of a trial, and return its accuracy, or None if it has failed."""
        folder = self.folder(trial.number)
        if result.accuracy is not None:
            if not epochs:
                self.finished[folder.path.name] = result.accuracy
            return result.accuracy
        if result.is_memory and not self.finished:
            raise RequestError(f"{result.problem}; then {RESUME}")
        logger.warning("trial %d failed: %s", trial.number, result.problem)
        self.failed[folder.path.name] = result.problem
        with disk_errors(folder.path, RESUME):
            if folder.path.is_dir():
                if not folder.has_begun():
                    folder.write_recipe(recipe_toml(trial.recipe))
                folder.write(Failure(reason=result.problem))
        return None

    def _log(self, trial: Trial, epochs: int) -> None:
        tables, values = recipe_tables(trial.recipe), []
        for key in self.recipe.search:
            table, _, field = key.partition(".")
            if tables[table].get(field) is not None:
                values.append(f"{key} = {tables[table][field]}")
        goal = f", {epochs} epochs" if epochs else ""
        logger.info("trial %d%s: %s", trial.number, goal, ", ".join(values))
