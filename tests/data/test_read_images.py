"""Reading with threads and with processes."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_models.data import read_images
from cifar_models.data.image_file import ReadImage
from cifar_models.errors import RunError
from tests.conftest import write_noise_images


@pytest.fixture
def paths(tmp_path) -> list[str]:
    """Return the paths of 40 images and of a file that is none."""
    folder = write_noise_images(tmp_path / "images", ("cat", "dog"), 20)
    (folder / "cat" / "damaged.png").write_bytes(b"no image")
    return [str(path) for path in sorted(folder.rglob("*.png"))]


@pytest.fixture
def few_for_processes(monkeypatch):
    monkeypatch.setattr(read_images, "FILES_PER_PROCESS", 10)
    monkeypatch.setattr(read_images, "SMALL_FILES_PER_TASK", 4)
    monkeypatch.setattr(read_images, "SAMPLED_FILES", 5)
    monkeypatch.setattr(read_images, "usable_cores", lambda: 2)


def _pool_for(paths):
    pool, _ = read_images._make_pool(len(paths), read_images._are_small(paths))
    return pool


def test_processes_read_what_pillow_reads_in_the_order_of_the_paths(paths, few_for_processes):
    assert isinstance(_pool_for(paths), ProcessPoolExecutor)
    results = list(read_images.read_all(paths, 8, "stretch"))
    assert [path for path, _ in results] == paths
    for path, result in results:
        if Path(path).name == "damaged.png":
            assert isinstance(result, str) and "cannot identify" in result
            continue
        assert isinstance(result, ReadImage)
        with Image.open(path) as image:
            expected = np.asarray(image.convert("RGB").resize((8, 8), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(result.pixels, expected)


def test_large_files_are_read_with_threads(paths, few_for_processes, monkeypatch):
    monkeypatch.setattr(read_images, "MAX_BYTES_OF_SMALL_FILES", 10)
    assert isinstance(_pool_for(paths), ThreadPoolExecutor)


def _die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_death_of_a_process_is_an_error(paths, few_for_processes, monkeypatch):
    monkeypatch.setattr(read_images, "_read_several", _die)
    with pytest.raises(RunError, match=r"read images from .*cat.* has died"):
        list(read_images.read_all(paths, 8, "crop"))
