"""`serve`: load models, and answer until a signal asks to stop."""

import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cifar_models.data.image_file import quiet_pillow
from cifar_models.errors import RequestError
from cifar_models.runtime.signals import StopRequest, stop_request
from cifar_models.server.app import create_app
from cifar_models.server.served_model import load_models

HOST = "127.0.0.1"
MAX_CONNECTIONS = 256
MAX_HEAD_BYTES = 65_536  # of a request
MAX_PIPELINED = 16  # requests of a connection that wait for the answer of an earlier one
HEAD_SECONDS = 10.0  # in which the head of a request must have arrived
ANSWER_SECONDS = 30.0  # after which a client that does not read an answer is disconnected
KEEP_ALIVE_SECONDS = 30
STOP_SECONDS = 10  # in which requests may end after a signal


class _LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with limits on connections, on the head of a request and on waiting."""

    _timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None
    _extra_bytes = 0  # of a request, without its body: its head, and what is around parts of a body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        self._extra_bytes += len(data)
        super().data_received(data)
        if self._extra_bytes > MAX_HEAD_BYTES:
            self.transport.abort()
        elif not self._is_waiting():
            self._stop_timer()
        elif self._timer is None:
            self._start_timer()

    def on_headers_complete(self) -> None:
        # The head may have arrived with the rest of the request.
        if sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            raise ValueError("the head is too long")  # answered by 400
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests that nobody has answered")  # answered by 400
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._extra_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._extra_bytes = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._answer_timer = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_answer_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_answer_timer()
        super().connection_lost(exc)

    def _is_waiting(self) -> bool:
        """Return whether a request, or the rest of one that is answered already, is missing."""
        return self.cycle is None or self.cycle.response_complete

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._close_if_waiting)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_answer_timer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _close_if_waiting(self) -> None:
        self._timer = None
        if self._is_waiting():
            self.transport.abort()


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves the signals to a StopRequest."""

    def __init__(self, config: uvicorn.Config, stop: StopRequest):
        super().__init__(config)
        self._stop = stop

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        self._stop.receive_signals()  # uvloop has taken them
        yield

    async def on_tick(self, counter: int) -> bool:
        return self._stop.is_requested() or await super().on_tick(counter)


def serve(paths: Sequence[Path], port: int) -> None:
    """Serve runs and exports to the browser and the programs of this computer.

    Args:
        paths: Paths of run folders and exports.
        port: TCP port; 0 chooses a free one.

    Raises:
        RequestError: A path is neither a finished run nor an export, a model takes images that are
            not square, or the port cannot be used.
        Interruption: A signal asked the server to stop. Requests have been answered before, if that
            takes no more than STOP_SECONDS.
    """
    with _listener(port) as listener, quiet_pillow():
        models = load_models(paths)
        gc.freeze()  # or each full collection visits the millions of objects of the libraries
        config = uvicorn.Config(
            create_app(models),
            http=_LimitedProtocol,
            ws="none",
            lifespan="on",
            proxy_headers=False,
            server_header=False,
            access_log=False,
            log_level=logging.ERROR,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        address = f"http://{HOST}:{listener.getsockname()[1]}"
        print(f"{', '.join(models)}: {address}  (Ctrl-C stops)", flush=True)
        with stop_request() as stop:
            with (
                stop.deferred("the requests are answered"),
                asyncio.Runner(loop_factory=config.get_loop_factory()) as runner,  # of uvloop
            ):
                runner.run(_Server(config, stop).serve(sockets=[listener]))
            stop.raise_if_requested("stopped")


def _listener(port: int) -> socket.socket:
    """Return a socket that listens, so that a taken port is known before models are loaded."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise RequestError(f"--port {port}: {error.strerror}; choose another") from None
    return listener
