"""The formats in which a finished run can be exported."""

from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

from cifar_models.errors import RequestError


@dataclass(frozen=True)
class ExportFormat:
    """An export format.

    Attributes:
        export: "module:function" of a function (run: FinishedRun, out: Path, data_dir: str | None)
            → ExportReport, which is imported when it is used. It writes the model to `out`, which
            does not exist, compares it with the network of the run, and leaves nothing if it fails.
        description: One phrase for `export --help`.
    """

    export: str
    description: str


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Attributes:
        path: Path of the exported model.
        largest_difference: Largest difference of any probability from the network of the run.
        images: Number of compared images.
        source: Name of the split that they are from, such as "digits test".
    """

    path: Path
    largest_difference: float
    images: int
    source: str


# Name → format. The first one is the default.
EXPORT_FORMATS: dict[str, ExportFormat] = {
    "saved_model": ExportFormat(
        "cifar_models.serving.saved_model:export_saved_model",
        "TensorFlow SavedModel, from uint8 images to probabilities and class names",
    ),
}


def export(
    path: Path | str, out: Path | str, format: str = "saved_model", data_dir: str | None = None
) -> ExportReport:
    """Export the model of a finished run.

    Args:
        path: Path of a finished run.
        out: Path of the exported model. It must not exist.
        format: Name of the format, a key of EXPORT_FORMATS.
        data_dir: Folder in which TensorFlow Datasets keeps its data. None: as in the recipe.

    Raises:
        RequestError: There is no such format, the run is not finished, or `out` exists.
        RunError: The exported model and the network of the run disagree.
    """
    from cifar_models.run.load import load_run
    from cifar_models.runtime.quiet_tensorflow import import_tensorflow

    if format not in EXPORT_FORMATS:
        raise RequestError(f"format {format!r}: must be one of {', '.join(EXPORT_FORMATS)}")
    run, out = load_run(path), Path(out)
    if out.exists():
        raise RequestError(f"{out}: exists; choose another --out or remove it")
    import_tensorflow()  # before the export function, whose module may import TensorFlow noisily
    return resolve_name(EXPORT_FORMATS[format].export)(run, out, data_dir)
