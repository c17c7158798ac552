"""A run folder: the only file that knows the names of the files inside one.

Every file is written under a temporary name, flushed to the disk and renamed, so that a reader
never sees half a file.
"""

import csv
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifar_models.errors import RequestError


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
    def tensorboard_path(self) -> Path:
        return self.path / "tensorboard"

    @property
    def curves_path(self) -> Path:
        return self.path / "plots" / "curves.png"

    @property
    def confusion_matrix_path(self) -> Path:
        return self.path / "plots" / "confusion_matrix.png"

    @property
    def first_layer_path(self) -> Path:
        return self.path / "plots" / "first_layer.png"

    @property
    def sample_predictions_path(self) -> Path:
        return self.path / "plots" / "sample_predictions.png"

    @classmethod
    def create(cls, path: Path) -> "RunFolder":
        """Makes an empty folder for a new run.

        Raises:
            RequestError: it holds something already, or cannot be made.
        """
        cls.refuse_if_taken(path)
        try:
            (path / "plots").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"{path}: cannot be made: {error.strerror}") from None
        return cls(path)

    @staticmethod
    def refuse_if_taken(path: Path) -> None:
        """Raises RequestError where a folder holds something already."""
        if path.is_dir() and any(path.iterdir()):
            what = "another run" if (path / "recipe.toml").exists() else "other files"
            raise RequestError(f"{path}: holds {what}; choose another --run or remove it")

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Opens the folder of a finished run.

        Raises:
            RequestError: it is no run folder, or the run did not finish.
        """
        folder = cls(path)
        if not folder.recipe_path.is_file():
            raise RequestError(f"{path}: not a run folder (it has no recipe.toml)")
        if not folder.is_finished():
            raise RequestError(f"{path}: the run did not finish (it has no metrics.json)")
        return folder

    def is_finished(self) -> bool:
        """The metrics are the last file that a run writes."""
        return (self.path / "metrics.json").is_file()

    def write_recipe(self, toml: str) -> None:
        self._write(self.recipe_path, toml.encode())

    def write_environment(self, environment: dict) -> None:
        self._write_json("environment.json", environment)

    def write_dataset(self, description: dict) -> None:
        """What the run was trained on: name, image shape, class names, sizes of the splits."""
        self._write_json("dataset.json", description)

    def read_dataset(self) -> dict:
        return json.loads((self.path / "dataset.json").read_text())

    def write_metrics(self, metrics: dict) -> None:
        self._write_json("metrics.json", metrics)

    def read_metrics(self) -> dict:
        return json.loads((self.path / "metrics.json").read_text())

    def write_history(self, rows: list[dict]) -> None:
        """One row an epoch, the columns of the first row."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self._write(self.path / "history.csv", text.getvalue().encode())

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
        self._write(self.path / "predictions.npz", content.getvalue())

    def write_model(self, network) -> None:
        self._write_with(self.model_path, lambda path: network.save(path))

    def _write_json(self, name: str, content: dict) -> None:
        self._write(self.path / name, (json.dumps(content, indent=2) + "\n").encode())

    def _write(self, path: Path, content: bytes) -> None:
        self._write_with(path, lambda temporary: temporary.write_bytes(content))

    def _write_with(self, path: Path, write: Callable[[Path], object]) -> None:
        temporary = path.with_name(f".partial-{path.name}")  # Keras insists on the right suffix
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
