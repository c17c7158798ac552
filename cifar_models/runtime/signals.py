"""Ctrl-C, SIGTERM and SIGHUP: finish the step, save and stop. A second Ctrl-C stops at once.

The signal handler notes the request and, outside of a fit, raises Interruption. The note is what
counts: Python drops an exception that is raised within `__del__`, the callback of a weak reference
or a callback from C, and a library may turn it into an error of its own. Therefore, every block of
work ends with `obey_stop`, which raises Interruption as long as the request stands. Within a fit,
`obey_stop` waits too, because an epoch must be validated before its state can be saved.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from cifar_models.errors import RequestError, RunError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption(KeyboardInterrupt):
    """Interruption by a signal. As a KeyboardInterrupt, it is not caught by `except Exception`.

    Args:
        signal_number: Number of the signal.
        message: One line for the user.
    """

    def __init__(self, signal_number: int, message: str = "interrupted"):
        super().__init__(message)
        self.exit_status = 128 + signal_number  # the convention of shells: 130, 143, 129


class StopRequest:
    """Request by a signal to stop this process.

    While `deferred` is active, a signal is only noted, and the code that deferred it calls
    `raise_if_requested` when it can stop. Otherwise a signal raises Interruption at once.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.is_deferred = False
        self.deferred_until = ""  # what ends first, in the words of a message
        self.has_begun = False  # whether a signal may raise
        self.descriptor = -1  # to which the operating system writes; -1: not in this thread

    def receive_signals(self) -> None:
        """Let the operating system write signals to this request again, as at its beginning.

        An event loop that has begun since may have taken the descriptor of signals.
        """
        if self.descriptor >= 0:
            signal.set_wakeup_fd(self.descriptor, warn_on_full_buffer=False)

    @contextlib.contextmanager
    def deferred(self, until: str = "the state is saved") -> Iterator[None]:
        """Only note signals until the block ends, instead of raising Interruption.

        Args:
            until: What the message on a signal says that the process waits for.
        """
        before, self.is_deferred = self.is_deferred, True
        self.deferred_until = until
        try:
            yield
        finally:
            self.is_deferred = before

    def is_requested(self) -> bool:
        """Return whether a signal asked this process to stop."""
        return self.signal_number is not None

    def raise_if_requested(self, message: str = "interrupted") -> None:
        """Raise Interruption if a signal asked this process to stop."""
        if self.signal_number is not None:
            raise Interruption(self.signal_number, message)

    def _handle(self, signal_number: int, frame: object) -> None:
        self.signal_number = signal_number
        if self.has_begun and not self.is_deferred:
            self.raise_if_requested()


_current: StopRequest | None = None  # of the outermost `stop_request` block


def obey_stop() -> None:
    """Raise Interruption if a signal asked this process to stop. Every block of work ends here.

    Where stops are deferred, the code that deferred them raises it instead, once it has saved.
    """
    if _current is not None and not _current.is_deferred:
        _current.raise_if_requested()


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Handle Ctrl-C, SIGTERM and SIGHUP until the block ends, if this is the main thread.

    A signal that is ignored stays ignored, such as SIGHUP under `nohup`, and Ctrl-C in a background
    job of a script.

    A block within another one shares its request. The end of the outermost block obeys a request
    that nothing has obeyed yet, also if the block ends with an error that is not for the user:
    Interruption may have become that error.

    Python runs its signal handlers between two instructions of its main thread, and one call of
    TensorFlow may take minutes. Therefore, a thread that the operating system wakes handles the
    second Ctrl-C.
    """
    if _current is not None:
        yield _current
        return
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    try:
        with _handlers(request):  # a signal while they are installed or removed is only noted
            try:
                request.has_begun = True
                request.raise_if_requested()
                yield request
            finally:
                request.has_begun = False
    except (RequestError, RunError):
        raise
    except Exception:
        request.raise_if_requested()
        raise
    request.raise_if_requested()


@contextlib.contextmanager
def _handlers(request: StopRequest) -> Iterator[None]:
    """Direct the signals of this process to a request until the block ends."""
    global _current
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    heeded = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, request._handle) for number in heeded}
    request.descriptor = sender.fileno()
    previous_descriptor = signal.set_wakeup_fd(request.descriptor, warn_on_full_buffer=False)
    previous_hooks = sys.unraisablehook, sys.excepthook
    sys.unraisablehook = _report_unraisable(sys.unraisablehook, request)
    sys.excepthook = _report_uncaught(sys.excepthook, request)
    threading.Thread(target=_receive_signals, args=(receiver, request), daemon=True).start()
    _current = request
    try:
        yield
    finally:
        _current = None
        sys.unraisablehook, sys.excepthook = previous_hooks
        signal.set_wakeup_fd(previous_descriptor)
        request.descriptor = -1
        for number, handler in previous.items():  # None: a handler that Python did not install
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        sender.close()  # ends the thread


def _report_unraisable(
    report: Callable[[Any], object], request: StopRequest
) -> Callable[[Any], None]:
    """Return a hook for dropped exceptions that prints no traceback of an Interruption.

    After one, the finalizers of libraries may fail because of it. They are not reported either.
    """

    def hook(unraisable: Any) -> None:
        if not (issubclass(unraisable.exc_type, Interruption) or request.is_requested()):
            report(unraisable)

    return hook


def _report_uncaught(report: Callable[..., object], request: StopRequest) -> Callable[..., None]:
    """Return a hook for uncaught exceptions that is silent after an Interruption.

    Within a `stop_request` block, only finalizers written in Cython call it.
    """

    def hook(*error: Any) -> None:
        if not request.is_requested():
            report(*error)

    return hook


def _receive_signals(receiver: socket.socket, request: StopRequest) -> None:
    """Announce a deferred stop, and end the process at the second Ctrl-C."""
    interrupts = 0
    with receiver:
        while number := receiver.recv(1):
            interrupts += number[0] == signal.SIGINT
            if interrupts > 1:
                with contextlib.suppress(OSError):  # the terminal may be closed
                    sys.stderr.write("\x1b[?25h" if sys.stderr.isatty() else "")  # show the cursor
                    sys.stderr.flush()
                os._exit(128 + signal.SIGINT)
            if request.is_deferred and number[0] in STOP_SIGNALS:
                until = request.deferred_until
                message = f"\nstopping after {until}; Ctrl-C again stops at once"
                with contextlib.suppress(OSError):
                    print(message, file=sys.stderr, flush=True)
