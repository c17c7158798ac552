"""The run folder. Only this module knows the names of its files.

Every file except the log and TensorBoard's events is written atomically, so that no reader sees an
incomplete file.
"""

import io
import json
import shlex
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import read_saved_recipe
from cifar_models.errors import RequestError
from cifar_models.storage import records
from cifar_models.storage.atomic_files import (
    LOCK,
    PARTIAL,
    read_json,
    write_atomic,
    write_bytes_atomic,
)
from cifar_models.storage.history import history_to_csv, read_history_csv

BEFORE_TRAINING = {"environment.json", "dataset.json", "recipe.toml"}  # in this order
CHECKPOINTS_KEPT = 2  # the newest one, and the one before it in case the newest is damaged

AnyRecord = TypeVar("AnyRecord")


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Args:
        path: Path of the folder.
    """

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

    @classmethod
    def create(cls, path: Path) -> "RunFolder":
        """Create an empty folder for a new run.

        Raises:
            RequestError: The folder holds files, or cannot be created.
        """
        cls.refuse_if_taken(path)
        folder = cls(path)
        try:
            folder.make_subfolders()
        except OSError as error:
            raise RequestError(
                f"{path}: cannot be created: {error.strerror}; choose another --run"
            ) from None
        return folder

    def make_subfolders(self) -> None:
        for name in ("plots", "checkpoints"):
            (self.path / name).mkdir(parents=True, exist_ok=True)

    @classmethod
    def refuse_if_taken(cls, path: Path) -> None:
        """Raise RequestError if a folder holds files.

        A lock file, partial files and the files that precede training are ignored: a run that was
        stopped or killed early leaves them.
        """
        folder = cls(path)
        if folder.has_begun() and not folder.is_finished():
            raise RequestError(
                f"{path}: holds an unfinished run; resume it with: {folder.resume_command()}"
            )
        files = [inside for inside in path.rglob("*") if not inside.is_dir()]
        names = {file.name for file in files if not file.name.startswith(PARTIAL)} - {LOCK}
        # Without environment.json, which is written first, they would be files of the user.
        was_left = "environment.json" in names and names <= BEFORE_TRAINING
        if names and not was_left:
            what = "another run" if folder.recipe_path.exists() else "other files"
            raise RequestError(f"{path}: holds {what}; choose another --run or remove it")

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open the folder of a finished run.

        Raises:
            RequestError: The path is not a run folder, the folder holds a link, or the run is not
                finished.
        """
        folder = cls.open_begun(path)
        if not folder.is_finished():
            raise RequestError(
                f"{path}: the run is not finished (it has no metrics.json); resume it with: "
                f"{folder.resume_command()}"
            )
        return folder

    @classmethod
    def open_begun(cls, path: Path) -> "RunFolder":
        """Open the folder of a run whose training has begun, finished or not.

        Raises:
            RequestError: The path is not such a folder, or the folder holds a link.
        """
        folder = cls(path)
        if not folder.recipe_path.is_file():
            raise RequestError(f"{path}: not a run folder (it has no recipe.toml)")
        if not folder.has_begun():
            raise RequestError(
                f"{path}: the run was stopped before training began; remove it and train again"
            )
        for inside in path.rglob("*"):  # through a link, files outside would be written
            if inside.is_symlink() or not (inside.is_file() or inside.is_dir()):
                raise RequestError(
                    f"{inside}: is a link or a special file, as no run folder holds; remove it"
                )
        for name in (folder.log_path, path / LOCK):  # these two are opened, not replaced
            if name.is_file() and name.stat().st_nlink > 1:
                raise RequestError(
                    f"{name}: is a hard link to a file elsewhere; replace it by a copy"
                )
        return folder

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
        return f"python -m cifar_models resume {shlex.quote(str(self.path))}"

    def remove_partial_files(self) -> None:
        """Remove the files that a killed process was writing."""
        for path in self.path.rglob(f"{PARTIAL}*"):
            path.unlink()

    def checkpoint_paths(self) -> list[Path]:
        """Return the paths of the checkpoints, the newest first."""
        return sorted((self.path / "checkpoints").glob("step-*.safetensors"), reverse=True)

    def write_checkpoint(self, step: int, content: bytes) -> None:
        write_bytes_atomic(self.path / "checkpoints" / f"step-{step:010d}.safetensors", content)
        for path in self.checkpoint_paths()[CHECKPOINTS_KEPT:]:
            path.unlink()

    def write_recipe(self, toml: str) -> None:
        write_bytes_atomic(self.recipe_path, toml.encode())

    def read_recipe(self) -> Recipe:
        return read_saved_recipe(self.recipe_path)

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
        path = self.path / records.FILE_NAMES[kind]
        return records.from_json(kind, read_json(path), path)

    def read_if_there(self, kind: type[AnyRecord]) -> AnyRecord | None:
        """Read a record, or return None if no command has written it yet."""
        return self.read(kind) if self.has(kind) else None

    def write_fingerprints(self, fingerprints: dict) -> None:
        """Write the fingerprints that `resume` compares, which mark that training has begun."""
        self._write_json("fingerprints.json", fingerprints)

    def read_fingerprints(self) -> dict:
        return read_json(self.path / "fingerprints.json")

    def write_history(self, rows: list[dict]) -> None:
        """Write one row for each epoch, with the columns of the first row."""
        write_bytes_atomic(self.path / "history.csv", history_to_csv(rows))

    def read_history(self) -> list[dict[str, float]]:
        """Return one row for each epoch; raise RequestError if the file is missing or damaged."""
        return read_history_csv(self.path / "history.csv")

    def write_predictions(
        self, labels: np.ndarray, probabilities: np.ndarray, class_names: tuple[str, ...]
    ) -> None:
        """Write labels (N,), probabilities (N, K) and class names (K,)."""
        content = io.BytesIO()
        np.savez(
            content, labels=labels, probabilities=probabilities, class_names=np.array(class_names)
        )
        write_bytes_atomic(self.predictions_path, content.getvalue())

    def read_predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (N,) and probabilities (N, K)."""
        if not self.predictions_path.is_file():
            raise RequestError(
                f"{self.path}: has no {self.predictions_path.name}; write it: "
                f"python -m cifar_models evaluate {shlex.quote(str(self.path))}"
            )
        try:
            with np.load(self.predictions_path) as content:
                return content["labels"], content["probabilities"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise RequestError(f"{self.predictions_path}: cannot be read: {error}") from None

    def write_model(self, network) -> None:
        write_atomic(self.model_path, lambda path: network.save(path))

    def _write_json(self, name: str, content: dict) -> None:
        write_bytes_atomic(self.path / name, (json.dumps(content, indent=2) + "\n").encode())
