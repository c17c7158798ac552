"""Compare `predict` and `serve` with the network alone, in images per second.

    .venv/bin/python experiments/serving_rates.py runs/my-run

Test images of the run are written as PNG files. In each round, the network predicts them from
memory in full batches, `predict` reads and predicts the files, and 64 clients send them to a
server, 1 and 16 in each request. The clients use the same cores as the server.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

CLIENTS = 64
PER_REQUEST = (1, 16)  # images


def write_files(images: np.ndarray, folder: Path) -> list[Path]:
    """Write images, uint8 (N, H, W, C), as PNG files, and return their paths."""
    from PIL import Image

    paths = [folder / f"{number:05d}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)
    return paths


def rate_of_clients(address: str, model: str, files: list[bytes], per_request: int = 1) -> float:
    """Return images per second of CLIENTS clients, which send files again and again.

    They write bytes to sockets, because an HTTP library took twice the server's time.
    """
    host, _, port = address.removeprefix("http://").partition(":")
    starts = range(0, len(files), per_request)
    requests = iter([_request(address, model, files[i : i + per_request]) for i in starts])

    async def send_some() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for request in requests:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length
            await reader.readexactly(int(length.group(1)))
        writer.close()

    async def send_all() -> None:
        await asyncio.gather(*(send_some() for _ in range(CLIENTS)))

    began = time.perf_counter()
    asyncio.run(send_all())
    return len(files) / (time.perf_counter() - began)


def _request(address: str, model: str, files: list[bytes]) -> bytes:
    """Return an HTTP request with files as multipart/form-data."""
    mark = b"0123456789abcdef"
    head_of_part = (
        b"--%b\r\nContent-Disposition: form-data; name=files; filename=x.png\r\n"
        b"Content-Type: image/png\r\n\r\n" % mark
    )
    body = b"".join(head_of_part + content + b"\r\n" for content in files) + b"--%b--\r\n" % mark
    head = (
        f"POST /api/predict?model={model} HTTP/1.1\r\nHost: {address.removeprefix('http://')}\r\n"
        f"Content-Type: multipart/form-data; boundary={mark.decode()}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from cifar_models.run.load import load_run

    run = load_run(options.run)
    classifier = run.classifier
    images = run.load_dataset().test.images_at(slice(options.images))
    size = classifier.batch_size_for(len(images))
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(images, Path(folder))
        names, contents = [str(path) for path in paths], [path.read_bytes() for path in paths]
        command = [sys.executable, "-m", "cifar_models", "serve", str(options.run), "--port", "0"]
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )
        try:
            assert server.stdout
            line = next(line for line in server.stdout if "http://" in line)
            address = re.search(r"http://[\w.]+:\d+", line).group()
            model = options.run.resolve().name
            classifier.probabilities(images[:size], size)
            rate_of_clients(address, model, contents[:CLIENTS])
            rows = []
            for _ in range(options.rounds):
                began = time.perf_counter()
                for first in range(0, len(images), size):
                    classifier.probabilities(images[first : first + size], size)
                network = len(images) / (time.perf_counter() - began)
                began = time.perf_counter()
                assert sum(not each.problem for each in classifier.predict(names)) == len(images)
                predict = len(images) / (time.perf_counter() - began)
                rates = [rate_of_clients(address, model, contents, n) for n in PER_REQUEST]
                rows.append((network, predict, *rates))
                print(json.dumps([round(each, 1) for each in rows[-1]]), flush=True)
        finally:
            server.kill()
    served = [f"serve, {n} in a request" for n in PER_REQUEST]
    for column, name in enumerate(["predict", *served], 1):
        ratios = sorted(row[column] / row[0] for row in rows)
        rate = statistics.median(row[column] for row in rows)
        print(
            f"{name}: {rate:.0f} images/s, {statistics.median(ratios):.2f} of the network "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {len(rows)} rounds)"
        )


if __name__ == "__main__":
    main()
