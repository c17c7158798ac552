"""The machine under a run: device, precision, XLA, seeds, and a snapshot of all of it."""

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from cifar_models.config.recipe import RuntimeConfig

GPU_STEPS = 32  # in one call: a GPU's steps take milliseconds, and Python's part of each is one
MAX_RESIDENT_BYTES = 2**30  # CIFAR-10 takes 150 MB; a GPU holds 4 GB or more, and has other uses


@dataclass(frozen=True)
class Runtime:
    device: str  # the name of the processor that trains
    precision: str  # a Keras dtype policy
    xla: bool
    deterministic: bool
    resident_bytes: int  # the most of images that go into the device's own memory
    steps_per_execution: int  # the most that go into one call


def configure(recipe: RuntimeConfig) -> Runtime:
    """Sets Keras' dtype policy, the seeds and determinism for this process.

    `auto` precision is mixed_bfloat16 on a GPU of compute capability 8 or higher,
    mixed_float16 (with loss scaling) on an older one, and float32 on a CPU, which would only
    emulate the others. `auto` XLA is on for a GPU and off for a CPU. `auto` data_on_device is on
    for a GPU with XLA. Steps are taken together on a GPU unless the recipe says how many.
    """
    import keras
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    precision = recipe.precision
    if precision == "auto":
        capability = details.get("compute_capability", (0, 0))
        modern = "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16"
        precision = modern if gpus else "float32"
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(recipe.seed)
    _set_determinism(recipe.deterministic)
    xla = recipe.xla == "on" or (recipe.xla == "auto" and bool(gpus) and not recipe.deterministic)
    # Under XLA alone, which needs no kernel of its own for gathering bytes.
    automatic = MAX_RESIDENT_BYTES if gpus and xla else 0
    return Runtime(
        device=details.get("device_name") or _processor_name(),
        precision=precision,
        xla=xla,
        deterministic=recipe.deterministic,
        resident_bytes={"auto": automatic, "on": sys.maxsize, "off": 0}[recipe.data_on_device],
        steps_per_execution=recipe.steps_per_execution or (GPU_STEPS if gpus else 1),
    )


def _set_determinism(deterministic: bool) -> None:
    """Both ways: one process may train twice, and Keras refuses XLA while determinism is on."""
    import tensorflow as tf
    from tensorflow.python.framework.config import disable_op_determinism  # nothing public does it

    if deterministic:
        tf.config.experimental.enable_op_determinism()
    else:
        disable_op_determinism()
    # What it folds in a ViT's step depends on whether the step stands in a loop of several.
    tf.config.optimizer.set_experimental_options({"constant_folding": not deterministic})


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"CPU: {line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    except OSError:
        pass  # not Linux
    return f"CPU: {platform.machine()}, {os.cpu_count()} cores"
