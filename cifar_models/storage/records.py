"""The JSON files of a run folder, as dataclasses.

A field has a default if the files of earlier versions lack it.
"""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cifar_models.errors import RequestError

# Name in files of earlier versions → current name.
RENAMED_FIELDS = {"test_views": "tta_views"}

AnyRecord = TypeVar("AnyRecord")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """Metrics of one class. The three scores lie in [0, 1]."""

    precision: float  # 0 if the class is never predicted
    recall: float
    f1: float
    images: int  # images of the class


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationMetrics:
    """Metrics of the predictions of one model on one split. Every score lies in [0, 1]."""

    accuracy: float
    loss: float  # cross entropy, nats
    precision_macro: float
    recall_macro: float
    f1_macro: float
    roc_auc_macro: float | None  # one-vs-rest; None if a class has no image in the split
    expected_calibration_error: float
    per_class: dict[str, ClassMetrics]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunMetrics(ClassificationMetrics):
    """`metrics.json`: the result of a finished run."""

    recipe: str
    dataset: str
    split: str  # evaluation split: "test", or "validation" for a trial of a search
    seed: int
    parameters: int
    flops_per_image: int  # of one prediction; includes every TTA view
    tta_views: int = 1
    epochs: int  # trained epochs
    best_epoch: int  # counted from 1
    steps: int
    train_seconds: float  # without compilation; includes validation and checkpoints
    compile_seconds: float
    images_per_second: float  # of the training steps; 0 if only one step was timed
    initialisation_seconds: float | None = None  # of whitening and mimetic initialization
    prediction_seconds: float | None = None  # of the evaluation split, without compilation
    device: str
    precision: str  # Keras dtype policy
    process_seconds: float | None = None  # from the import of this package to this record


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """`dataset.json`: the data that a run was trained and evaluated on."""

    name: str
    image_shape: tuple[int, int, int]  # height, width, channels; pixels
    class_names: list[str]
    train_images: int
    validation_images: int
    test_images: int
    test_images_in_train: int = 0  # test images that equal a training image pixel by pixel
    sha256: str  # of all images and labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Environment:
    """`environment.json`: the machine and the software that a run used."""

    command: str | None = None
    commit: str | None = None  # None outside a git checkout
    device: str | None = None
    cpu_cores: int | None = None
    precision: str = "auto"  # Keras dtype policy
    xla: bool | None = None
    deterministic: bool | None = None
    python: str | None = None
    platform: str | None = None
    packages: dict[str, str] = dataclasses.field(default_factory=dict)  # name → version


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency:
    """Percentiles of the duration of one call, milliseconds."""

    p50: float
    p95: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServingCost:
    """`cost.json`: the serving cost of a finished run, as `benchmark` measures it."""

    latency_ms: dict[str, Latency]  # batch size → latency, pixels to probabilities
    images_per_second: float  # at the largest batch size
    memory_of: str  # measured memory: "gpu" if there is one, otherwise "process"
    peak_memory_bytes: int
    memory_before_bytes: int  # the same peak before the model was built
    model_bytes: int  # size of model.keras
    device: str
    precision: str  # Keras dtype policy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Robustness:
    """`robustness.json`: accuracy on corrupted images and entropy on out-of-distribution inputs."""

    images: int  # test images that were used
    clean_accuracy: float
    accuracy: dict[str, list[float]]  # corruption → accuracy by severity 1 to 5
    mean_corrupted_accuracy: float  # over all corruptions and severities
    # "test", "noise" and "shuffled" → images in each histogram bin; "bins" → bin edges, nats.
    entropy: dict[str, list[float]]
    roc_auc: dict[str, float]  # "noise", "shuffled" → detection by predictive entropy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """`failure.json`: the reason why a trial of a search failed."""

    reason: str


FILE_NAMES: dict[type, str] = {
    RunMetrics: "metrics.json",
    DatasetInfo: "dataset.json",
    Environment: "environment.json",
    ServingCost: "cost.json",
    Robustness: "robustness.json",
    Failure: "failure.json",
}


def to_json(record: Any) -> dict:
    """Return the content of the JSON file of a record."""
    return dataclasses.asdict(record)


def from_json(kind: type[AnyRecord], content: dict, path: Path) -> AnyRecord:
    """Return the record that a JSON file holds. Unknown keys are ignored.

    Args:
        kind: Dataclass of the record.
        content: Content of the file, possibly untrusted.
        path: Path of the file, for the error message.

    Raises:
        RequestError: A key is missing or has a value of another type.
    """
    content = {RENAMED_FIELDS.get(key, key): value for key, value in content.items()}
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
