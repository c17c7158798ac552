"""Child processes, whose failures become errors of one line."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.signals import obey_stop, stop_request
from cifar_models.storage.atomic_files import CANNOT_BE_WRITTEN, WriteError

POLL_SECONDS = 0.5  # between two checks whether a signal asked this process to stop


PACKAGE_ROOT = Path(__file__).parents[2]


def run_python(
    arguments: Sequence[str],
    failure: str,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run Python in a child process and return its standard output.

    Args:
        arguments: Command-line arguments of the interpreter.
        failure: Start of the error message, such as "cnn: cannot be measured".
        python: Path of the interpreter.
        environment: Environment variables to set in addition to those of this process.

    Raises:
        RequestError: The child ended with the exit status of a wrong request.
        WriteError: The child could not write a file.
        RunError: The child failed in another way.
    """
    result = subprocess.run(
        [python, *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        env={**_safe_environment(), **(environment or {})},
    )
    _check_status(result.returncode, result.stderr, failure)
    return result.stdout


def run_command(arguments: Sequence[str], failure: str) -> None:
    """Run a command of this package in a child process, and discard its standard output.

    If a signal asks this process to stop, the child is asked too. It may need time to save its
    state, so the call returns only after the child has ended.

    Args:
        arguments: The command and its arguments, such as ["resume", "runs/cnn"].
        failure: Start of the error message, such as "runs/cnn: failed".

    Raises:
        RequestError: The child ended with the exit status of a wrong request.
        WriteError: The child could not write a file.
        RunError: The child failed in another way.
        Interruption: A signal asked this process to stop.
    """
    command = [sys.executable, "-m", "cifar_models", *arguments]
    with (
        stop_request() as stop,
        stop.deferred(),
        subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=_safe_environment(),
        ) as process,
    ):
        errors = None
        while errors is None:
            if is_requested := stop.is_requested():
                process.terminate()  # once: the next call waits for the end of the child
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, errors = process.communicate(timeout=None if is_requested else POLL_SECONDS)
    stop.raise_if_requested()
    _check_status(process.returncode, errors, failure)


def _safe_environment() -> dict[str, str]:
    """Return an environment in which Python imports nothing from the working directory.

    It may be an untrusted folder, with a file that has the name of a module. In a checkout, this
    package is found by its path.
    """
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    if PACKAGE_ROOT.name not in ("site-packages", "dist-packages"):
        others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        environment["PYTHONPATH"] = os.pathsep.join([*others, str(PACKAGE_ROOT)])
    return environment


def _check_status(status: int, errors: str, failure: str) -> None:
    """Raise the error of a child process that failed, with the last line of its error output."""
    obey_stop()  # Ctrl-C on a terminal ends the child too
    if status == 0:
        return
    if status < 0:
        name = signal.Signals(-status).name
        raise RunError(f"{failure}: {name} ended the process; it may have run out of memory")
    reason = (errors.strip().splitlines() or ["no message"])[-1].removeprefix("error: ")
    message = f"{failure}: {reason}"
    if status == RequestError.exit_status:
        raise RequestError(message)
    if CANNOT_BE_WRITTEN in reason:
        raise WriteError(message, names_way_on=True)
    raise RunError(message)
