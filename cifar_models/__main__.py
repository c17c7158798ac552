"""Entry point of `python -m cifar_models` and of the command `cifar-models`."""

import os
import signal
import sys


def run() -> int:
    """Run the command line of this process, and return its exit status."""
    # Until the command handles signals, and after its end, Ctrl-C ends the process without the
    # traceback of Python's own handler.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_standard_streams()
    _forget_working_directory()
    from cifar_models.cli.main import main

    return main()


def _open_standard_streams() -> None:
    """Open the standard streams that are closed, on the null device.

    Otherwise the next files that are opened take their numbers, and TensorFlow writes its messages
    into those.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)  # child processes would lack it
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _forget_working_directory() -> None:
    """Remove the working directory, which `python -m` adds, from the places of modules.

    It may be an untrusted folder, with a file that has the name of a module. It stays if this
    package is imported from it.
    """
    from pathlib import Path

    package_root = Path(__file__).absolute().parents[1]
    try:
        here = Path.cwd()
    except FileNotFoundError:  # removed
        return
    if sys.path and here != package_root and Path(sys.path[0]).absolute() == here:
        del sys.path[0]


if __name__ == "__main__":
    sys.exit(run())
