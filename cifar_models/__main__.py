"""Entry point of `python -m cifar_models` and of the command `cifar-models`."""

import signal
import sys


def run() -> int:
    """Run the command line of this process, and return its exit status."""
    # Until the command handles signals, and after its end, Ctrl-C ends the process without the
    # traceback of Python's own handler.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cifar_models.cli.main import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
