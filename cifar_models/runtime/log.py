"""The log of a run, on the screen and in its folder."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger("cifar_models")


class Screen(logging.Handler):
    """Prints, so that a line of the log goes above a progress bar and not through it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(record.getMessage(), flush=True)
        except OSError:  # whoever read it has left; the work goes on
            silence_screen()


def log_to_screen() -> None:
    logger.setLevel(logging.INFO)
    logger.propagate = False  # the root logger, which a library may set up, would print it again
    if not any(isinstance(handler, Screen) for handler in logger.handlers):
        logger.addHandler(Screen())


def silence_screen() -> None:
    """Whatever is printed from now on goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class LogFile(logging.FileHandler):
    """A log that cannot be written does not end a run; the next save will say so if it must."""

    def handleError(self, record):
        pass


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Copies the log to a file; an error that ends the run goes there with its traceback."""
    handler = LogFile(path, encoding="utf-8")
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
