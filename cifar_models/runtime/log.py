"""The log of a run, on the screen and in its folder."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger("cifar_models")


class Screen(logging.Handler):
    """Handler that prints log lines, so that they appear above a progress bar, not inside it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(record.getMessage(), flush=True)
        except OSError:  # the reader closed the pipe; the run continues
            silence_screen()


def log_to_screen() -> None:
    """Print the log of this package to standard output from now on."""
    logger.setLevel(logging.INFO)
    logger.propagate = False  # if a library sets up the root logger, it would print the log again
    if not any(isinstance(handler, Screen) for handler in logger.handlers):
        logger.addHandler(Screen())


def silence_screen() -> None:
    """Discard everything that this process prints to standard output from now on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class LogFile(logging.FileHandler):
    """A log file whose write errors do not end the run.

    If the disk is full, the next save of the run raises an error.
    """

    def handleError(self, record):
        pass


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Copy the log to a file until the block ends.

    An error that ends the block is logged to the file with its traceback.

    Args:
        path: Path of the file. Lines are appended to it.
    """
    handler = LogFile(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    except BaseException:
        record = logger.makeRecord(
            logger.name, logging.ERROR, __file__, 0, "the run ended early", (), sys.exc_info()
        )
        handler.handle(record)
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()
