"""LiteRT exports, formerly called TensorFlow Lite."""

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from cifar_models.runtime.environment import usable_cores
from cifar_models.serving.export_job import ExportJob
from cifar_models.serving.formats import FLOAT16

FILE = "model.tflite"
CLASS_NAMES_FILE = "class_names.json"

# A user's program, which needs ai-edge-litert and numpy.
READ_SCRIPT = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
folder, images, outputs_path = sys.argv[1:]
predict = Interpreter(f"{folder}/model.tflite").get_signature_runner()
probabilities = predict(images=np.load(images))["probabilities"]
np.savez(outputs_path, probabilities=probabilities)
"""


def write_model(job: ExportJob) -> None:
    """Write model.tflite: `images`, uint8 (B, H, W, C) → `probabilities`, float32 (B, K).

    float16 halves the file, and int8 computes with 8-bit integers where the runtime can. The names
    of the classes are in class_names.json.
    """
    import keras
    import tensorflow as tf

    job.out.mkdir()
    options: dict[str, object] = {}
    if job.precision == FLOAT16:
        options = {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "target_spec": {"supported_types": [tf.float16]},
        }
    elif job.calibration is not None:
        options = {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": functools.partial(_examples, job.calibration),
        }
    images = keras.Input(job.network.input_shape[1:], dtype="uint8", name="images")
    logits = job.network(images, training=False)
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
    model = keras.Model(images, {"probabilities": probabilities})
    model.export(job.out / FILE, format="litert", verbose=False, **options)
    (job.out / CLASS_NAMES_FILE).write_text(json.dumps(job.run.dataset.class_names))


def _examples(images: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Yield images one by one, in the form of TensorFlow's converter."""
    for image in images:
        yield [image[np.newaxis]]


def load_model(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from images, uint8 (B, H, W, C), to probabilities, float32 (B, K)."""
    interpreter = Interpreter(str(folder / FILE), num_threads=usable_cores())
    predict = interpreter.get_signature_runner()
    return lambda images: predict(images=images)["probabilities"]
