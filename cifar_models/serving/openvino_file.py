"""OpenVINO exports, for processors of Intel and AMD."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino

from cifar_models.serving.export_job import ExportJob
from cifar_models.serving.formats import BFLOAT16, FLOAT16

FILE = "model.xml"  # the operations; the weights are in model.bin
CONFIG_FILE = "config.json"
CLASS_NAMES_FILE = "class_names.json"

# A user's program, which needs openvino and numpy.
READ_SCRIPT = """
import json
import sys
import numpy as np
import openvino
folder, images, outputs_path = sys.argv[1:]
config = json.load(open(f"{folder}/config.json"))
model = openvino.Core().compile_model(f"{folder}/model.xml", "CPU", config)
np.savez(outputs_path, probabilities=model(np.load(images))["probabilities"])
"""


def write_model(job: ExportJob) -> None:
    """Write model.xml: `images`, uint8 (B, H, W, C) → `probabilities`, float32 (B, K).

    float16 halves the file, and bfloat16 computes in this precision on processors that have it.
    config.json has the settings of the runtime, and class_names.json the names of the classes.
    """
    from cifar_models.serving import onnx_file

    job.out.mkdir()
    # openvino.convert_model would do the same, and send usage statistics to its maker.
    network = openvino.Core().read_model(onnx_file.make_model(job).SerializeToString())
    openvino.save_model(network, job.out / FILE, compress_to_fp16=job.precision == FLOAT16)
    config = {
        "PERFORMANCE_HINT": "LATENCY",  # all cores work on one batch
        # By default, the runtime chooses bfloat16 on processors that have it.
        "INFERENCE_PRECISION_HINT": "bf16" if job.precision == BFLOAT16 else "f32",
    }
    (job.out / CONFIG_FILE).write_text(json.dumps(config))
    (job.out / CLASS_NAMES_FILE).write_text(json.dumps(job.run.dataset.class_names))


def load_model(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from images, uint8 (B, H, W, C), to probabilities, float32 (B, K)."""
    config = json.loads((folder / CONFIG_FILE).read_text())
    model = openvino.Core().compile_model(folder / FILE, "CPU", config)
    return lambda images: np.array(model(images)["probabilities"])
