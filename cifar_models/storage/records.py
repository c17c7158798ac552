"""The JSON files of a run folder, as dataclasses.

A field has a default if the files of earlier versions lack it. The ranges of its type are checked
when a file is read, because the file may be untrusted.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from cifar_models.errors import RequestError
from cifar_models.storage.cost_records import RuntimeCosts, ServingCost
from cifar_models.storage.field_types import (
    MAX_NUMBER,
    AtLeastOne,
    Count,
    Duration,
    FileRemark,
    Pixels,
    Positive,
    Score,
    ShortText,
)

# Name in files of earlier versions → current name.
RENAMED_FIELDS = {"test_views": "tta_views"}

AnyRecord = TypeVar("AnyRecord")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """Metrics of one class. The three scores lie in [0, 1]."""

    precision: Score  # 0 if the class is never predicted
    recall: Score
    f1: Score
    images: Count  # images of the class


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationMetrics:
    """Metrics of the predictions of one model on one split. Every score lies in [0, 1]."""

    accuracy: Score
    loss: Duration  # cross entropy, nats
    precision_macro: Score
    recall_macro: Score
    f1_macro: Score
    roc_auc_macro: Score | None  # one-vs-rest; None if a class has no image in the split
    expected_calibration_error: Score
    per_class: dict[str, ClassMetrics]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TemperatureScaling:
    """Temperature scaling of a run, and its effect on the evaluation split."""

    temperature: Positive  # by which the logits are divided
    validation_images: AtLeastOne  # by which it was fitted
    loss: Duration  # cross entropy on the evaluation split with it, nats
    expected_calibration_error: Score  # on the evaluation split with it


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunMetrics(ClassificationMetrics):
    """`metrics.json`: the result of a finished run."""

    recipe: Annotated[str, Meta(max_length=100)]
    dataset: Annotated[str, Meta(max_length=5000)]  # the path of a folder may be long
    # Evaluation split; "validation" for a trial of a search.
    split: Annotated[str, Meta(pattern=r"^(test|validation)$")]
    seed: Count
    parameters: AtLeastOne
    flops_per_image: AtLeastOne  # of one prediction; includes every TTA view
    tta_views: AtLeastOne = 1
    epochs: AtLeastOne  # trained epochs
    best_epoch: Count  # counted from 1
    steps: AtLeastOne
    batch_size: AtLeastOne | None = None
    # Without compilation; includes validation, checkpoints and the teacher.
    train_seconds: Positive
    teacher_seconds: Duration = 0.0  # training of the teacher and computing its features
    teacher: Annotated[str, Meta(max_length=100)] = ""  # recipe of the teacher, if there is one
    compile_seconds: Duration
    images_per_second: Duration  # of the training steps; 0 if only one step was timed
    initialisation_seconds: Duration | None = None  # of whitening and mimetic initialization
    prediction_seconds: Duration | None = None  # of the evaluation split, without compilation
    device: ShortText
    precision: ShortText  # Keras dtype policy
    process_seconds: Duration | None = None  # from the import of this package to this record
    # None if the run has no validation images, or misclassifies none of them.
    temperature_scaling: TemperatureScaling | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """`dataset.json`: the data that a run was trained and evaluated on."""

    name: Annotated[str, Meta(max_length=5000)]
    image_shape: tuple[Pixels, Pixels, AtLeastOne]  # height, width, channels; pixels
    class_names: Annotated[list[ShortText], Meta(min_length=1)]
    train_images: AtLeastOne
    validation_images: Count
    test_images: AtLeastOne
    test_images_in_train: Count = 0  # test images that equal a training image pixel by pixel
    sha256: ShortText  # of all images and labels
    unusable_files: list[FileRemark] = dataclasses.field(default_factory=list)  # and why


@dataclasses.dataclass(frozen=True, kw_only=True)
class Environment:
    """`environment.json`: the machine and the software that a run used."""

    command: str | None = None
    commit: str | None = None  # None outside a git checkout
    device: str | None = None
    cpu_cores: int | None = None
    precision: str = "auto"  # Keras dtype policy
    xla: bool | None = None
    onednn: bool | None = None  # CPU kernels of oneDNN
    deterministic: bool | None = None
    python: str | None = None
    platform: str | None = None
    packages: dict[str, str] = dataclasses.field(default_factory=dict)  # name → version


@dataclasses.dataclass(frozen=True, kw_only=True)
class Robustness:
    """`robustness.json`: accuracy on corrupted images and entropy on out-of-distribution inputs."""

    images: AtLeastOne  # test images that were used
    clean_accuracy: Score
    # Corruption → accuracy by severity 1 to 5.
    accuracy: Annotated[
        dict[ShortText, Annotated[list[Score], Meta(min_length=5, max_length=5)]],
        Meta(min_length=1, max_length=100),
    ]
    mean_corrupted_accuracy: Score  # over all corruptions and severities
    # "test", "noise" and "shuffled" → images in each histogram bin; "bins" → bin edges, nats.
    entropy: dict[str, Annotated[list[Duration], Meta(min_length=1, max_length=101)]]
    roc_auc: dict[str, Score]  # "noise", "shuffled" → detection by predictive entropy

    def __post_init__(self) -> None:
        edges = self.entropy.get("bins", [])
        for kind in ("test", "noise", "shuffled"):
            counts = self.entropy.get(kind, [])
            if len(counts) + 1 != len(edges) or not sum(counts):
                raise ValueError(f"entropy has no histogram of {kind}")
        if edges != sorted(edges):
            raise ValueError("the edges of the histograms of entropy are not in order")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """`failure.json`: the reason why a trial of a search failed."""

    reason: str


FILE_NAMES: dict[type, str] = {
    RunMetrics: "metrics.json",
    DatasetInfo: "dataset.json",
    Environment: "environment.json",
    ServingCost: "cost.json",
    RuntimeCosts: "runtimes.json",
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
        RequestError: A key is missing or has a value of another type or outside its range, or the
            file holds a number that is not finite.
    """
    content = {RENAMED_FIELDS.get(key, key): value for key, value in content.items()}
    try:
        if problem := _problem(content):
            raise msgspec.ValidationError(problem)
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None


def _problem(content: Any) -> str:
    """Return which number of a JSON file no record holds, or "" if there is none."""
    rest = [content]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest += value.values()
        elif isinstance(value, list):
            rest += value
        elif isinstance(value, float) and not abs(value) <= MAX_NUMBER:  # NaN is not either
            return f"it holds the number {value:g}"
    return ""
