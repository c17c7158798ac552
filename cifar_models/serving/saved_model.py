"""A finished run becomes a SavedModel, read back and compared before anyone relies on it."""

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cifar_models.config.recipe import RuntimeConfig
from cifar_models.data.load import load_dataset_of_run
from cifar_models.data.splits import evenly_spaced
from cifar_models.errors import RequestError, RunError
from cifar_models.run.load import restore_network
from cifar_models.runtime.device import configure
from cifar_models.serving.signature import SavedNetwork
from cifar_models.storage.run_folder import RunFolder

COMPARED_IMAGES = 256
TOLERANCE = 1e-5  # of a float32 probability

# What a user's own program does: TensorFlow, numpy and the folder, nothing of this package.
RELOAD_SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
folder, images, answers = sys.argv[1:]
served = tf.saved_model.load(folder).signatures["serving_default"]
outputs = served(images=tf.constant(np.load(images)))
np.savez(answers, **{name: value.numpy() for name, value in outputs.items()})
"""


@dataclasses.dataclass(frozen=True)
class ExportReport:
    path: Path
    largest_difference: float  # of any probability
    images: int
    source: str  # of the compared images


def export_saved_model(run: Path, out: Path, data_dir: str | None = None) -> ExportReport:
    """Writes a SavedModel whose `serving_default` takes raw images of any batch size.

    It is computed in float32 whatever the training was, read back by a fresh process that knows
    only TensorFlow, and compared with the model on test images: both on the CPU, since a GPU
    rounds its float32 products, and may have no memory left for two processes.

    Args:
        run: a finished run.
        out: the SavedModel's folder; must not exist.
        data_dir: where TFDS keeps the run's data.

    Raises:
        RequestError: no finished run, or `out` exists.
        RunError: the export answers otherwise than the model; nothing is left behind.
    """
    folder = RunFolder.open(run)
    if out.exists():
        raise RequestError(f"{out}: exists; choose another --out or remove it")
    configure(RuntimeConfig(precision="float32"))
    images, source = _test_images(folder, data_dir)
    with tf.device("CPU"):
        network = restore_network(folder)
        expected = keras.ops.softmax(network(images, training=False)).numpy()

    out.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        served = SavedNetwork(network, folder.read_dataset()["class_names"])
        tf.saved_model.save(
            served, str(workshop / "model"), signatures={"serving_default": served.answer}
        )
        difference = np.abs(_read_back(workshop, images) - expected).max()
        if not difference <= TOLERANCE:
            raise RunError(
                f"{out}: the export's probabilities differ from the model's by {difference:.2g}, "
                f"more than {TOLERANCE:g}; nothing was written"
            )
        (workshop / "model").rename(out)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return ExportReport(out, float(difference), len(images), source)


def _test_images(folder: RunFolder, data_dir: str | None) -> tuple[np.ndarray, str]:
    data = folder.read_recipe().data
    images = load_dataset_of_run(data, data_dir).test.images
    return images[evenly_spaced(len(images), COMPARED_IMAGES)], f"{data.dataset} test"


def _read_back(workshop: Path, images: np.ndarray) -> np.ndarray:
    np.save(workshop / "images.npy", images)
    answers = workshop / "answers.npz"
    command = [sys.executable, "-I", "-c", RELOAD_SCRIPT]
    command += [str(workshop / "model"), str(workshop / "images.npy"), str(answers)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunError(f"the export could not be read back: {last}; nothing was written")
    with np.load(answers) as content:
        return content["probabilities"]
