"""The export of a finished run as a SavedModel, which is compared with the run's network."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cifar_models.errors import RunError
from cifar_models.run.load import FinishedRun
from cifar_models.runtime.signals import obey_stop
from cifar_models.runtime.subprocesses import run_python
from cifar_models.serving.signature import SavedNetwork

TOLERANCE = 1e-5  # largest accepted difference of a float32 probability

# A user's program, which needs TensorFlow and numpy, but not this package.
RELOAD_SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
folder, images, outputs_path = sys.argv[1:]
served = tf.saved_model.load(folder).signatures["serving_default"]
outputs = served(images=tf.constant(np.load(images)))
np.savez(outputs_path, **{name: value.numpy() for name, value in outputs.items()})
"""


def export_saved_model(run: FinishedRun, out: Path, images: np.ndarray) -> float:
    """Write a SavedModel whose `serving_default` signature takes raw images in any batch size.

    It computes in float32, whatever the precision of training was. A new process that knows only
    TensorFlow loads it, and its probabilities are compared with those of the network. Both run on
    the CPU: a GPU rounds float32 products, and it may lack the memory for two processes.

    Args:
        run: The finished run.
        out: Path of the new folder of the SavedModel, within a temporary folder.
        images: Images on which both are compared, uint8 (N, H, W, C).

    Returns:
        The largest difference of any probability.

    Raises:
        RunError: The SavedModel and the network disagree.
    """
    with tf.device("CPU"):
        network = run.load_network()
        expected = keras.ops.softmax(network(images, training=False)).numpy()

    obey_stop()
    served = SavedNetwork(network, run.dataset.class_names)
    tf.saved_model.save(served, str(out), signatures={"serving_default": served.predict})
    obey_stop()
    difference = float(np.abs(_predict_in_new_process(out, images) - expected).max())
    if not difference <= TOLERANCE:  # also true for NaN
        raise RunError(
            f"{run.path}: the export's probabilities differ from the model's by {difference:.2g}, "
            f"more than {TOLERANCE:g}; nothing was written"
        )
    return difference


def _predict_in_new_process(model: Path, images: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, K) of a SavedModel, computed by a process without GPUs."""
    images_path, outputs_path = (model.with_name(name) for name in ("images.npy", "outputs.npz"))
    np.save(images_path, images)
    run_python(
        ["-I", "-c", RELOAD_SCRIPT, str(model), str(images_path), str(outputs_path)],
        failure="nothing was written, because the export could not be read back",
        environment={"CUDA_VISIBLE_DEVICES": "-1"},
    )
    with np.load(outputs_path) as outputs:
        return outputs["probabilities"]
