"""The formats in which a finished run can be exported."""

import logging
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.signals import obey_stop
from cifar_models.serving.temporary_folder import temporary_folder
from cifar_models.storage.disk_errors import disk_errors

if TYPE_CHECKING:
    import numpy as np

    from cifar_models.run.load import FinishedRun

logger = logging.getLogger("cifar_models")

COMPARED_IMAGES = 256  # at most


@dataclass(frozen=True)
class ExportFormat:
    """An export format.

    Attributes:
        export: "module:function" of a function (run: FinishedRun, out: Path, images: np.ndarray)
            → float, which is imported when it is used. It writes the model to `out`, which does
            not exist, and returns the largest difference of a probability from the network of the
            run on the images, uint8 (N, H, W, C). `out` lies in a temporary folder, where it may
            write other files too. The model is moved to its place afterwards.
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
        source: What they are, such as "digits test" or "noise".
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
    path: Path | str,
    out: Path | str,
    format: str = "saved_model",
    data_dir: str | None = None,
    dataset_name: str | None = None,
) -> ExportReport:
    """Export the model of a finished run, and compare it with the network of the run.

    They are compared on test images. If the data cannot be loaded, noise is used instead.

    Args:
        path: Path of a finished run.
        out: Path of the exported model. It must not exist.
        format: Name of the format, a key of EXPORT_FORMATS.
        data_dir: Folder in which TensorFlow Datasets keeps its data. None: as in the recipe.
        dataset_name: Name of the data set, if its folder has been moved. None: as in the recipe.

    Raises:
        RequestError: There is no such format, the run is not finished, `out` exists, another
            process is exporting to it, or the given data set cannot be loaded.
        RunError: The exported model and the network of the run disagree, or a file cannot be
            written. Nothing is left in these cases.
    """
    from cifar_models.config.recipe import RuntimeConfig
    from cifar_models.run.load import load_run
    from cifar_models.runtime.device import configure
    from cifar_models.runtime.quiet_tensorflow import import_tensorflow

    if format not in EXPORT_FORMATS:
        raise RequestError(f"format {format!r}: must be one of {', '.join(EXPORT_FORMATS)}")
    run, out = load_run(path), Path(out)
    _refuse_if_taken(out)
    import_tensorflow()  # before the export function, whose module may import TensorFlow noisily
    write = resolve_name(EXPORT_FORMATS[format].export)
    configure(RuntimeConfig(precision="float32"))
    run.check_network()  # before memory is taken for images of a shape that a file gives
    images, source = _comparison_images(run, data_dir, dataset_name)
    with disk_errors(out.parent, "repeat the command"), temporary_folder(out) as folder:
        difference = write(run, folder / out.name, images)
        obey_stop()
        _refuse_if_taken(out)  # by another process meanwhile
        try:
            (folder / out.name).rename(out)
        except OSError:
            _refuse_if_taken(out)
            raise
    return ExportReport(out, difference, len(images), source)


def _comparison_images(
    run: "FinishedRun", data_dir: str | None, dataset_name: str | None
) -> tuple["np.ndarray", str]:
    """Return images on which an export is compared, uint8 (N, H, W, C), and what they are."""
    import numpy as np

    from cifar_models.data.splits import evenly_spaced

    try:
        test = run.load_dataset(dataset_name, data_dir).test
    except (RequestError, RunError) as error:
        if dataset_name:
            raise
        logger.warning("the export is compared on noise, because of its data: %s", error)
        shape = COMPARED_IMAGES, *run.dataset.image_shape
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8), "noise"
    images = test.images_at(evenly_spaced(len(test), COMPARED_IMAGES))
    return images, f"{dataset_name or run.recipe.data.dataset} test"


def _refuse_if_taken(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise RequestError(f"{out}: exists; choose another --out or remove it")
