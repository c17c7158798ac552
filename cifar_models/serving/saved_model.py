"""SavedModel exports."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cifar_models.models.temperature import with_temperature
from cifar_models.serving.export_job import ExportJob
from cifar_models.serving.formats import BFLOAT16
from cifar_models.serving.signature import SavedNetwork

CLASS_NAMES_FILE = "class_names.json"

# A user's program, which needs TensorFlow and numpy, but not this package.
READ_SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
folder, images, outputs_path = sys.argv[1:]
served = tf.saved_model.load(folder).signatures["serving_default"]
outputs = served(images=tf.constant(np.load(images)))
np.savez(outputs_path, probabilities=outputs["probabilities"].numpy())
"""


def write_model(job: ExportJob) -> None:
    """Write a SavedModel, whose signatures `SavedNetwork` describes.

    In bfloat16, it computes as a training in mixed_bfloat16 does, with float32 weights.

    The names of the classes are also in assets.extra/, the place of files that programs add to a
    SavedModel.
    """
    names = job.run.dataset.class_names
    network = _in_bfloat16(job) if job.precision == BFLOAT16 else job.network
    served = SavedNetwork(network, names, job.run.recipe.data.resize)
    tf.saved_model.save(served, str(job.out), signatures=served.by_signature)
    assets = job.out / "assets.extra"
    assets.mkdir()
    (assets / CLASS_NAMES_FILE).write_text(json.dumps(names))


def _in_bfloat16(job: ExportJob) -> keras.Model:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return with_temperature(job.run.load_network(), job.temperature)
    finally:
        keras.config.set_dtype_policy(policy)


def load_model(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from images, uint8 (B, H, W, C), to probabilities, float32 (B, K)."""
    model = tf.saved_model.load(str(folder))
    predict = model.signatures["serving_default"]

    def probabilities(images: np.ndarray) -> np.ndarray:
        assert model is not None  # it owns the variables of the signature
        return predict(images=tf.constant(images))["probabilities"].numpy()

    return probabilities
