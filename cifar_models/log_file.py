"""The log of a run, beside what the screen shows."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger("cifar_models")


class LogFile(logging.FileHandler):
    """A log that cannot be written does not end a run; the next save will say so if it must."""

    def handleError(self, record):
        pass


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
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
