"""ONNX exports."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from onnxruntime import InferenceSession

from cifar_models.serving.export_job import ExportJob
from cifar_models.serving.formats import FLOAT16, INT8

if TYPE_CHECKING:
    import onnx

FILE = "model.onnx"
OPSET = 18
CALIBRATION_BATCH = 32

# A user's program, which needs onnxruntime and numpy.
READ_SCRIPT = """
import sys
import numpy as np
import onnxruntime
folder, images, outputs_path = sys.argv[1:]
session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
(probabilities,) = session.run(["probabilities"], {"images": np.load(images)})
np.savez(outputs_path, probabilities=probabilities)
"""


def write_model(job: ExportJob) -> None:
    """Write model.onnx: `images`, uint8 (B, H, W, C) → `probabilities`, float32 (B, K).

    The metadata of the model have the names of the classes under "class_names", as JSON. float16
    weights and int8 weights and activations are converted by onnxruntime.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    job.out.mkdir()
    model = make_model(job)
    if job.precision == FLOAT16:
        model = convert_float_to_float16(model, keep_io_types=True)
    elif job.precision == INT8:
        model = _quantized(model, job)
    entry = model.metadata_props.add()
    entry.key, entry.value = "class_names", json.dumps(job.run.dataset.class_names)
    onnx.save(model, job.out / FILE)


def make_model(job: ExportJob) -> "onnx.ModelProto":
    """Return the network as an ONNX model in float32."""
    import tensorflow as tf
    import tf2onnx

    # Without `training`, Keras' Resizing would put the batch norms behind it in training mode.
    @tf.function
    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(job.network(images, training=False))}

    shape = (None, *job.network.input_shape[1:])
    signature = [tf.TensorSpec(shape, tf.uint8, "images")]
    model, _ = tf2onnx.convert.from_function(predict, input_signature=signature, opset=OPSET)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


class _Batches:
    """Batches of images, in the form of onnxruntime's CalibrationDataReader."""

    def __init__(self, images: np.ndarray):
        starts = range(0, len(images), CALIBRATION_BATCH)
        self._batches = iter([images[start : start + CALIBRATION_BATCH] for start in starts])

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def _quantized(model: "onnx.ModelProto", job: ExportJob) -> "onnx.ModelProto":
    import onnx
    from onnxruntime.quantization import QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    assert job.calibration is not None
    with tempfile.TemporaryDirectory(dir=job.out) as folder:
        original, prepared, quantized = (Path(folder) / f"{step}.onnx" for step in range(3))
        onnx.save(model, original)
        quant_pre_process(original, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            _Batches(job.calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            # In steps of 1/255, probabilities would tie.
            nodes_to_exclude=[
                node.name for node in onnx.load(prepared).graph.node if node.op_type == "Softmax"
            ],
        )
        return onnx.load(quantized)


def load_model(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from images, uint8 (B, H, W, C), to probabilities, float32 (B, K)."""
    session = InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["probabilities"], {"images": images})[0]
