"""The command line: a command is parsed and run, and its errors become one line and a status."""

import io
import os
import signal
import sys
from collections.abc import Sequence

from cifar_models.cli.commands import COMMANDS
from cifar_models.cli.parser import make_parser
from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.log import log_to_screen, say_error, silence
from cifar_models.runtime.signals import stop_request
from cifar_models.storage.disk_errors import disk_errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        arguments: Command-line arguments without the program. None: those of this process.

    Returns:
        0: success. 1: the run failed. 2: the request was wrong. 130, 143 and
        129: Ctrl-C, SIGTERM and SIGHUP.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # characters that the terminal lacks are escaped
            stream.reconfigure(errors="backslashreplace")
    options = make_parser().parse_args(arguments)
    log_to_screen()
    try:
        with stop_request(), disk_errors(None, "repeat the command"):
            COMMANDS[options.command](options)
    except (RequestError, RunError) as error:
        return _fail(str(error), error.exit_status)
    except KeyboardInterrupt as stop:
        say_error(str(stop) or "interrupted")
        return getattr(stop, "exit_status", 128 + signal.SIGINT)
    except BrokenPipeError:
        silence(sys.stdout)  # the reader of the output closed the pipe
    except Exception as error:
        if os.environ.get("CIFAR_MODELS_TRACEBACK"):
            raise
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        return _fail(
            f"{type(error).__name__}: {reason} (for the traceback, read the run's log.txt, or set "
            "CIFAR_MODELS_TRACEBACK=1 and repeat the command)",
            RunError.exit_status,
        )
    return 0


def _fail(message: str, status: int) -> int:
    say_error(f"error: {message}")
    return status
