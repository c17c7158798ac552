"""Compare the runtimes of this project with OpenVINO and a tuned onnxruntime, for one run.

    .venv/bin/python experiments/runtime_rivals.py runs/my-run --python PYTHON

PYTHON is the interpreter of an environment with onnxruntime and openvino. The run is exported to
ONNX once. In each round, every runtime is measured in a new process, in turn: its median latency of
one image, and its images per second at batches of 128. The script prints the medians over the
rounds, and how many times as fast the best rival is as the best runtime of this project.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

OWN = (
    "keras",
    "saved_model",
    "saved_model-bfloat16",
    "onnx",
    "litert",
    "litert-int8",
    "openvino",
    "openvino-bfloat16",
)
RIVALS = ("onnxruntime, 1 thread", "onnxruntime, 2 threads", "openvino, latency", "openvino, rate")
SECONDS = 5.0  # of calls at each batch size

# What each side runs to measure a function from images to probabilities.
MEASURE = """
import statistics, time
import numpy as np
def measure(predict, shape, seconds):
    found = []
    for size in (1, 128):
        images = np.random.default_rng(0).integers(0, 256, (size, *shape), np.uint8)
        for _ in range(3):
            predict(images)
        times = []
        while sum(times) < seconds:
            began = time.perf_counter()
            predict(images)
            times.append(time.perf_counter() - began)
        found.append(statistics.median(times))
    return [1000 * found[0], 128 / found[1]]
"""
RIVAL = (
    MEASURE
    + """
import json, sys
kind, path, shape, seconds = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), float(sys.argv[4])
if kind.startswith("onnxruntime"):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(kind.split()[1])
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    predict = lambda images: session.run(["probabilities"], {"images": images})[0]
else:
    import openvino
    hint = "LATENCY" if kind.endswith("latency") else "THROUGHPUT"
    model = openvino.Core().compile_model(path, "CPU", {"PERFORMANCE_HINT": hint})
    predict = lambda images: model([images])[0]
print(json.dumps(measure(predict, shape, seconds)))
"""
)
OURS = (
    MEASURE
    + """
import json, sys
from cifar_models.benchmark.runtime_cost import open_runtime
from cifar_models.run.load import load_run
run, export, shape, seconds = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), float(sys.argv[4])
print(json.dumps(measure(open_runtime(load_run(run), export)[0], shape, seconds)))
"""
)


def measured(python: str, program: str, *arguments: str) -> list[float]:
    """Return latency, ms, and images per second of one runtime in a new process."""
    from cifar_models.runtime.subprocesses import run_python

    output = run_python(["-c", program, *arguments], "a runtime failed", python)
    return json.loads(output.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--python", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from cifar_models.benchmark.runtime_cost import export_run
    from cifar_models.run.load import load_run

    run = options.run.resolve()
    shape = json.dumps(list(load_run(run).dataset.image_shape))
    found: dict[str, list[list[float]]] = {name: [] for name in (*OWN, *RIVALS)}
    with tempfile.TemporaryDirectory() as folder:
        exports = {
            name: "" if name == "keras" else export_run(run, name, Path(folder)) for name in OWN
        }
        model = str(Path(exports["onnx"]) / "model.onnx")
        for number in range(options.rounds):
            for name in OWN:
                found[name].append(
                    measured(sys.executable, OURS, str(run), exports[name], shape, str(SECONDS))
                )
            for name in RIVALS:
                found[name].append(
                    measured(options.python, RIVAL, name, model, shape, str(SECONDS))
                )
            print(f"round {number + 1} of {options.rounds}: {time.strftime('%H:%M:%S')}")
    medians = {name: np.median(rows, axis=0) for name, rows in found.items()}
    for name, (latency, rate) in medians.items():
        print(f"{name}: {latency:.2f} ms for one image, {rate:.0f} images/s at 128")
    for column, what, better in ((0, "latency", min), (1, "rate", max)):
        ratios = []
        for number in range(options.rounds):
            ours, theirs = (
                better(found[name][number][column] for name in names) for names in (OWN, RIVALS)
            )
            ratios.append(ours / theirs if column == 0 else theirs / ours)
        print(
            f"{what}: the best rival is {statistics.median(ratios):.2f} times as fast as the best "
            f"of this project ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} rounds)"
        )


if __name__ == "__main__":
    main()
