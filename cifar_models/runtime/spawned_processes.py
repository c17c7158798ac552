"""Processes that run functions of this package, started with Python's multiprocessing."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from multiprocessing import resource_tracker

SAFE_PATH = "PYTHONSAFEPATH"
_lock = threading.RLock()  # `spawning` changes what all threads share


@contextlib.contextmanager
def spawning() -> Iterator[None]:
    """Start processes in this block, so that they

    - do not run the user's script again, of which they need nothing;
    - do not import from the working directory, which may be untrusted, what Python's own modules
      are called;
    - do not see Ctrl-C in a terminal: their parent asks them to stop.
    """
    with _lock, _without_main(), _safe_path():
        # It would be started with the first process, and unblocks the signals afterwards.
        resource_tracker.ensure_running()
        with _without_ctrl_c():
            yield


def end_with_parent() -> None:
    """End this process at once when its parent has gone: nobody would use its results."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
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
