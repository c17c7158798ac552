"""What a search may spend: seconds and operations of training, earlier processes included."""

import json
import logging
import time
from pathlib import Path

from cifar_models.config.recipe import Recipe
from cifar_models.errors import RequestError
from cifar_models.evaluation.flops import flops_per_image, training_flops
from cifar_models.models.catalog import build_network
from cifar_models.storage.atomic_files import read_json, write_bytes_atomic
from cifar_models.storage.records import DatasetInfo
from cifar_models.storage.run_folder import RunFolder

logger = logging.getLogger("cifar_models")

FILE = "search.json"  # keeps the seconds of earlier processes, and which trials might begin


class BudgetSpent(Exception):
    """The budget of a search allows no more training."""


class SearchBudget:
    """The budget of a search, from which each process of the search takes.

    A trial that has been allowed to begin may always go on, so that a search that was stopped ends
    with the trials of one that was not.

    Args:
        out: Folder of the search.
        seconds: Time after which no trial begins, seconds. None: no limit.
        flops: Floating-point operations of training after which no trial begins. None: no limit.

    Raises:
        RequestError: The file is damaged.
    """

    def __init__(self, out: Path, seconds: float | None, flops: float | None):
        self._out = out
        self._seconds = seconds
        self._flops = flops
        earlier, self._allowed = _read(out)  # name of the folder → epochs that it may train
        self._began = time.monotonic() - earlier
        self._recipes: dict[str, Recipe] = {}  # of trials that this process has allowed
        self._flops_of_one_image: dict[str, int] = {}  # name of the folder → of one forward pass

    def allows(self, name: str, recipe: Recipe, epochs: int) -> bool:
        """Return whether a trial may be trained, and note that it may.

        Args:
            name: Name of its folder.
            recipe: Its recipe.
            epochs: Number of epochs after which it pauses or ends. 0: not known.
        """
        self._recipes[name] = recipe
        if self._allowed.get(name, -1) >= epochs:
            return True
        if self._seconds is not None and self.save() > self._seconds:
            logger.info("the budget of %g seconds is spent", self._seconds)
            return False
        if self._flops is not None and self.spent_flops() >= self._flops:
            logger.info("the budget of %g FLOPs is spent", self._flops)
            return False
        self._allowed[name] = epochs
        self.save()
        return True

    def save(self) -> float:
        """Write what the search has taken so far, and return its seconds."""
        seconds = time.monotonic() - self._began
        content = {"seconds": seconds, "allowed_epochs": self._allowed}
        write_bytes_atomic(self._out, FILE, (json.dumps(content) + "\n").encode())
        return seconds

    def spent_flops(self) -> float:
        """Return the operations of the training steps of all trials.

        A trial in training counts as if it had reached its pause or end, so that the time at which
        this is asked does not matter.
        """
        folders = [RunFolder(path) for path in sorted((self._out / "trials").iterdir())]
        described = [folder for folder in folders if folder.has(DatasetInfo)]
        # The folder of a trial that is about to begin lacks the description of the data.
        return sum(self._flops_of(folder, described[0]) for folder in folders if described)

    def _flops_of(self, folder: RunFolder, described: RunFolder) -> float:
        epochs, name = folder.num_epochs(), folder.path.name
        if not folder.has_ended():
            epochs = max(epochs, self._allowed.get(name, 0))
        if not epochs:
            return 0.0
        dataset = (folder if folder.has(DatasetInfo) else described).read(DatasetInfo)
        if name not in self._flops_of_one_image:
            recipe = self._recipes.get(name) or folder.read_recipe()
            network = build_network(recipe.model, dataset.image_shape, len(dataset.class_names))
            self._flops_of_one_image[name] = flops_per_image(network)
        return training_flops(self._flops_of_one_image[name], dataset.train_images * epochs)


def _read(out: Path) -> tuple[float, dict[str, int]]:
    """Return the seconds and the allowed epochs that earlier processes have recorded."""
    if not (out / FILE).is_file():
        return 0.0, {}
    content = read_json(out, FILE)
    seconds, allowed = content.get("seconds"), content.get("allowed_epochs", {})
    if not isinstance(allowed, dict) or not all(isinstance(n, int) for n in allowed.values()):
        raise RequestError(f"{out / FILE}: cannot be read: no epochs; remove the file")
    if not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        raise RequestError(f"{out / FILE}: cannot be read: no seconds; remove the file")
    return float(seconds), allowed
