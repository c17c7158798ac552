"""Ctrl-C and SIGTERM: finish the step, save, stop. A second Ctrl-C ends the process at once."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption(KeyboardInterrupt):
    """A signal ended the work; no `except Exception` on the way takes it for a failure."""

    def __init__(self, signal_number: int, message: str = "interrupted"):
        super().__init__(message)
        self.exit_status = 128 + signal_number  # as a shell counts: 130 and 143


class StopRequest:
    """Whether somebody asked this process to stop.

    While `deferred`, a signal is only noted, and the code that deferred it calls
    `raise_if_requested` when it can stop. Otherwise a signal raises at once.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.is_deferred = False

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        self.is_deferred = True
        try:
            yield
        finally:
            self.is_deferred = False

    def is_requested(self) -> bool:
        return self.signal_number is not None

    def raise_if_requested(self, message: str = "interrupted") -> None:
        """Raises Interruption if a signal came."""
        if self.signal_number is not None:
            raise Interruption(self.signal_number, message)

    def _note(self, signal_number: int, frame: object) -> None:
        self.signal_number = signal_number
        if not self.is_deferred:
            self.raise_if_requested()


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Listens for the two signals until the block ends; outside the main thread, for none.

    Python runs its signal handlers between two instructions of its main thread, and one call of
    TensorFlow may take minutes. A thread that the system itself wakes sees the second Ctrl-C.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    previous = {number: signal.signal(number, request._note) for number in STOP_SIGNALS}
    previous_mouth = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(ear, request), daemon=True).start()
    try:
        yield request
    finally:
        signal.set_wakeup_fd(previous_mouth)
        for number, handler in previous.items():
            signal.signal(number, handler)
        mouth.close()  # ends the thread


def _listen(ear: socket.socket, request: StopRequest) -> None:
    interrupts = 0
    with ear:
        while number := ear.recv(1):
            interrupts += number[0] == signal.SIGINT
            if interrupts > 1:
                sys.stderr.write("\x1b[?25h" if sys.stderr.isatty() else "")  # show the cursor
                sys.stderr.flush()
                os._exit(128 + signal.SIGINT)
            if request.is_deferred:
                print("\nstopping when all is saved; Ctrl-C again stops at once", file=sys.stderr)
