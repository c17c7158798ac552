"""The running server: many clients, slow clients, and its end."""

import asyncio
import contextlib
import http.client
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

pytest.importorskip("starlette", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("httptools", reason="needs the extra serve")
pytest.importorskip("python_multipart", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")
import httpx

from cifar_models.cli.main import main
from cifar_models.run.load import load_run
from cifar_models.runtime.signals import STOP_SIGNALS
from cifar_models.server.serve import MAX_CONNECTIONS
from tests.conftest import refusal

CLIENTS, REQUESTS = 64, 640
# The command, with short times.
PROGRAM = """
import sys
from cifar_models.server import limits, serve
limits.BODY_SECONDS = serve.HEAD_SECONDS = serve.ANSWER_SECONDS = 1.0
from cifar_models.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def server(finished_run):
    """Start a server of a run, and return its process and its address."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "serve", str(finished_run), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    line = next(line for line in process.stdout if "http://" in line)
    yield process, re.search(r"http://127\.0\.0\.1:\d+", line).group()
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_no_answer_is_lost_with_many_clients(server, finished_run):
    _, address = server
    images = np.random.default_rng(0).integers(0, 256, (REQUESTS, 8, 8, 1))

    async def predict_all() -> list[list[float]]:
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as client:
            (model,) = (await client.get("/api/models")).json()

            async def predict(image: np.ndarray) -> list[float]:
                content = {"instances": [image.tolist()]}
                response = await client.post(f"/v1/models/{model['name']}:predict", json=content)
                return response.json()["predictions"][0]["probabilities"]

            return await asyncio.gather(*map(predict, images))

    found = asyncio.run(predict_all())
    logits = load_run(finished_run).network(images.astype(np.uint8), training=False).numpy()
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)
def test_a_signal_ends_the_server(number, server):
    process, address = server
    assert httpx.get(f"{address}/api/models").status_code == 200
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number and "Traceback" not in output


def connect(address: str) -> socket.socket:
    """Return a connection to the server."""
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)))


@pytest.mark.slow
def test_a_second_interrupt_ends_the_server_although_a_request_is_pending(server):
    process, address = server
    (model,) = httpx.get(f"{address}/api/models").json()
    with connect(address) as connection:
        path = f"/v1/models/{model['name']}:predict"
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        connection.sendall(f"{head}{{".encode())  # the rest of the body may take a second
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.stdout
        line = next(line for line in process.stdout if line.strip())
        assert "stopping after the requests are answered; Ctrl-C again stops at once" in line
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 128 + signal.SIGINT
        assert time.monotonic() - began < 0.5


@pytest.mark.slow
def test_a_pending_request_is_answered_after_a_signal(server):
    process, address = server
    (model,) = httpx.get(f"{address}/api/models").json()
    with connect(address) as connection:
        connection.settimeout(10)
        path = f"/v1/models/{model['name']}:predict"
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"
        connection.sendall(f"{head}{{".encode())
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        connection.sendall(b"}")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400 ")  # neither instances nor inputs
    assert process.wait(timeout=10) == 128 + signal.SIGTERM


@pytest.mark.slow
def test_more_connections_than_allowed_are_closed(server):
    _, address = server
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(address)) for _ in range(MAX_CONNECTIONS)]
        connections[-1].sendall(b"GET /api/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connections[-1].recv(100).startswith(b"HTTP/1.1 200 ")
        with connect(address) as one_more:
            one_more.settimeout(10)
            assert answer_of(one_more, b"") == b""
    assert httpx.get(f"{address}/api/models").status_code == 200


@pytest.mark.slow
def test_trailers_without_an_end_are_refused(server):
    process, address = server
    (model,) = httpx.get(f"{address}/api/models").json()
    before = psutil.Process(process.pid).memory_info().rss
    with connect(address) as connection:
        path = f"/v1/models/{model['name']}:predict"
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(f"{head}0\r\n".encode())
        with pytest.raises(ConnectionError):
            for number in range(100_000):
                connection.sendall(b"X-%d: %s\r\n" % (number, 1000 * b"x"))
    assert psutil.Process(process.pid).memory_info().rss - before < 20_000_000
    assert httpx.get(f"{address}/api/models").status_code == 200


def answer_of(connection: socket.socket, sent: bytes) -> bytes:
    """Send bytes again and again, and return what the server answers before it closes."""
    answer = b""
    try:
        while True:
            connection.sendall(sent)
            received = connection.recv(4096)
            if not received:
                return answer
            answer += received
    except ConnectionError:
        return answer


@pytest.mark.slow
def test_slow_clients_are_disconnected_and_others_are_answered(server):
    _, address = server
    name = httpx.get(f"{address}/api/models").json()[0]["name"]
    head = f"POST /v1/models/{name}:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
    starts = [b"", head.encode(), f"{head}\r\n{{".encode()]  # nothing, half a head, half a body
    slow = [connect(address) for _ in range(12)]
    for number, connection in enumerate(slow):
        connection.settimeout(10)
        connection.sendall(starts[number % 3])
    assert httpx.get(f"{address}/api/models").status_code == 200
    began = time.monotonic()
    for number, connection in enumerate(slow):
        answer = answer_of(connection, b"1" if number % 3 else b"")
        assert answer == b"" if number % 3 < 2 else answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 30
    assert httpx.get(f"{address}/api/models").status_code == 200


@pytest.mark.slow
def test_one_connection_may_send_many_requests(server):
    _, address = server
    (model,) = httpx.get(f"{address}/api/models").json()
    connection = http.client.HTTPConnection(address.removeprefix("http://"))
    connection.connect()
    connection.auto_open = 0  # an error if the server closes it
    for size in (10, 1000, 60_000, 60_000, 120_000, 10):
        connection.request("POST", f"/v1/models/{model['name']}:predict", b"x" * size)
        answer = connection.getresponse()
        assert answer.status == 400 and b"is no JSON" in answer.read()
    connection.close()


@pytest.mark.slow
def test_a_head_without_an_end_is_refused(server):
    process, address = server
    before = psutil.Process(process.pid).memory_info().rss
    with connect(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        with pytest.raises(ConnectionError):
            for number in range(100_000):
                connection.sendall(b"X-%d: %s\r\n" % (number, 1000 * b"x"))
    with connect(address) as connection:  # a head that arrives at once
        head = b"GET /api/models HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n" % (100_000 * b"x")
        connection.sendall(head)
        assert b" 200 " not in answer_of(connection, b"")
    assert psutil.Process(process.pid).memory_info().rss - before < 20_000_000
    assert httpx.get(f"{address}/api/models").status_code == 200


@pytest.mark.slow
def test_too_many_requests_before_an_answer_are_refused(server):
    _, address = server
    request = b"GET /api/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(address) as connection:
        connection.settimeout(10)
        connection.sendall(10 * request)
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 10:
            received += connection.recv(65_536)
        connection.sendall(1000 * request)
        with contextlib.suppress(ConnectionError):
            while more := connection.recv(65_536):
                received += more
        assert received.count(b"HTTP/1.1 ") < 40


@pytest.mark.slow
def test_a_client_that_does_not_read_is_disconnected(server):
    _, address = server
    request = b"GET /static/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(address) as connection:
        connection.settimeout(0.5)
        began = time.monotonic()
        with pytest.raises((ConnectionError, BrokenPipeError)):  # some of many
            while time.monotonic() - began < 60:
                with contextlib.suppress(TimeoutError):
                    connection.sendall(request)
                time.sleep(0.002)  # so that the server answers it before the next one
    assert httpx.get(f"{address}/api/models").status_code == 200


def test_wrong_requests(finished_run, tmp_path, monkeypatch, capsys):
    assert "must be 0 to 65535" in refusal(capsys, "serve", finished_run, "--port", "70000")
    assert str(tmp_path) in refusal(capsys, "serve", tmp_path, "--port", "0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", str(finished_run), "--port", str(port)]) == 2
        assert f"--port {port}: Address already in use" in capsys.readouterr().err
    monkeypatch.setattr("cifar_models.cli.serving_commands.find_spec", lambda name: None)
    error = refusal(capsys, "serve", finished_run)
    assert (
        "needs starlette, uvicorn, httptools, python_multipart, prometheus_client; install it"
        in error
    )
