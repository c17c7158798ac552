"""Run folders with known answers, made without training."""

from pathlib import Path

import numpy as np

from cifar_models.config.recipe_file import read_recipe, recipe_toml
from cifar_models.config.run_identity import fingerprints
from cifar_models.evaluation.metrics import classification_metrics
from cifar_models.storage.run_folder import RunFolder

CLASSES = ("cat", "dog", "eel")


def answers(
    labels: np.ndarray, accuracy: float, rng: np.random.Generator, sureness: float = 0.8
) -> np.ndarray:
    """Probabilities (N, K) that are right in about so many cases, and as sure as said."""
    right = rng.random(len(labels)) < accuracy
    predicted = np.where(right, labels, (labels + rng.integers(1, 3, len(labels))) % 3)
    probabilities = np.full((len(labels), 3), (1 - sureness) / 2)
    probabilities[np.arange(len(labels)), predicted] = sureness
    return probabilities.astype(np.float32)


def make_run(
    path: Path,
    recipe_name: str,
    probabilities: np.ndarray,
    labels: np.ndarray,
    overrides: tuple[str, ...] = (),
    dataset: dict | None = None,
    metrics: dict | None = None,
) -> Path:
    """Writes a finished run whose model gave these answers."""
    recipe = read_recipe(recipe_name, overrides)
    description = {
        "name": "pets",
        "image_shape": [8, 8, 1],
        "class_names": list(CLASSES),
        "train_images": 300,
        "validation_images": 30,
        "test_images": len(labels),
        "sha256": "0" * 64,
        **(dataset or {}),
    }
    folder = RunFolder.create(path)
    folder.write_recipe(recipe_toml(recipe))
    folder.write_environment({"packages": {"keras": "3.15.1"}})
    folder.write_dataset(description)
    folder.write_history(
        [
            {"epoch": epoch, "seconds": 2.0, "validation_accuracy": 0.5 + epoch / 10}
            for epoch in (1, 2, 3)
        ]
    )
    folder.write_predictions(labels, probabilities, CLASSES)
    folder.write_fingerprints(fingerprints(recipe, description, "test"))
    measured = classification_metrics(labels, probabilities, CLASSES)
    folder.write_metrics(
        {
            **{"recipe": recipe.name, "dataset": "pets", "split": "test", "precision": "float32"},
            **{"seed": recipe.runtime.seed, **measured, "parameters": 1000, "device": "CPU"},
            **{"flops_per_image": 10**6, "train_seconds": 60.0, "images_per_second": 500.0},
            **{"epochs": 3, "steps": 300, **(metrics or {})},
        }
    )
    return path
