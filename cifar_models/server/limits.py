"""What the server accepts: hosts, origins, sizes, rates and times."""

import asyncio
import re
import time
from collections import deque

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 64_000_000
MAX_UNSAID_BYTES = 1_000_000  # of a request that does not say its length
MAX_BYTES_AT_ONCE = 512_000_000  # of all requests that are being answered
BODY_SECONDS = 30.0  # in which a request must have arrived
MAX_REQUESTS_PER_SECOND = 2000  # over the last second, of all clients
LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; media-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Limits:
    """Middleware that refuses requests before the application sees them.

    A page of another site that a browser shows may send requests to this computer. Its `Origin` is
    another, and is refused. It may also give its own name this computer's address (DNS rebinding).
    Then the `Host` is another, and is refused.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp):
        self._app = app
        self._times: deque[float] = deque()
        self._bytes = 0  # of the requests that are being answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        length = _length(headers)
        status, problem = self._refusal(headers, length)
        if problem or length is None:
            response = JSONResponse({"error": problem}, status, headers=HEADERS)
            return await response(scope, receive, send)
        self._bytes += length
        try:
            await self._app(scope, _LimitedBody(receive, length), _with_headers(send))
        except _BodyRefused as refused:
            response = JSONResponse({"error": refused.problem}, refused.status, headers=HEADERS)
            await response(scope, receive, send)
        finally:
            self._bytes -= length

    def _refusal(self, headers: Headers, length: int | None) -> tuple[int, str]:
        """Return the status and the reason, "" if the request is accepted."""
        if not LOCAL_HOST.fullmatch(headers.get("host", "")):
            return 403, "the host must be localhost or 127.0.0.1"
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        is_navigation = headers.get("sec-fetch-mode") == "navigate"
        if origin not in (None, f"http://{headers['host']}") or (
            site not in ("none", "same-origin") and not is_navigation
        ):
            return 403, "pages of other origins may not use this server"
        if length is None:
            return 400, "the content length must be a number"
        if length > MAX_BODY_BYTES:
            return 413, f"a request may have {MAX_BODY_BYTES:,} bytes"
        if self._bytes + length > MAX_BYTES_AT_ONCE:
            return 503, "the server is reading too many files; try again later"
        now = time.monotonic()
        while self._times and self._times[0] < now - 1:
            self._times.popleft()
        if len(self._times) >= MAX_REQUESTS_PER_SECOND:
            return 429, f"more than {MAX_REQUESTS_PER_SECOND:,} requests in a second"
        self._times.append(now)
        return 200, ""


def _length(headers: Headers) -> int | None:
    """Return how long the body of a request may be, bytes. None: it says nonsense."""
    if "content-length" in headers:
        said = headers["content-length"]
        return int(said) if said.isdecimal() else None
    return MAX_UNSAID_BYTES if "transfer-encoding" in headers else 0


class _BodyRefused(Exception):
    def __init__(self, status: int, problem: str):
        super().__init__(problem)
        self.status, self.problem = status, problem


class _LimitedBody:
    """The `receive` of a request that ends if the body is too long or too slow."""

    def __init__(self, receive: Receive, max_bytes: int):
        self._receive = receive
        self._max_bytes = max_bytes
        self._bytes = 0
        self._deadline = time.monotonic() + BODY_SECONDS
        self._is_complete = False

    async def __call__(self) -> Message:
        if self._is_complete:  # what follows is only the end of the connection
            return await self._receive()
        try:
            message = await asyncio.wait_for(
                self._receive(), max(self._deadline - time.monotonic(), 0)
            )
        except TimeoutError:
            raise _BodyRefused(408, f"the request took more than {BODY_SECONDS:.0f} s") from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._max_bytes:
            raise _BodyRefused(
                413, f"a request may have {self._max_bytes:,} bytes, or say its length before"
            )
        self._is_complete = not message.get("more_body", False)
        return message


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            pairs = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message["headers"], *pairs]}
        await send(message)

    return send_with_headers
