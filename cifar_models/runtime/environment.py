"""A snapshot of the machine and the software that a run used."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from cifar_models.runtime.device import Runtime


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


def _commit() -> str | None:
    """The commit of the code that runs, marked where files differ from it; None outside git."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
