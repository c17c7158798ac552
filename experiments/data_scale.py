r"""Measure how reading, memory and training speed grow with the number of images in a folder.

    .venv/bin/python experiments/data_scale.py --images 50000 --folder images
    .venv/bin/python experiments/data_scale.py --images 2000 --folder photographs \
        --photographs --image-size 224 --torch-python PYTHON

It writes a folder of generated images of 32 pixels, or of photographs of 500 pixels that are cut
from two real ones, unless the folder exists. It reads every file once, so that nothing that is
measured waits for the disk. Then it prepares the folder in a new process, once into an empty cache
and once from it, and measures the training step of a recipe. With --torch-python, an interpreter
with torchvision, it also reads the same files with torchvision's ImageFolder, resized and cropped
alike, with one worker for each core.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

CLASSES = 10
READ = """
import json, sys, time
from cifar_models.benchmark.isolated_process import peak_of_process
from cifar_models.config.recipe_file import read_recipe
from cifar_models.data.load import load_dataset
recipe = read_recipe(sys.argv[1], sys.argv[2:])
before = peak_of_process()
began = time.perf_counter()
dataset = load_dataset(recipe)
seconds = time.perf_counter() - began
print(json.dumps([seconds, before, peak_of_process()]))
"""
TORCH = """
import sys, time, torch
from torchvision import datasets, transforms as t
size = int(sys.argv[2])
began = time.perf_counter()
change = t.Compose([t.Resize(size), t.CenterCrop(size), t.PILToTensor()])
folder = datasets.ImageFolder(sys.argv[1], change)
loader = torch.utils.data.DataLoader(folder, batch_size=256, num_workers=int(sys.argv[3]))
count = sum(len(labels) for _, labels in loader)
print(time.perf_counter() - began)
"""


def write_images(folder: Path, count: int, photographs: bool) -> None:
    """Write `count` images in CLASSES classes: noise of 32 pixels, or photographs of 500."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    sources = [Image.fromarray(image) for image in load_sample_images().images]
    for number in range(count):
        path = folder / f"class {number % CLASSES}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not photographs:
            image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8))
            image.save(path.with_suffix(".png"), compress_level=1)
            continue
        left, top = rng.integers(0, 140), rng.integers(0, 50)
        cut = sources[number % 2].crop((left, top, left + 500, top + 375))
        cut.save(path.with_suffix(".jpg"), quality=90)


def load_into_page_cache(folder: Path) -> None:
    """Read every file once, so that whoever is measured first does not wait for the disk."""
    paths = [path for path in folder.rglob("*.*") if path.is_file()]
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(lambda path: len(path.read_bytes()), paths):
            pass


def read(recipe: str, overrides: list[str], cache: str) -> list[float]:
    """Return seconds, and the peak memory before and after reading a folder in a new process."""
    from cifar_models.runtime.subprocesses import run_python

    output = run_python(
        ["-c", READ, recipe, *overrides],
        "reading failed",
        environment={"XDG_CACHE_HOME": cache},
    )
    return json.loads(output.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--photographs", action="store_true")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--recipe", default="cnn")
    parser.add_argument("--storage", choices=("memory", "disk"), default="disk")
    parser.add_argument("--torch-python")
    options = parser.parse_args()
    if not options.folder.exists():
        write_images(options.folder, options.images, options.photographs)
    load_into_page_cache(options.folder)
    overrides = [
        f"data.dataset='folder:{options.folder}'",
        f"data.storage={options.storage}",
        f"model.image_size={options.image_size}",
    ]
    report: dict[str, object] = {"images": options.images, "storage": options.storage}
    with tempfile.TemporaryDirectory() as cache:
        for name in ("first", "second"):
            seconds, before, after = read(options.recipe, overrides, cache)
            report[f"{name} reading, s"] = round(seconds, 1)
            report[f"{name} reading, MB"] = round((after - before) / 1e6)
        os.environ["XDG_CACHE_HOME"] = cache
        from cifar_models.benchmark.training_speed import measure_training_speeds
        from cifar_models.config.recipe_file import read_recipe

        (speed,) = measure_training_speeds([read_recipe(options.recipe, overrides)])
        report["training, images/s"] = round(speed.images_per_second)
        report["of the speed on one batch"] = round(speed.real_to_constant, 3)
        report["input, images/s"] = round(speed.input_images_per_second)
        report["peak memory, MB"] = round(speed.peak_memory_bytes / 1e6)
    if options.torch_python:
        from cifar_models.runtime.subprocesses import run_python

        arguments = ["-c", TORCH, str(options.folder), str(options.image_size)]
        began = time.perf_counter()
        output = run_python(
            [*arguments, str(os.cpu_count())], "torchvision failed", options.torch_python
        )
        report["torchvision, s"] = round(float(output), 1)
        report["torchvision with start, s"] = round(time.perf_counter() - began, 1)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
