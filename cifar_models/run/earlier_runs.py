"""Finished runs that a new run builds on: its teacher, and the run whose weights it starts from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cifar_models.config.recipe import Recipe
from cifar_models.data.splits import Splits
from cifar_models.run.load import FinishedRun, load_run
from cifar_models.run.seen_images import warn_of_images_seen_before
from cifar_models.run.teacher import open_teacher
from cifar_models.storage.records import DatasetInfo
from cifar_models.storage.safe_open import open_regular


@dataclass(frozen=True)
class EarlierRuns:
    """The finished runs that a run builds on.

    Attributes:
        teacher: The run whose features it learns to predict, or None.
        start: The run whose weights it starts from, or None.
    """

    teacher: FinishedRun | None
    start: FinishedRun | None

    def hashes(self) -> dict[str, str | None]:
        """Return the hashes of the weights, None for a run that there is not."""
        return {"teacher_sha256": _sha256(self.teacher), "start_sha256": _sha256(self.start)}


def open_earlier_runs(recipe: Recipe, data: DatasetInfo, splits: Splits) -> EarlierRuns:
    """Open the runs that a recipe names.

    Args:
        recipe: Recipe of the new run.
        data: Description of its data.
        splits: Its splits.

    Raises:
        RequestError: A run is not finished, or the teacher cannot teach the recipe.
    """
    start = None
    if recipe.training.start_from:
        start = load_run(Path(recipe.training.start_from))
        warn_of_images_seen_before(start, recipe, data, splits)
    return EarlierRuns(open_teacher(recipe, data, splits), start)


def _sha256(run: FinishedRun | None) -> str | None:
    if run is None:
        return None
    path = run.folder.model_path
    with open_regular(path.parent, path.name) as file:
        return hashlib.sha256(file.read()).hexdigest()
