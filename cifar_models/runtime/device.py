"""The configuration of a process for a run: device, precision, XLA, determinism and seeds."""

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from cifar_models.config.recipe import RuntimeConfig
from cifar_models.runtime.onednn import onednn_is_on, warn_of_ineffective_setting
from cifar_models.runtime.process_group import ProcessGroup, current_group

# Training steps in one call on a GPU. A step takes a few milliseconds, and a call adds about one.
GPU_STEPS_PER_EXECUTION = 32
# Largest training set that is kept in the memory of a GPU by default. CIFAR-10 takes 150 MB. A GPU
# has 4 GB or more, which the network and its activations need too.
MAX_RESIDENT_BYTES = 2**30
# Flags of CPUs with instructions that multiply bfloat16 numbers, in the words of /proc/cpuinfo.
BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})


@dataclass(frozen=True)
class Runtime:
    """The settings of a configured process.

    Attributes:
        device: Name of the processor that trains, or of all of them.
        devices: TensorFlow's names of the devices among which each batch is divided.
        precision: Keras dtype policy.
        xla: Whether XLA compiles the training step and the predictions.
        onednn: Whether TensorFlow uses the CPU kernels of oneDNN.
        deterministic: Whether every operation gives the same bits each time.
        resident_bytes: Size of the largest training set that is kept on the device, bytes.
        steps_per_execution: Maximum number of training steps in one call.
        group: The processes that train the run together. None: there is one.
    """

    device: str
    devices: tuple[str, ...]
    precision: str
    xla: bool
    onednn: bool
    deterministic: bool
    resident_bytes: int
    steps_per_execution: int
    group: ProcessGroup | None = None

    @property
    def num_parts(self) -> int:
        """Number of devices of all processes, among which each batch is divided."""
        return len(self.devices) * (self.group.size if self.group else 1)


def configure(recipe: RuntimeConfig) -> Runtime:
    """Set the dtype policy of Keras, the seeds and determinism for this process.

    `choose_precision` says what precision "auto" is. XLA "auto" is on for a GPU unless the run is
    deterministic, and off for a CPU. data_on_device "auto" is on for a GPU with XLA. If the recipe
    gives no steps_per_execution, it is GPU_STEPS_PER_EXECUTION on a GPU and 1 on a CPU.

    Args:
        recipe: The `runtime` table of a recipe.

    Returns:
        The settings that are now in force.
    """
    import keras
    import tensorflow as tf

    group = current_group()
    gpus = tf.config.list_physical_devices("GPU")
    let_gpu_memory_grow()
    precision = choose_precision(recipe)
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(recipe.seed)
    _set_determinism(recipe.deterministic)
    warn_of_ineffective_setting(recipe.onednn)
    xla = recipe.xla == "on" or (recipe.xla == "auto" and bool(gpus) and not recipe.deterministic)
    devices = _device_names() if recipe.devices == "all" else _device_names()[:1]
    # Without XLA for the whole step, TensorFlow has no GPU kernel that gathers uint8 values.
    resident_bytes = MAX_RESIDENT_BYTES if gpus and xla and len(devices) == 1 and not group else 0
    num_parts = len(devices) * (group.size if group else 1)
    name = _gpu_details().get("device_name") or processor_name()
    return Runtime(
        device=name if num_parts == 1 else f"{num_parts} x {name}",
        devices=devices,
        precision=precision,
        xla=xla,
        onednn=onednn_is_on(),
        deterministic=recipe.deterministic,
        resident_bytes={"auto": resident_bytes, "on": sys.maxsize, "off": 0}[recipe.data_on_device],
        # A sum over processes cannot be within TensorFlow's loop of several steps.
        steps_per_execution=1
        if group
        else recipe.steps_per_execution or (GPU_STEPS_PER_EXECUTION if gpus else 1),
        group=group,
    )


def _device_names() -> tuple[str, ...]:
    """Return TensorFlow's names of all GPUs, or of all CPUs if there is no GPU."""
    import tensorflow as tf

    group = current_group()
    names = [
        device.name
        for kind in ("GPU", "CPU")
        for device in tf.config.list_logical_devices(kind)
        # TensorFlow lists the devices of the other processes too.
        if not group or tf.DeviceSpec.from_string(device.name).task in (None, group.rank)
    ]
    gpus = [name for name in names if "GPU" in name]
    return tuple(gpus or names)


def let_gpu_memory_grow() -> None:
    """Let TensorFlow take GPU memory as it needs it. Call it before TensorFlow uses a GPU."""
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def choose_precision(recipe: RuntimeConfig) -> str:
    """Return the dtype policy of a run on this machine.

    "auto" is mixed_bfloat16 on a GPU of compute capability 8 or higher, and mixed_float16 with loss
    scaling on an older one. A CPU with AMX or AVX512_BF16 multiplies bfloat16 matrices through
    oneDNN, but not through XLA. Any other CPU would only emulate it, so "auto" is float32 there,
    and in deterministic runs.

    Args:
        recipe: The `runtime` table of a recipe.
    """
    import tensorflow as tf

    if recipe.precision != "auto":
        return recipe.precision
    if tf.config.list_physical_devices("GPU"):
        capability = _gpu_details().get("compute_capability", (0, 0))
        return "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16"
    if recipe.xla == "on" or recipe.deterministic or not onednn_is_on():
        return "float32"
    flags = _cpu_info("flags").split()
    return "float32" if BFLOAT16_FLAGS.isdisjoint(flags) else "mixed_bfloat16"


def _set_determinism(deterministic: bool) -> None:
    """Switch determinism on or off.

    A process may train a second run without it, and Keras refuses XLA while determinism is on.
    """
    import tensorflow as tf
    from tensorflow.python.framework.config import disable_op_determinism  # not in the public API

    if deterministic:
        tf.config.experimental.enable_op_determinism()
    else:
        disable_op_determinism()
    # Constant folding changes the last bits of a ViT's step if several steps run in one call.
    tf.config.optimizer.set_experimental_options({"constant_folding": not deterministic})


def _gpu_details() -> dict:
    """Return what TensorFlow knows about the first GPU; nothing without a GPU."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]) if gpus else {}


def processor_name() -> str:
    """Return the name of the CPU and its number of cores."""
    name = _cpu_info("model name") or platform.machine()
    return f"CPU: {name}, {os.cpu_count()} cores"


def _cpu_info(key: str) -> str:
    """Return what Linux says about the CPU, such as its "flags"; nothing on other systems."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(key):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return ""
