"""Measurements in a new process, whose peak memory is that of the measured work only."""

import dataclasses
import json
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.subprocesses import run_python

AnyRecord = TypeVar("AnyRecord")


def measure_isolated(kind: type[AnyRecord], arguments: Sequence[str], subject: str) -> AnyRecord:
    """Run a child process, and return the record that it prints with `print_record`.

    Args:
        kind: Dataclass of the record.
        arguments: Command-line arguments of the Python interpreter.
        subject: Name of what is measured, for the error messages.

    Raises:
        RequestError, RunError: The child process failed.
    """
    output = run_python(arguments, failure=f"{subject}: cannot be measured")
    return msgspec.convert(json.loads(output.splitlines()[-1]), kind)


def print_record(measure: Callable[[], Any]) -> int:
    """Print a measured dataclass as one line of JSON, and return the exit status.

    Args:
        measure: Function that returns the dataclass.
    """
    try:
        print(json.dumps(dataclasses.asdict(measure())))
    except (RequestError, RunError) as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def peak_memory() -> tuple[str, int]:
    """Return the kind of the measured memory, "gpu" or "process", and its peak so far in bytes.

    The memory of the GPU is measured if there is one.
    """
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return "gpu", tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return "process", peak_of_process()


def current_memory() -> int:
    """Return the memory of this process, in bytes; its peak where that is all that is known."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass  # not Linux
    return peak_of_process()


def peak_of_process() -> int:
    """Return the peak memory of this process so far, in bytes."""
    try:  # On Linux, ru_maxrss starts with the memory of the parent process.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass  # not Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS
