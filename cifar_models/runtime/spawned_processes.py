"""Processes that run functions of this package, started with Python's multiprocessing."""

import contextlib
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator

CHECK_SECONDS = 0.2  # between two checks whether the parent process is still there
SAFE_PATH = "PYTHONSAFEPATH"


@contextlib.contextmanager
def spawning() -> Iterator[None]:
    """Start processes in this block, so that they

    - do not run the user's script again, of which they need nothing;
    - import nothing from the working directory, which may be untrusted;
    - do not see Ctrl-C in a terminal: their parent asks them to stop.
    """
    with _without_main(), _safe_path(), _without_ctrl_c():
        yield


def end_with_parent() -> None:
    """End this process at once when its parent has gone: nobody would use its results."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(CHECK_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
