"""The model card of an export: README.md for people and model_card.json for programs."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from cifar_models.runtime.text import markdown_escaped, printable
from cifar_models.serving.export_job import ExportJob, ExportReport
from cifar_models.storage.atomic_files import read_json
from cifar_models.storage.field_types import AtLeastOne, Pixels, Positive, Score, ShortText
from cifar_models.storage.records import from_json

JSON_FILE, TEXT_FILE = CARD_FILES = "model_card.json", "README.md"
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """`model_card.json`: what an export is, and what is known about it."""

    name: ShortText
    format: Annotated[str, Meta(max_length=100)]
    precision: Annotated[str, Meta(max_length=100)]
    created: ShortText  # date, UTC
    recipe: ShortText
    architecture: ShortText
    parameters: AtLeastOne
    image_shape: tuple[Pixels, Pixels, AtLeastOne]  # height, width, channels
    resize: Annotated[str, Meta(pattern=r"^(crop|pad|stretch)$")]  # of image files to image_shape
    class_names: Annotated[list[ShortText], Meta(min_length=1)]
    dataset: Annotated[str, Meta(max_length=5000)]
    dataset_sha256: ShortText
    train_images: AtLeastOne
    split: ShortText  # on which the network of the run was measured
    split_images: AtLeastOne  # of this split
    accuracy: Score  # of the network of the run
    accuracy_interval: tuple[float, float]  # 95 %, Wilson
    f1_macro: Score
    temperature: Positive = 1.0  # by which the export divides the logits
    expected_calibration_error: Score  # with this temperature
    compared_images: AtLeastOne
    compared_with: ShortText  # "digits test" or "noise"
    largest_difference: float  # of a probability, from the network of the run
    agreement: Score  # fraction of the compared images with the same class
    commit: str | None  # of this project
    packages: dict[str, str]  # name → version


def write_card(job: ExportJob, report: ExportReport) -> None:
    """Write README.md and model_card.json to the folder of an export.

    README.md starts with the metadata that Hugging Face's hub reads
    (https://huggingface.co/docs/hub/model-cards).
    """
    card = _card(job, report)
    text = json.dumps(asdict(card), indent=1) + "\n"
    (job.out / JSON_FILE).write_text(text)
    (job.out / TEXT_FILE).write_text(_markdown(card, job), encoding="utf-8")


def read_card(folder: Path) -> ModelCard:
    """Return the model card of an export.

    Raises:
        RequestError: The folder is no export, or its card cannot be read.
    """
    return from_json(ModelCard, read_json(folder, JSON_FILE), folder / JSON_FILE)


def _card(job: ExportJob, report: ExportReport) -> ModelCard:
    from scipy import stats

    run, metrics, info = job.run, job.run.metrics, job.run.dataset
    images = info.validation_images if metrics.split == "validation" else info.test_images
    correct = round(metrics.accuracy * images)
    dataset = public_name(info.name)
    scaling = metrics.temperature_scaling if report.temperature != 1 else None
    interval = stats.binomtest(correct, images).proportion_ci(CONFIDENCE, "wilson")
    return ModelCard(
        name=f"{metrics.recipe} on {dataset}",
        format=report.format,
        precision=report.precision,
        created=f"{datetime.now(UTC):%Y-%m-%d}",
        recipe=metrics.recipe,
        architecture=run.recipe.architecture,
        parameters=metrics.parameters,
        image_shape=info.image_shape,
        resize=run.recipe.data.resize,
        class_names=info.class_names,
        dataset=dataset,
        dataset_sha256=info.sha256,
        train_images=info.train_images,
        split=metrics.split,
        split_images=images,
        accuracy=metrics.accuracy,
        accuracy_interval=(float(interval.low), float(interval.high)),
        f1_macro=metrics.f1_macro,
        temperature=report.temperature,
        expected_calibration_error=(scaling or metrics).expected_calibration_error,
        compared_images=report.images,
        compared_with=report.source,
        largest_difference=report.largest_difference,
        agreement=report.agreement,
        commit=run.environment.commit,
        packages=run.environment.packages,
    )


def public_name(dataset: str) -> str:
    """Return the name of a data set without the path of a folder, which is nobody's business."""
    return Path(dataset).name if dataset.startswith("folder:") else dataset


def _markdown(card: ModelCard, job: ExportJob) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cifar_models.serving"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is Markdown; names are escaped by the filter
    )
    environment.filters |= {"text": markdown_escaped, "quoted": _quoted}
    return environment.get_template("README.md.j2").render(
        card=card, per_class=job.run.metrics.per_class
    )


def _quoted(text: str) -> str:
    """Return text in double quotes, as YAML and JSON write it."""
    return json.dumps(printable(text), ensure_ascii=False)
