"""The export of a finished run, which is compared with the run's network."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.signals import obey_stop
from cifar_models.serving.export_job import ExportJob, ExportReport
from cifar_models.serving.formats import FLOAT32, INT8, find_format
from cifar_models.serving.model_card import public_name, write_card
from cifar_models.serving.temporary_folder import temporary_folder
from cifar_models.storage.disk_errors import disk_errors

if TYPE_CHECKING:
    import numpy as np

    from cifar_models.run.load import FinishedRun

logger = logging.getLogger("cifar_models")

COMPARED_IMAGES = 256  # at most
CALIBRATION_IMAGES = 256  # at most
TOLERANCE = 1e-5  # largest accepted difference of a float32 probability
MIN_AGREEMENT = 0.98  # least accepted agreement of another precision


@dataclass(frozen=True)
class ExportCheck:
    """How an export is compared with the network of its run.

    Attributes:
        dataset: Name of the data set, such as "folder:/new/path". None: as in the recipe.
        data_dir: Folder in which TensorFlow Datasets keeps its data. None: as in the recipe.
        force: Whether to keep a float16 or int8 model that agrees on less than MIN_AGREEMENT.
    """

    dataset: str | None = None
    data_dir: str | None = None
    force: bool = False


def default_out(run: Path, format: str, precision: str, calibrated: bool) -> Path:
    """Return where `export` writes by default: RUN/export, or a longer name for what is chosen."""
    parts = ["export"]
    if (format, precision) != ("saved_model", FLOAT32):
        parts.append(format)
    if precision != FLOAT32:
        parts.append(precision)
    if calibrated:
        parts.append("calibrated")
    return run / "-".join(parts)


def export(
    path: Path | str,
    out: Path | str | None = None,
    format: str = "saved_model",
    precision: str = FLOAT32,
    calibrated: bool = False,
    check: ExportCheck = ExportCheck(),
) -> ExportReport:
    """Export the model of a finished run, and compare it with the network of the run.

    They are compared on test images. If the data cannot be loaded, noise is used instead. A new
    process that knows only the runtime of the format reads the export.

    Args:
        path: Path of a finished run.
        out: Folder of the export, which must not exist. None: `default_out`.
        format: Name of the format, a key of EXPORT_FORMATS.
        precision: Precision of the weights, one of the format.
        calibrated: Whether to divide the logits by the temperature in metrics.json.
        check: How it is compared.

    Raises:
        RequestError: There is no such format or precision, or its packages are missing; the run is
            not finished, `out` exists, another process is exporting to it, the given data set
            cannot be loaded, there is none for int8, or the run has no temperature.
        RunError: The exported model and the network of the run disagree, or a file cannot be
            written. Nothing is left in these cases.
    """
    from cifar_models.config.recipe import RuntimeConfig
    from cifar_models.run.load import load_run
    from cifar_models.runtime.device import configure
    from cifar_models.runtime.quiet_tensorflow import import_tensorflow

    chosen, run = find_format(format, precision), load_run(path)
    temperature = _temperature(run) if calibrated else 1.0
    out = Path(out) if out else default_out(run.path, format, precision, calibrated)
    _refuse_if_taken(out)
    import_tensorflow()  # before the export function, whose module may import TensorFlow noisily
    import tensorflow as tf

    from cifar_models.models.temperature import with_temperature

    configure(RuntimeConfig(precision=FLOAT32))
    run.check_network()  # before memory is taken for images of a shape that a file gives
    compared, calibration, source = _images(run, check, precision)
    with disk_errors(out.parent, "repeat the command"), temporary_folder(out) as folder:
        with tf.device("CPU"):  # a GPU rounds float32 products
            network = with_temperature(run.load_network(), temperature)
            job = ExportJob(run, network, folder / out.name, precision, calibration, temperature)
            chosen.write_model(job)
        obey_stop()
        difference, agreement = _compare(job, chosen.read_script, compared)
        _refuse_difference(job, difference, agreement, check.force)
        report = ExportReport(
            out, format, precision, temperature, difference, agreement, len(compared), source
        )
        write_card(job, report)
        obey_stop()
        _move(job.out, out)
    return report


def _temperature(run: "FinishedRun") -> float:
    """Return the temperature of a run, or raise RequestError if it has none."""
    scaling = run.metrics.temperature_scaling
    if scaling is None:
        raise RequestError(
            f"{run.path}: has no temperature in metrics.json, which --calibrated needs; it is "
            "fitted at the end of training if there are misclassified validation images: train "
            "with --set data.validation_fraction=0.1, or leave out --calibrated"
        )
    return scaling.temperature


def _images(
    run: "FinishedRun", check: ExportCheck, precision: str
) -> "tuple[np.ndarray, np.ndarray | None, str]":
    """Return images for the comparison and for calibration, uint8 (N, H, W, C), and what they are.

    The images for the comparison are test images or noise. Those for calibration, which only int8
    needs, are training images.
    """
    import numpy as np

    from cifar_models.data.dataset import data_sha256
    from cifar_models.data.splits import evenly_spaced

    try:
        dataset = run.load_dataset(check.dataset, check.data_dir)
    except (RequestError, RunError) as error:
        if check.dataset:
            raise
        if precision == INT8:
            raise RequestError(
                f"--precision int8: needs training images, which cannot be loaded: {error}"
            ) from None
        logger.warning("the export is compared on noise, because of its data: %s", error)
        shape = COMPARED_IMAGES, *run.dataset.image_shape
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8), None, "noise"
    if data_sha256(dataset) != run.dataset.sha256:
        if check.dataset:
            raise RequestError(
                f"--dataset {check.dataset}: these are not the images that {run.path} was trained "
                "on; give their new place, or leave out --dataset"
            )
        logger.warning("the data of %s have changed since training", run.path)
    test, calibration = dataset.test, None
    compared = test.images_at(evenly_spaced(len(test), COMPARED_IMAGES))
    if precision == INT8:
        train = dataset.splits(run.recipe.data, run.recipe.runtime.seed).train
        calibration = train.images_at(evenly_spaced(len(train), CALIBRATION_IMAGES))
    name = public_name(check.dataset or run.recipe.data.dataset)
    return compared, calibration, f"{name} test"


def _compare(job: ExportJob, read_script: str, images: "np.ndarray") -> tuple[float, float]:
    """Return the largest difference of a probability, and the agreement of the classes."""
    import numpy as np
    import tensorflow as tf

    from cifar_models.evaluation.predictions import predict_images

    job.network.jit_compile = False
    with tf.device("CPU"):
        expected = predict_images(job.network, images)
    found = _predict_in_new_process(job.out, read_script, images)
    agreement = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
    return float(np.abs(found - expected).max()), float(agreement)


def _predict_in_new_process(folder: Path, read_script: str, images: "np.ndarray") -> "np.ndarray":
    """Return the probabilities (N, K) of an export, computed by a process without GPUs."""
    import numpy as np

    from cifar_models.runtime.subprocesses import run_python

    images_path, outputs_path = (folder.with_name(name) for name in ("images.npy", "outputs.npz"))
    np.save(images_path, images)
    run_python(
        ["-I", "-c", read_script, str(folder), str(images_path), str(outputs_path)],
        failure="nothing was written, because the export could not be read back",
        environment={"CUDA_VISIBLE_DEVICES": "-1"},  # this process may use all memory of the GPU
    )
    with np.load(outputs_path) as outputs:
        return outputs["probabilities"]


def _refuse_difference(job: ExportJob, difference: float, agreement: float, force: bool) -> None:
    """Raise RunError if the export is not the network of the run. NaN always is refused."""
    path = job.run.path
    tolerance = TOLERANCE if job.precision == FLOAT32 else 1.0
    if not difference <= tolerance:  # also true for NaN
        raise RunError(
            f"{path}: the export's probabilities differ from the model's by {difference:.2g}, "
            f"more than {tolerance:g}; nothing was written"
        )
    if job.precision != FLOAT32 and agreement < MIN_AGREEMENT and not force:
        raise RunError(
            f"{path}: in {job.precision}, the export gives {agreement:.1%} of the images the class "
            f"that the model gives, less than {MIN_AGREEMENT:.0%}; nothing was written; choose "
            "another --precision, or accept it with --force"
        )


def _move(finished: Path, out: Path) -> None:
    """Give an export its path, which another process may have taken meanwhile."""
    _refuse_if_taken(out)
    try:
        finished.rename(out)
    except OSError:
        _refuse_if_taken(out)
        raise


def _refuse_if_taken(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise RequestError(f"{out}: exists; choose another --out or remove it")
