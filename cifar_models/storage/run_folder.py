"""The run folder. Only this module knows the names of its files.

Every file except the log and TensorBoard's events is written atomically, so that no reader sees an
incomplete file. A folder may be untrusted: no link in it is followed.
"""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from cifar_models.config.paths import as_argument
from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import parse_saved_recipe
from cifar_models.errors import RequestError
from cifar_models.storage import npz_files, records
from cifar_models.storage.atomic_files import (
    read_json,
    write_atomic,
    write_bytes_atomic,
)
from cifar_models.storage.history import history_from_csv, history_to_csv
from cifar_models.storage.partial_files import CHECKPOINT, remove_partial_files
from cifar_models.storage.safe_open import read_bytes

CHECKPOINTS_KEPT = 2  # the newest one, and the one before it in case the newest is damaged
MAX_TEXT_BYTES = 10_000_000  # of the recipe, and of the history, which grows with the epochs

AnyRecord = TypeVar("AnyRecord")


@dataclass(frozen=True)
class RunFolder:
    """The files of one run, in the folder at `path`."""

    path: Path

    @property
    def recipe_path(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def model_path(self) -> Path:
        return self.path / "model.keras"

    @property
    def log_path(self) -> Path:
        return self.path / "log.txt"

    @property
    def predictions_path(self) -> Path:
        return self.path / "predictions.npz"

    @property
    def tensorboard_path(self) -> Path:
        return self.path / "tensorboard"

    def figure_path(self, name: str) -> Path:
        return self.path / "plots" / f"{name}.png"

    def make_subfolders(self) -> None:
        for name in ("plots", "checkpoints"):
            (self.path / name).mkdir(parents=True, exist_ok=True)

    def has_begun(self) -> bool:
        """Return whether training has begun. The fingerprints are written last before it."""
        return (self.path / "fingerprints.json").is_file() or self.is_finished()

    def is_finished(self) -> bool:
        """Return whether the run is finished. The metrics complete it."""
        return self.has(records.RunMetrics)

    def has_ended(self) -> bool:
        """Return whether the run is finished, or failed as a trial of a search."""
        return self.is_finished() or self.has(records.Failure)

    def resume_command(self) -> str:
        return f"python -m cifar_models resume {shlex.quote(as_argument(self.path))}"

    def remove_partial_files(self) -> None:
        """Remove the files that a killed process was writing."""
        remove_partial_files(self.path)

    def checkpoint_paths(self) -> list[Path]:
        """Return the paths of the checkpoints, the newest first. Files of other names are not."""
        paths = (self.path / "checkpoints").glob("step-*.safetensors")
        found = [path for path in paths if CHECKPOINT.fullmatch(path.name) and path.is_file()]
        return sorted(found, reverse=True)

    def write_checkpoint(self, step: int, content: bytes) -> None:
        """Write a checkpoint, and remove all but one of the checkpoints before it.

        Those of later steps stay. They are damaged, because the run continues from an earlier one.
        """
        name = f"step-{step:010d}.safetensors"
        write_bytes_atomic(self.path, f"checkpoints/{name}", content)
        older = [path for path in self.checkpoint_paths() if path.name <= name]
        for path in older[CHECKPOINTS_KEPT:]:
            path.unlink()

    def read_checkpoint(self, path: Path, max_bytes: int) -> bytes:
        """Return the content of a checkpoint.

        Args:
            path: One of `checkpoint_paths`.
            max_bytes: Size above which the file cannot belong to this run.

        Raises:
            OSError, ValueError: As `read_bytes`.
        """
        return read_bytes(self.path, f"checkpoints/{path.name}", max_bytes)

    def write_recipe(self, toml: str) -> None:
        write_bytes_atomic(self.path, "recipe.toml", toml.encode())

    def holds_recipe(self, toml: str) -> bool:
        """Return whether the folder holds exactly this recipe."""
        try:
            return read_bytes(self.path, "recipe.toml", MAX_TEXT_BYTES) == toml.encode()
        except (OSError, ValueError):
            return False

    def read_recipe(self) -> Recipe:
        return parse_saved_recipe(self._read_text("recipe.toml"), self.recipe_path)

    def write(self, record: object) -> None:
        """Write one of the records of `storage/records.py`."""
        self._write_json(records.FILE_NAMES[type(record)], records.to_json(record))

    def has(self, kind: type) -> bool:
        return (self.path / records.FILE_NAMES[kind]).is_file()

    def read(self, kind: type[AnyRecord]) -> AnyRecord:
        """Read one of the records of `storage/records.py`.

        Raises:
            RequestError: The file is missing or damaged.
        """
        name = records.FILE_NAMES[kind]
        return records.from_json(kind, read_json(self.path, name), self.path / name)

    def read_if_there(self, kind: type[AnyRecord]) -> AnyRecord | None:
        """Read a record, or return None if no command has written it yet."""
        return self.read(kind) if self.has(kind) else None

    def write_fingerprints(self, fingerprints: dict) -> None:
        """Write the fingerprints that `resume` compares, which mark that training has begun."""
        self._write_json("fingerprints.json", fingerprints)

    def read_fingerprints(self) -> dict:
        """Return the fingerprints; raise RequestError if the file is missing or damaged."""
        content = read_json(self.path, "fingerprints.json")
        recipe = content.get("recipe", {})
        if not isinstance(recipe, dict) or isinstance(
            recipe.get("model.architecture"), list | dict
        ):
            raise RequestError(f"{self.path / 'fingerprints.json'}: cannot be read: no recipe")
        return content

    def write_history(self, rows: list[dict]) -> None:
        """Write one row for each epoch, with the columns of the first row."""
        write_bytes_atomic(self.path, "history.csv", history_to_csv(rows))

    def read_history(self) -> list[dict[str, float]]:
        """Return one row for each epoch; raise RequestError if the file is missing or damaged."""
        return history_from_csv(self._read_text("history.csv"), self.path / "history.csv")

    def num_epochs(self) -> int:
        """Return the number of epochs in the history, 0 if there is none."""
        return len(self.read_history()) if (self.path / "history.csv").is_file() else 0

    def write_predictions(
        self, labels: np.ndarray, probabilities: np.ndarray, class_names: tuple[str, ...]
    ) -> None:
        """Write labels (N,), probabilities (N, K) and class names (K,)."""
        content = npz_files.encode_predictions(labels, probabilities, class_names)
        write_bytes_atomic(self.path, "predictions.npz", content)

    def read_predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (N,) and probabilities (N, K).

        Raises:
            RequestError: The file is missing or damaged, or does not fit dataset.json.
        """
        evaluate = f"python -m cifar_models evaluate {shlex.quote(as_argument(self.path))}"
        if not self.predictions_path.is_file():
            raise RequestError(f"{self.path}: has no predictions.npz; write it: {evaluate}")
        dataset = self.read(records.DatasetInfo)
        num_images = {dataset.test_images, dataset.validation_images}
        num_classes = len(dataset.class_names)
        try:
            max_bytes = npz_files.max_predictions_bytes(max(num_images), num_classes)
            content = read_bytes(self.path, "predictions.npz", max_bytes)
            return npz_files.decode_predictions(content, num_images, num_classes)
        except (OSError, ValueError) as error:
            raise RequestError(
                f"{self.predictions_path}: {error}; remove the file and write it again: {evaluate}"
            ) from None

    def write_training_hashes(self, hashes: np.ndarray) -> None:
        """Write a hash of each training image, uint64 (N,)."""
        write_bytes_atomic(self.path, "hashes.npz", npz_files.encode_hashes(hashes))

    def read_training_hashes(self) -> np.ndarray | None:
        """Return the hashes of the training images, uint64 (N,), or None of an earlier version.

        Raises:
            RequestError: The file is damaged, or does not fit dataset.json.
        """
        path, num_images = self.path / "hashes.npz", self.read(records.DatasetInfo).train_images
        if not path.is_file():
            return None
        try:
            content = read_bytes(self.path, path.name, npz_files.max_hashes_bytes(num_images))
            return npz_files.decode_hashes(content, num_images)
        except (OSError, ValueError) as error:
            raise RequestError(f"{path}: cannot be read: {error}; remove it") from None

    def write_model(self, network) -> None:
        # The public `network.save` takes only a path, which might lead to a link.
        from keras.src.saving.saving_lib import save_model

        write_atomic(self.path, "model.keras", lambda file: save_model(network, file))

    def write_figure(self, name: str, draw: Callable[[BinaryIO], object]) -> None:
        """Write a figure, which a function draws as PNG into the open file that it is given."""
        write_atomic(self.path, f"plots/{name}.png", draw)

    def _read_text(self, name: str) -> str:
        """Return the content of a text file.

        Raises:
            RequestError: The file is missing, too large, or not UTF-8.
        """
        try:
            return read_bytes(self.path, name, MAX_TEXT_BYTES).decode()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RequestError(f"{self.path / name}: cannot be read: {reason}") from None

    def _write_json(self, name: str, content: dict) -> None:
        write_bytes_atomic(self.path, name, (json.dumps(content, indent=2) + "\n").encode())
