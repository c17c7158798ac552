"""The machine under a run: device, precision, XLA, seeds, and a snapshot of all of it."""

import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from cifar_models.compile_cache import keep_compiled
from cifar_models.recipe import RuntimeRecipe

GPU_STEPS = 32  # in one call: a GPU's steps take milliseconds, and Python's part of each is one
MOST_RESIDENT_BYTES = 2**30  # CIFAR-10 takes 150 MB; a GPU holds 4 GB or more, and has other uses


@dataclass(frozen=True)
class Runtime:
    device: str  # the name of the processor that trains
    precision: str  # a Keras dtype policy
    xla: bool
    deterministic: bool
    resident_bytes: int  # the most of images that go into the device's own memory
    steps_per_execution: int  # the most that go into one call


def import_tensorflow() -> None:
    """Imports TensorFlow without its start-up chatter, part of which no setting silences."""
    if "tensorflow" in sys.modules:
        return
    has_gpu = Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1" if has_gpu else "3")
    keep_compiled()
    with tempfile.TemporaryFile() as chatter:
        screen = os.dup(2)
        os.dup2(chatter.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            chatter.seek(0)
            os.write(screen, chatter.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)


def configure(recipe: RuntimeRecipe) -> Runtime:
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
    automatic = MOST_RESIDENT_BYTES if gpus and xla else 0
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


def environment(runtime: Runtime) -> dict:
    """Returns what another person needs to repeat the run: versions, device, commit, command."""
    packages = ("tensorflow", "keras", "tensorflow-datasets", "numpy", "scikit-learn")
    return {
        "command": " ".join(["python -m cifar_models", *sys.argv[1:]]),
        "commit": _commit(),
        "device": runtime.device,
        "cpu_cores": usable_cores(),
        "precision": runtime.precision,
        "xla": runtime.xla,
        "deterministic": runtime.deterministic,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in packages},
    }


def changes(then: dict, now: dict) -> list[tuple[str, object, object]]:
    """Returns (what, was, is) for what may change a result's last bits, of two `environment`s."""
    decisive = ("device", "cpu_cores", "precision", "xla", "python", "commit")
    was, now_is = (
        {**snapshot.get("packages", {}), **{key: snapshot.get(key) for key in decisive}}
        for snapshot in (then, now)
    )
    return [(key, was.get(key), value) for key, value in now_is.items() if was.get(key) != value]


def usable_cores() -> int:
    """Those that this process may run on: TensorFlow splits sums by their number."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # not Linux


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"CPU: {line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    except OSError:
        pass  # not Linux
    return f"CPU: {platform.machine()}, {os.cpu_count()} cores"


def _commit() -> str | None:
    """The commit of the code that runs, marked where files differ from it; None outside git."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
