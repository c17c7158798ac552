"""Measuring in a process of its own, so that the peak of its memory is that of this work alone."""

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cifar_models.errors import RequestError, RunError


def run_isolated(command: Sequence[str], subject: str) -> dict:
    """Runs a process that ends in `print_json_result`, and returns what it measured.

    Args:
        command: of the process.
        subject: what is measured, for the messages.

    Raises:
        RequestError, RunError: as in the process, or something ended it.
    """
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode < 0:
        name = signal.Signals(-result.returncode).name
        raise RunError(f"{subject}: {name} ended the process that measured it; is memory short?")
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        if result.returncode == RequestError.exit_status:
            raise RequestError(reason)
        raise RunError(f"{subject}: cannot be measured: {reason}")
    return json.loads(result.stdout.splitlines()[-1])


def print_json_result(measure: Callable[[], dict]) -> int:
    """Prints what a call finds as a line of JSON, and returns the exit status."""
    try:
        print(json.dumps(measure()))
    except (RequestError, RunError) as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def peak_memory() -> tuple[str, int]:
    """Whose memory, "process" or, where there is one, "gpu", and its peak so far in bytes."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return "gpu", tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return "process", peak_of_process()


def peak_of_process() -> int:
    """The most memory that this process has held so far, in bytes."""
    try:  # Linux, whose ru_maxrss begins with the memory of whoever started the process
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass  # not Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes
