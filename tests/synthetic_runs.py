"""Finished run folders with known predictions, written without training."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cifar_models.config.recipe_file import read_recipe, recipe_toml
from cifar_models.config.run_identity import fingerprints
from cifar_models.evaluation.metrics import classification_metrics
from cifar_models.storage.cost_records import Latency, RuntimeCost, ServingCost
from cifar_models.storage.open_run import create_run_folder
from cifar_models.storage.records import DatasetInfo, Environment, Robustness, RunMetrics

CLASSES = ("cat", "dog", "eel")


def make_predictions(
    labels: np.ndarray, accuracy: float, rng: np.random.Generator, confidence: float = 0.8
) -> np.ndarray:
    """Return probabilities (N, 3) with about this accuracy and exactly this confidence."""
    is_correct = rng.random(len(labels)) < accuracy
    predicted = np.where(is_correct, labels, (labels + rng.integers(1, 3, len(labels))) % 3)
    probabilities = np.full((len(labels), 3), (1 - confidence) / 2)
    probabilities[np.arange(len(labels)), predicted] = confidence
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
    """Write a finished run whose network made these predictions.

    Args:
        path: Path of the run folder.
        recipe_name: Name of the recipe.
        probabilities: Predicted probabilities (N, 3).
        labels: Labels (N,).
        overrides: Overrides of the recipe, "table.key=value".
        dataset: Fields of `DatasetInfo` to replace.
        metrics: Fields of `RunMetrics` to replace.
    """
    recipe = read_recipe(recipe_name, overrides)
    info = DatasetInfo(
        name="pets",
        image_shape=(8, 8, 1),
        class_names=list(CLASSES),
        train_images=300,
        validation_images=30,
        test_images=len(labels),
        sha256="0" * 64,
    )
    info = replace(info, **(dataset or {}))
    class_names = tuple(info.class_names)
    record = RunMetrics(
        **vars(classification_metrics(labels, probabilities, class_names)),
        recipe=recipe.name,
        dataset=info.name,
        split="test",
        seed=recipe.runtime.seed,
        parameters=1000,
        flops_per_image=10**6,
        epochs=3,
        best_epoch=3,
        steps=300,
        train_seconds=60.0,
        compile_seconds=5.0,
        images_per_second=500.0,
        device="CPU",
        precision="float32",
    )
    folder = create_run_folder(path)
    folder.write_recipe(recipe_toml(recipe))
    folder.write(Environment(precision="float32", packages={"keras": "3.15.1"}))
    folder.write(info)
    folder.write_history(
        [
            {"epoch": epoch, "seconds": 2.0, "validation_accuracy": 0.5 + epoch / 10}
            for epoch in (1, 2, 3)
        ]
    )
    folder.write_predictions(labels, probabilities, class_names)
    folder.write_fingerprints(fingerprints(recipe, info.class_names, info.sha256, "test"))
    folder.write(replace(record, **(metrics or {})))
    return path


def make_cost() -> ServingCost:
    """Return the serving cost of a run: 1.5 ms at the median for either batch size."""
    return ServingCost(
        latency_ms={batch: Latency(p50=1.5, p95=2.5) for batch in ("1", "128")},
        images_per_second=80_000.0,
        memory_of="process",
        peak_memory_bytes=400_000_000,
        memory_before_bytes=300_000_000,
        model_bytes=2_000_000,
        device="CPU",
        precision="float32",
    )


def make_runtime_cost(latency: float, accuracy: float | None) -> RuntimeCost:
    """Return the cost of a run in one runtime, with the median latency of an image in ms."""
    return RuntimeCost(
        latency_ms={
            size: Latency(p50=latency, p95=2 * latency, p99=3 * latency) for size in ("1", "8")
        },
        images_per_second=80_000.0,
        startup_seconds=1.0,
        peak_memory_bytes=400_000_000,
        memory_before_bytes=300_000_000,
        model_bytes=2_000_000,
        device="CPU",
        precision="float32",
        accuracy=accuracy,
    )


def make_robustness(mean_corrupted_accuracy: float) -> Robustness:
    """Return the robustness of a run to two corruptions."""
    return Robustness(
        images=1200,
        clean_accuracy=0.8,
        accuracy={"fog": [0.7, 0.6, 0.5, 0.4, 0.3], "snow": [0.5] * 5},
        mean_corrupted_accuracy=mean_corrupted_accuracy,
        entropy={"test": [9, 1], "noise": [2, 8], "shuffled": [5, 5], "bins": [0.0, 0.55, 1.1]},
        roc_auc={"noise": 0.9, "shuffled": 0.7},
    )
