"""The trials of a search: each is a run in a folder of its own, trained by a worker."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import recipe_toml
from cifar_models.errors import RequestError, RunError
from cifar_models.evaluation.validation_accuracy import accuracy_after
from cifar_models.runtime.signals import obey_stop
from cifar_models.runtime.text import duration_in_words
from cifar_models.storage.atomic_files import WriteError
from cifar_models.storage.records import Failure, RunMetrics
from cifar_models.storage.run_folder import RunFolder
from cifar_models.sweeps.budget import BudgetSpent, SearchBudget
from cifar_models.sweeps.data_hashes import DataHashes
from cifar_models.sweeps.search_space import values_in_words
from cifar_models.sweeps.trial_folder import (
    RESUME,
    make_trial_folder,
    record_failure,
    refuse_other_trial,
)
from cifar_models.workers.job import Ended, Job, JobResult, MayBegin, Pool

logger = logging.getLogger("cifar_models")


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
        is_on_cluster: Whether other machines train trials.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        pool: Pool,
        budget: SearchBudget,
        force: bool,
        is_on_cluster: bool = False,
    ):
        self.recipe = recipe
        self.out = out
        self.pool = pool
        self.budget = budget
        self.force = force
        self.max_failures = 3  # in a row, with which the search ends; 0: any number
        self.finished: dict[str, float] = {}  # name of the folder → validation accuracy
        self.failed: dict[str, str] = {}  # name of the folder → reason
        self._is_on_cluster = is_on_cluster
        self._hashes = DataHashes()
        self._failures = 0  # in a row
        self._own: set[int] = set()  # numbers whose folders are known to be of this search
        self._same: dict[str, int] = {}  # recipe, TOML → number of its first trial
        # (number, epochs) → accuracy after the epochs, None of a trial that has failed
        self._accuracies: dict[tuple[int, int], float | None] = {}

    def folder(self, number: int) -> RunFolder:
        """Return the run folder of a trial."""
        return RunFolder(self.out / "trials" / f"{number:04d}")

    def accuracies(self, trials: Sequence[Trial], epochs: int = 0) -> list[float | None]:
        """Return the validation accuracy of trials, and train those that are missing.

        They are trained in their order, as many at once as there are workers.

        Args:
            trials: The trials.
            epochs: Number of epochs after which they are compared. 0: at their end.

        Returns:
            The accuracies, in the order of the trials. None of one that has failed.

        Raises:
            RequestError: A folder holds another trial or a trial on other data, or memory is too
                small for the first trial.
            RunError: The next trial would fail too, such as on a full disk, or `max_failures`
                trials in a row have failed. A trial that has diverged does not count.
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
        if missing:
            self._train(missing, epochs)
        numbers = [self._same[recipe_toml(trial.recipe)] for trial in trials]
        return [self._accuracies[number, epochs] for number in numbers]

    def run(
        self, jobs: Sequence[Job], ended: Ended | None = None, may_begin: MayBegin | None = None
    ) -> list[JobResult]:
        """Do jobs as the pool does, with errors that say how to go on."""
        try:
            return self.pool.run(jobs, ended, may_begin)
        except (RequestError, RunError) as error:
            if RESUME in str(error) or isinstance(error, WriteError):  # see `disk_errors`
                raise
            raise type(error)(f"{error}; then {RESUME}") from error

    def data_sha256(self, recipe: Recipe) -> str:
        """Return the hash that the data must have on another machine; "": there is none."""
        return str(self._hashes.of(recipe)["data_sha256"]) if self._is_on_cluster else ""

    def collect(self) -> None:
        """Take the results of all trials of the folder, whichever process trained them."""
        for path in sorted((self.out / "trials").iterdir()):
            folder = RunFolder(path)
            if folder.is_finished():
                self.finished[path.name] = folder.read(RunMetrics).accuracy
            else:
                self._recorded_failure(folder)

    def _train(self, trials: Sequence[Trial], epochs: int) -> None:
        """Train trials, and note their accuracies. BudgetSpent: not all of them were trained."""
        if not self._may_begin(trials[0], epochs):
            raise BudgetSpent
        jobs = [self._job(trial, epochs) for trial in trials]
        by_path = dict(zip((job.path for job in jobs), trials, strict=True))
        began: dict[Path, float] = {}

        def may_begin(job: Job) -> bool:
            trial = by_path[job.path]
            if not self._may_begin(trial, epochs):
                return False
            began[job.path] = time.monotonic()
            make_trial_folder(self.folder(trial.number), trial.recipe)
            self._own.add(trial.number)
            self._log(trial, epochs)
            return True

        def note(job: Job, result: JobResult) -> None:
            trial, duration = by_path[job.path], time.monotonic() - began[job.path]
            accuracy = self._accepted(trial, result, epochs)
            self._accuracies[trial.number, epochs] = accuracy
            self.budget.save()
            self._count_failures(result)
            if accuracy is not None:
                best = f", best so far {max(self.finished.values()):.4f}" if self.finished else ""
                words = duration_in_words(duration)
                logger.info("trial %d: %.4f in %s%s", trial.number, accuracy, words, best)

        if len(self.run(jobs, note, may_begin)) < len(jobs):
            raise BudgetSpent

    def _may_begin(self, trial: Trial, epochs: int) -> bool:
        """Return whether the budget allows to train a trial for some epochs, 0: to its end."""
        goal = epochs or trial.recipe.training.epochs or 0
        return self.budget.allows(self.folder(trial.number).path.name, trial.recipe, goal)

    def _job(self, trial: Trial, epochs: int) -> Job:
        return Job(
            path=self.folder(trial.number).path.absolute(),
            recipe=recipe_toml(trial.recipe),
            pause_after=epochs,
            force=self.force,
            data_sha256=self.data_sha256(trial.recipe),
        )

    def _recorded(self, trial: Trial, epochs: int) -> tuple[bool, float | None]:
        """Return whether the result of a trial is known, and its accuracy if it has not failed."""
        folder = self.folder(trial.number)
        if not folder.has_begun():
            if folder.holds_recipe(recipe_toml(trial.recipe)):
                return self._recorded_failure(folder), None
            return False, None
        if trial.number not in self._own:
            refuse_other_trial(folder, trial.recipe, self._hashes)
            self._own.add(trial.number)
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
        if result.is_memory and trial.number == 1:
            raise RequestError(f"{result.problem}; then {RESUME}")
        logger.warning("trial %d failed: %s", trial.number, result.problem)
        self.failed[folder.path.name] = result.problem
        record_failure(folder, trial.recipe, result.problem)
        return None

    def _count_failures(self, result: JobResult) -> None:
        """Raise RunError if too many trials in a row have failed."""
        has_failed = result.accuracy is None and not result.has_diverged
        self._failures = self._failures + 1 if has_failed else 0
        if self._failures >= self.max_failures > 0:
            self._failures = 0
            raise RunError(
                f"the search stopped, because {self.max_failures} trials in a row have failed, the "
                f"last one because: {result.problem}"
            )

    def _log(self, trial: Trial, epochs: int) -> None:
        goal = f", {epochs} epochs" if epochs else ""
        values = values_in_words(trial.recipe, self.recipe)
        logger.info("trial %d%s: %s", trial.number, goal, values)
