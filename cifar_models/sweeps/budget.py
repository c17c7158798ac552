"""What a search may spend: seconds and operations of training, earlier processes included."""

import json
import logging
import time
from pathlib import Path

from cifar_models.errors import RequestError
from cifar_models.evaluation.flops import flops_per_image, training_flops
from cifar_models.models.catalog import build_network
from cifar_models.storage.atomic_files import read_json, write_bytes_atomic
from cifar_models.storage.records import DatasetInfo
from cifar_models.storage.run_folder import RunFolder

logger = logging.getLogger("cifar_models")

FILE = "search.json"  # keeps the seconds of earlier processes


class SearchBudget:
    """The budget of a search, from which each process of the search takes.

    The seconds are kept in a file, and the operations follow from the run folders of the trials.

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
        self._began = time.monotonic() - self._seconds_before()
        self._flops_of_one_image: dict[str, int] = {}  # name of the folder → of one forward pass

    def allows_more(self) -> bool:
        """Return whether another trial may begin."""
        seconds = self.save()
        if self._seconds is not None and seconds > self._seconds:
            logger.info("the budget of %g seconds is spent", self._seconds)
            return False
        if self._flops is not None and self.spent_flops() >= self._flops:
            logger.info("the budget of %g FLOPs is spent", self._flops)
            return False
        return True

    def save(self) -> float:
        """Write the seconds that the search has taken so far, and return them."""
        seconds = time.monotonic() - self._began
        write_bytes_atomic(self._out, FILE, (json.dumps({"seconds": seconds}) + "\n").encode())
        return seconds

    def spent_flops(self) -> float:
        """Return the operations of all training steps of the search so far."""
        folders = [RunFolder(path) for path in sorted((self._out / "trials").iterdir())]
        return sum(self._flops_of(folder) for folder in folders)

    def _flops_of(self, folder: RunFolder) -> float:
        epochs, name = folder.num_epochs(), folder.path.name
        if not epochs:
            return 0.0
        dataset = folder.read(DatasetInfo)
        if name not in self._flops_of_one_image:
            network = build_network(
                folder.read_recipe().model, dataset.image_shape, len(dataset.class_names)
            )
            self._flops_of_one_image[name] = flops_per_image(network)
        return training_flops(self._flops_of_one_image[name], dataset.train_images * epochs)

    def _seconds_before(self) -> float:
        if not (self._out / FILE).is_file():
            return 0.0
        seconds = read_json(self._out, FILE).get("seconds")
        if not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
            raise RequestError(f"{self._out / FILE}: cannot be read: no seconds; remove the file")
        return float(seconds)
