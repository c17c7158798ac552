"""Ctrl-C and SIGTERM: finish the step, save and stop. A second Ctrl-C stops at once."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption(KeyboardInterrupt):
    """Interruption by a signal. As a KeyboardInterrupt, it is not caught by `except Exception`.

    Args:
        signal_number: Number of the signal.
        message: One line for the user.
    """

    def __init__(self, signal_number: int, message: str = "interrupted"):
        super().__init__(message)
        self.exit_status = 128 + signal_number  # the convention of shells: 130 and 143


class StopRequest:
    """Request by a signal to stop this process.

    While `deferred` is active, a signal is only recorded, and the code that deferred it calls
    `raise_if_requested` when it can stop. Otherwise a signal raises Interruption at once.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.is_deferred = False

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Record signals until the block ends, instead of raising Interruption."""
        self.is_deferred = True
        try:
            yield
        finally:
            self.is_deferred = False

    def is_requested(self) -> bool:
        """Return whether a signal asked this process to stop."""
        return self.signal_number is not None

    def raise_if_requested(self, message: str = "interrupted") -> None:
        """Raise Interruption if a signal asked this process to stop."""
        if self.signal_number is not None:
            raise Interruption(self.signal_number, message)

    def _handle(self, signal_number: int, frame: object) -> None:
        self.signal_number = signal_number
        if not self.is_deferred:
            self.raise_if_requested()


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Handle Ctrl-C and SIGTERM until the block ends, if this is the main thread.

    Python runs its signal handlers between two instructions of its main thread, and one call of
    TensorFlow may take minutes. Therefore, a thread that the operating system wakes handles the
    second Ctrl-C.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    previous = {number: signal.signal(number, request._handle) for number in STOP_SIGNALS}
    previous_descriptor = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_receive_signals, args=(receiver, request), daemon=True).start()
    try:
        yield request
    finally:
        signal.set_wakeup_fd(previous_descriptor)
        for number, handler in previous.items():
            signal.signal(number, handler)
        sender.close()  # ends the thread


def _receive_signals(receiver: socket.socket, request: StopRequest) -> None:
    """Announce a deferred stop, and end the process at the second Ctrl-C."""
    interrupts = 0
    with receiver:
        while number := receiver.recv(1):
            interrupts += number[0] == signal.SIGINT
            if interrupts > 1:
                sys.stderr.write("\x1b[?25h" if sys.stderr.isatty() else "")  # show the cursor
                sys.stderr.flush()
                os._exit(128 + signal.SIGINT)
            if request.is_deferred:
                message = "\nstopping after the state is saved; Ctrl-C again stops at once"
                print(message, file=sys.stderr)
