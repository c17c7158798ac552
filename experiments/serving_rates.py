"""Compare `predict` and `serve` with the network alone, in images per second.

    .venv/bin/python experiments/serving_rates.py runs/my-run

Test images of the run are written as PNG files. In each round, the network predicts them from
memory in full batches, `predict` reads and predicts the files, and 64 clients send them to a
server, one file in each request. The clients use the same cores as the server.
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


def write_files(images: np.ndarray, folder: Path) -> list[Path]:
    """Write images, uint8 (N, H, W, C), as PNG files, and return their paths."""
    from PIL import Image

    paths = [folder / f"{number:05d}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)
    return paths


def rate_of_clients(address: str, model: str, files: list[bytes]) -> float:
    """Return images per second of CLIENTS clients, which send a file each, again and again."""
    import httpx

    async def send_all() -> None:
        limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
        waiting = iter(files)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=120) as client:

            async def send_some() -> None:
                for content in waiting:
                    answer = await client.post(
                        "/api/predict", params={"model": model}, files={"files": content}
                    )
                    answer.raise_for_status()

            await asyncio.gather(*(send_some() for _ in range(CLIENTS)))

    began = time.perf_counter()
    asyncio.run(send_all())
    return len(files) / (time.perf_counter() - began)


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
                rows.append((network, predict, rate_of_clients(address, model, contents)))
                print(json.dumps([round(each, 1) for each in rows[-1]]), flush=True)
        finally:
            server.kill()
    for name, column in (("predict", 1), ("serve", 2)):
        ratios = sorted(row[column] / row[0] for row in rows)
        rate = statistics.median(row[column] for row in rows)
        print(
            f"{name}: {rate:.0f} images/s, {statistics.median(ratios):.2f} of the network "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {len(rows)} rounds)"
        )


if __name__ == "__main__":
    main()
