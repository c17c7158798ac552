"""The log of a run, on the screen and in its folder."""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from cifar_models.errors import Paused
from cifar_models.runtime.signals import Interruption
from cifar_models.runtime.text import printable
from cifar_models.storage.atomic_files import write_error
from cifar_models.storage.safe_open import APPEND, open_regular

logger = logging.getLogger("cifar_models")


class Screen(logging.Handler):
    """Handler that prints log lines, so that they appear above a progress bar, not inside it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(printable(record.getMessage()), flush=True)
        except OSError:  # the reader closed the pipe or the terminal; the run continues
            silence(sys.stdout)


def log_to_screen() -> None:
    """Print the log of this package to standard output from now on."""
    logger.setLevel(logging.INFO)
    logger.propagate = False  # if a library sets up the root logger, it would print the log again
    if not any(isinstance(handler, Screen) for handler in logger.handlers):
        logger.addHandler(Screen())


def say_error(message: str) -> None:
    """Print a message to standard error, if it still has a reader."""
    try:
        print(printable(message), file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Discard everything that this process prints to a standard stream from now on.

    Python would end with status 120 if it could not print what the stream still holds.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class LogFile(logging.FileHandler):
    """A log file that follows no link, and whose write errors do not end the run.

    If the disk is full, the next save of the run raises an error.
    """

    def _open(self) -> io.TextIOWrapper:
        path = Path(self.baseFilename)
        try:
            file = open_regular(path.parent, path.name, APPEND)
        except OSError as error:
            raise write_error(path, error.strerror or str(error)) from None
        return io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace")

    def handleError(self, record):
        pass

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written before
            super().close()


class LogFormatter(logging.Formatter):
    """Formatter that escapes control characters, so that no message can forge another line."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, exception) -> str:
        return "\n".join(printable(line) for line in super().formatException(exception).split("\n"))


class _Collector(logging.Handler):
    """Handler that keeps the records of log lines."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextlib.contextmanager
def remembered_lines() -> Iterator[list[logging.LogRecord]]:
    """Give a list to which the log is added until the block ends."""
    collector = _Collector()
    logger.addHandler(collector)
    try:
        yield collector.records
    finally:
        logger.removeHandler(collector)


def add_to_file(path: Path, lines: list[logging.LogRecord]) -> None:
    """Append lines that have been logged before to a file.

    Raises:
        RequestError, WriteError: As `log_to_file`.
    """
    handler = _file_handler(path)
    for line in lines:
        handler.handle(line)
    handler.close()


def _file_handler(path: Path) -> LogFile:
    handler = LogFile(path)
    handler.setFormatter(LogFormatter("%(asctime)s %(message)s"))
    return handler


@contextlib.contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Copy the log to a file until the block ends.

    An error that ends the block is logged to the file with its traceback; a stop that was asked for
    with its message only.

    Args:
        path: Path of the file. Lines are appended to it.

    Raises:
        RequestError: The file is a link, a hard link or no regular file.
        WriteError: The file cannot be opened.
    """
    handler = _file_handler(path)
    logger.addHandler(handler)
    try:
        yield
    except BaseException as error:
        is_stop = isinstance(error, Interruption | Paused)
        message = (str(error) or "paused") if is_stop else "the run ended early"
        traceback = None if is_stop else sys.exc_info()
        handler.handle(
            logger.makeRecord(logger.name, logging.ERROR, __file__, 0, message, (), traceback)
        )
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()
