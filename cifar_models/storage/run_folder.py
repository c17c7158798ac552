"""A run folder: the only file that knows the names of the files inside one.

Every file but the log and TensorBoard's events is written under a temporary name, flushed to the
disk and renamed, so that a reader never sees half a file.
"""

import csv
import io
import json
import shlex
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import read_saved_recipe
from cifar_models.errors import RequestError
from cifar_models.storage import atomic_files
from cifar_models.storage.atomic_files import LOCK, PARTIAL, write_atomic, write_bytes_atomic

CHECKPOINTS_KEPT = 2  # the newest, and one to fall back on


@dataclass(frozen=True)
class RunFolder:
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

    def picture_path(self, name: str) -> Path:
        return self.path / "plots" / f"{name}.png"

    @classmethod
    def create(cls, path: Path) -> "RunFolder":
        """Makes an empty folder for a new run.

        Raises:
            RequestError: it holds something already, or cannot be made.
        """
        cls.refuse_if_taken(path)
        folder = cls(path)
        try:
            folder.make_subfolders()
        except OSError as error:
            raise RequestError(f"{path}: cannot be made: {error.strerror}") from None
        return folder

    def make_subfolders(self) -> None:
        for name in ("plots", "checkpoints"):
            (self.path / name).mkdir(parents=True, exist_ok=True)

    @classmethod
    def refuse_if_taken(cls, path: Path) -> None:
        """Raises RequestError where a folder holds a file already.

        What a run leaves that was killed before it wrote anything does not count.
        """
        folder = cls(path)
        if folder.has_begun() and not folder.is_finished():
            raise RequestError(
                f"{path}: holds an unfinished run; go on with it: {folder.resume_command()}"
            )
        files = (inside for inside in path.rglob("*") if not inside.is_dir())
        if any(file.name != LOCK and not file.name.startswith(PARTIAL) for file in files):
            what = "another run" if folder.recipe_path.exists() else "other files"
            raise RequestError(f"{path}: holds {what}; choose another --run or remove it")

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Opens the folder of a finished run.

        Raises:
            RequestError: it is no run folder, the run did not finish, or something in the folder
                leads out of it.
        """
        folder = cls.open_begun(path)
        if not folder.is_finished():
            raise RequestError(
                f"{path}: the run did not finish (it has no metrics.json); go on with it: "
                f"{folder.resume_command()}"
            )
        return folder

    @classmethod
    def open_begun(cls, path: Path) -> "RunFolder":
        """Opens the folder of a run, finished or not; raises as `open` does."""
        folder = cls(path)
        if not folder.recipe_path.is_file():
            raise RequestError(f"{path}: not a run folder (it has no recipe.toml)")
        if not folder.has_begun():
            raise RequestError(
                f"{path}: the run was stopped before it began; remove it and train again"
            )
        for inside in path.rglob("*"):  # a stranger's link would have us write outside
            if inside.is_symlink() or not (inside.is_file() or inside.is_dir()):
                raise RequestError(
                    f"{inside}: neither a file nor a folder; a run folder holds no links: remove it"
                )
        for name in (folder.log_path, path / LOCK):  # these two are not replaced but written to
            if name.is_file() and name.stat().st_nlink > 1:
                raise RequestError(f"{name}: has another name elsewhere (a hard link); copy it")
        return folder

    def has_begun(self) -> bool:
        """The fingerprints are written after all else that a run begins with."""
        return (self.path / "fingerprints.json").is_file() or self.is_finished()

    def is_finished(self) -> bool:
        """The metrics are the last file that a run writes."""
        return (self.path / "metrics.json").is_file()

    def has_ended(self) -> bool:
        """Finished, or failed as a trial of a search."""
        return self.is_finished() or self.read_failure() is not None

    def resume_command(self) -> str:
        return f"python -m cifar_models resume {shlex.quote(str(self.path))}"

    def remove_partial_files(self) -> None:
        """What a process that was killed was writing."""
        for path in self.path.rglob(f"{PARTIAL}*"):
            path.unlink()

    def checkpoint_paths(self) -> list[Path]:
        """The newest first."""
        return sorted((self.path / "checkpoints").glob("step-*.safetensors"), reverse=True)

    def write_checkpoint(self, step: int, content: bytes) -> None:
        write_bytes_atomic(self.path / "checkpoints" / f"step-{step:010d}.safetensors", content)
        for path in self.checkpoint_paths()[CHECKPOINTS_KEPT:]:
            path.unlink()

    def write_recipe(self, toml: str) -> None:
        write_bytes_atomic(self.recipe_path, toml.encode())

    def read_recipe(self) -> Recipe:
        return read_saved_recipe(self.recipe_path)

    def write_environment(self, environment: dict) -> None:
        self._write_json("environment.json", environment)

    def read_environment(self) -> dict:
        return self._read_json("environment.json")

    def write_fingerprints(self, fingerprints: dict) -> None:
        """What `resume` compares, and the sign that the run has begun."""
        self._write_json("fingerprints.json", fingerprints)

    def read_fingerprints(self) -> dict:
        return self._read_json("fingerprints.json")

    def write_dataset(self, description: dict) -> None:
        """What the run was trained on: name, image shape, class names, sizes of the splits."""
        self._write_json("dataset.json", description)

    def read_dataset(self, *keys: str) -> dict:
        return self._read_json("dataset.json", "class_names", "image_shape", *keys)

    def write_metrics(self, metrics: dict) -> None:
        self._write_json("metrics.json", metrics)

    def read_metrics(self, *keys: str) -> dict:
        return self._read_json("metrics.json", *keys)

    def write_cost(self, cost: dict) -> None:
        """What the model costs to serve; a finished run gets it from `benchmark`."""
        self._write_json("cost.json", cost)

    def read_cost(self) -> dict | None:
        """None where nobody measured it."""
        path = self.path / "cost.json"
        return self._read_json(path.name) if path.is_file() else None

    def write_robustness(self, report: dict) -> None:
        """What `robustness.measure_robustness` found."""
        self._write_json("robustness.json", report)

    def read_robustness(self) -> dict | None:
        """None where nobody measured it."""
        path = self.path / "robustness.json"
        return self._read_json(path.name) if path.is_file() else None

    def write_failure(self, reason: str) -> None:
        """Why a trial of a search failed, so that the search need not train it again."""
        self._write_json("failure.json", {"reason": reason})

    def read_failure(self) -> str | None:
        path = self.path / "failure.json"
        return str(self._read_json(path.name, "reason")["reason"]) if path.is_file() else None

    def write_history(self, rows: list[dict]) -> None:
        """One row an epoch, the columns of the first row."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_bytes_atomic(self.path / "history.csv", text.getvalue().encode())

    def read_history(self) -> list[dict[str, float]]:
        with (self.path / "history.csv").open(newline="") as file:
            return [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
            ]

    def write_predictions(
        self, labels: np.ndarray, probabilities: np.ndarray, class_names: tuple[str, ...]
    ) -> None:
        """labels (N,), probabilities (N, K), class names (K,)."""
        content = io.BytesIO()
        np.savez(
            content, labels=labels, probabilities=probabilities, class_names=np.array(class_names)
        )
        write_bytes_atomic(self.predictions_path, content.getvalue())

    def read_predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """labels (N,), probabilities (N, K)."""
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

    def _read_json(self, name: str, *keys: str) -> dict:
        return atomic_files.read_json(self.path / name, *keys)
