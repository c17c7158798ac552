"""A snapshot of the machine and the software that a run used."""

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from cifar_models.runtime.device import Runtime
from cifar_models.storage.records import Environment

PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "numpy", "scikit-learn")
# If one of these changes, or the version of a package, the last bits of a result may change.
DECISIVE_FIELDS = ("device", "cpu_cores", "precision", "xla", "onednn", "python", "commit")

COMMIT_VARIABLE = "CIFAR_MODELS_COMMIT"


def environment(runtime: Runtime) -> Environment:
    """Return the environment of this process: versions, device, commit and command."""
    return Environment(
        command=command_line(),
        commit=commit(),
        device=runtime.device,
        cpu_cores=usable_cores(),
        precision=runtime.precision,
        xla=runtime.xla,
        onednn=runtime.onednn,
        deterministic=runtime.deterministic,
        python=platform.python_version(),
        platform=platform.platform(),
        packages={name: metadata.version(name) for name in PACKAGES},
    )


def command_line() -> str:
    """Return the command of this process, quoted for a shell."""
    return shlex.join(["python", "-m", "cifar_models", *sys.argv[1:]])


def changes(then: Environment, now: Environment) -> list[tuple[str, object, object]]:
    """Return (field, old, new) for every change that may change the last bits of a result.

    Args:
        then: Environment in which the run began.
        now: Environment in which it is resumed.
    """
    was, is_now = (
        {**snapshot.packages, **{key: getattr(snapshot, key) for key in DECISIVE_FIELDS}}
        for snapshot in (then, now)
    )
    return [(key, was.get(key), value) for key, value in is_now.items() if was.get(key) != value]


def usable_cores() -> int:
    """Return the number of cores that this process may use. TensorFlow splits sums among them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # not Linux


def commit() -> str | None:
    """Return the commit of this code, with "-dirty" if files differ; None outside a checkout.

    On a machine of a cluster, which has the code alone, the variable COMMIT_VARIABLE says it.
    """
    if given := os.environ.get(COMMIT_VARIABLE):
        return given
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # an installed package may lie in another project's checkout
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
