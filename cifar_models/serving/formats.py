"""The formats in which a finished run can be exported."""

from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name

from cifar_models.errors import RequestError
from cifar_models.runtime.signals import obey_stop
from cifar_models.serving.temporary_folder import temporary_folder
from cifar_models.storage.disk_errors import disk_errors


@dataclass(frozen=True)
class ExportFormat:
    """An export format.

    Attributes:
        export: "module:function" of a function (run: FinishedRun, out: Path, data_dir: str | None)
            → ExportReport, which is imported when it is used. It writes the model to `out`, which
            does not exist, and compares it with the network of the run. `out` lies in a temporary
            folder, where it may write other files too. The model is moved to its place afterwards.
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
        RequestError: There is no such format, the run is not finished, `out` exists, or another
            process is exporting to it.
        RunError: The exported model and the network of the run disagree, or a file cannot be
            written. Nothing is left in these cases.
    """
    from cifar_models.run.load import load_run
    from cifar_models.runtime.quiet_tensorflow import import_tensorflow

    if format not in EXPORT_FORMATS:
        raise RequestError(f"format {format!r}: must be one of {', '.join(EXPORT_FORMATS)}")
    run, out = load_run(path), Path(out)
    _refuse_if_taken(out)
    import_tensorflow()  # before the export function, whose module may import TensorFlow noisily
    write = resolve_name(EXPORT_FORMATS[format].export)
    with disk_errors(out.parent, "repeat the command"), temporary_folder(out) as folder:
        report = write(run, folder / out.name, data_dir)
        obey_stop()
        _refuse_if_taken(out)  # by another process meanwhile
        try:
            report.path.rename(out)
        except OSError:
            _refuse_if_taken(out)
            raise
    return replace(report, path=out)


def _refuse_if_taken(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise RequestError(f"{out}: exists; choose another --out or remove it")
