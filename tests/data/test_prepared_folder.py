"""Images that are prepared on the disk equal those in memory; changed ones are read again."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe, with_values
from cifar_models.data import prepared_folder, read_images
from cifar_models.data.cache import cache_folder
from cifar_models.data.dataset import Dataset, data_sha256
from cifar_models.data.load import load_dataset
from cifar_models.data.pixel_file import DiskSplit, PixelFile
from tests.conftest import (
    SAVE_EVERY_STEP,
    TINY_CNN,
    as_overrides,
    outcome_of,
    run_until_killed,
    write_noise_images,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def images(tmp_path) -> Path:
    return write_noise_images(tmp_path / "images", ("cat", "dog"), 40)


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Return the names of the image files that are read, as they are read."""
    names: list[str] = []
    real = read_images.read_image

    def read_image(path, *options):
        names.append(path.name)
        return real(path, *options)

    monkeypatch.setattr(read_images, "read_image", read_image)
    return names


def load(root: Path, storage: str, size: int = 8, **data: str) -> Dataset:
    keys = {"storage": storage, **data}
    overrides = [f"data.{key}={value}" for key, value in keys.items()]
    recipe = read_recipe("digits-cnn", [f"data.dataset='folder:{root}'", *overrides])
    return load_dataset(with_values(recipe, {"model.image_size": size}))


def prepared_file(name: str) -> Path:
    (path,) = cache_folder().rglob(name)
    return path


def assert_equal(one: Dataset, other: Dataset) -> None:
    for part in ("train", "test"):
        first, second = getattr(one, part), getattr(other, part)
        np.testing.assert_array_equal(first.images_at(slice(None)), second.images_at(slice(None)))
        np.testing.assert_array_equal(first.labels, second.labels)
        assert list(first.files) == list(second.files)
    assert data_sha256(one) == data_sha256(other)


def test_images_on_the_disk_equal_those_in_memory(images):
    (images / "cat" / "bad.png").write_bytes(b"")
    memory, disk = (load(images, storage, bad_files="skip") for storage in ("memory", "disk"))
    assert isinstance(disk.train, DiskSplit)
    assert_equal(memory, disk)
    assert memory.findings == disk.findings
    order = np.random.default_rng(0).permutation(len(disk.train))[:20]
    np.testing.assert_array_equal(disk.train.images_at(order), memory.train.images_at(order))
    np.testing.assert_array_equal(
        disk.train.subset(order).images_at(np.array([3, 4, 4, 0])),
        memory.train.images_at(order[[3, 4, 4, 0]]),
    )


def test_a_second_run_reads_only_what_has_changed(images, opened):
    load(images, "disk")
    assert len(opened) == 80
    opened.clear()
    load(images, "disk")
    assert opened == []
    Image.new("RGB", (8, 8), "red").save(images / "dog" / "7.png")
    write_noise_images(images / "more", ("x",), 1)
    (images / "more" / "x" / "0.png").rename(images / "cat" / "new.png")
    (images / "more" / "x").rmdir()
    (images / "more").rmdir()
    changed = load(images, "disk")
    assert sorted(opened) == ["7.png", "new.png"]
    assert_equal(changed, load(images, "memory"))


def test_files_that_were_exchanged_are_read_again(images, opened):
    """Two BMPs have the same size, and an archive may give them the same time."""
    paths = [images / name / "swapped.bmp" for name in ("cat", "dog")]
    for path, colour in zip(paths, ("red", "blue"), strict=True):
        Image.new("RGB", (8, 8), colour).save(path)
        os.utime(path, ns=(10**18, 10**18))
    load(images, "disk")
    opened.clear()
    paths[0].rename(images / "x.bmp")
    paths[1].rename(paths[0])
    (images / "x.bmp").rename(paths[1])
    changed = load(images, "disk")
    assert opened == ["swapped.bmp"] * 2
    assert_equal(changed, load(images, "memory"))


def test_the_file_of_pixels_does_not_grow_for_ever(images, monkeypatch):
    monkeypatch.setattr(prepared_folder, "FILES_PER_BLOCK", 8)
    load(images, "disk")
    size = prepared_file("pixels.bin").stat().st_size
    first = load(images, "disk")
    before = first.train.images_at(slice(None))
    for _ in range(4):
        for path in images.rglob("*.png"):
            path.touch()
        changed = load(images, "disk")
        assert prepared_file("pixels.bin").stat().st_size <= 3 * size + 8 * 192
    load(images, "disk")
    assert prepared_file("pixels.bin").stat().st_size <= 2 * size + 8 * 192
    assert_equal(changed, load(images, "memory"))
    np.testing.assert_array_equal(first.train.images_at(slice(None)), before)


def test_files_that_were_removed_do_not_stay_in_the_cache(images, monkeypatch):
    monkeypatch.setattr(prepared_folder, "FILES_PER_BLOCK", 8)
    load(images, "disk")
    size = prepared_file("pixels.bin").stat().st_size
    for day in range(4):
        for path in sorted(images.rglob("*.png")):
            path.replace(path.with_name(f"{day}-{path.name.rpartition('-')[2]}"))
        load(images, "disk")
        assert prepared_file("pixels.bin").stat().st_size <= 4 * size + 8 * 192
    assert_equal(load(images, "disk"), load(images, "memory"))


def test_pixels_that_a_power_cut_has_lost_are_prepared_again(images, monkeypatch):
    """Most entries are of an older state, so that the rest would be moved to a new file."""
    monkeypatch.setattr(prepared_folder, "FILES_PER_BLOCK", 8)
    load(images, "disk")
    for _ in range(2):
        for path in images.rglob("*.png"):
            path.touch()
        load(images, "disk")
    pixels = prepared_file("pixels.bin")
    os.truncate(pixels, pixels.stat().st_size - 10 * 192)
    assert_equal(load(images, "disk"), load(images, "memory"))
    assert_equal(load(images, "disk"), load(images, "memory"))


PREPARE = """
import sys
from pathlib import Path
from tests.data.test_prepared_folder import load
from cifar_models.data.dataset import data_sha256
print(data_sha256(load(Path(sys.argv[1]), "disk")))
"""


@pytest.mark.slow
def test_two_processes_that_prepare_one_folder_read_each_file_once(images):
    command = [sys.executable, "-c", PREPARE, str(images)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0].split()[-1] for process in processes]
    assert outputs == [data_sha256(load(images, "memory"))] * 2
    assert prepared_file("pixels.bin").stat().st_size == 80 * 192


def test_another_size_or_geometry_is_prepared_anew(images, opened):
    for options in ({}, {"size": 16}, {"resize": "pad"}):
        opened.clear()
        load(images, "disk", **options)
        assert len(opened) == 80


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "index", "page of the index"])
def test_damaged_files_of_the_cache_are_made_again(images, damage):
    load(images, "disk")
    path = prepared_file("index.sqlite" if "index" in damage else "pixels.bin")
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[len(content) // 2] ^= 255
        path.write_bytes(
            {
                "flipped": content,
                "cut": content[: len(content) // 2],
                "index": b"x" * 5000,
                "page of the index": content[:4096] + bytes(4096) + content[8192:],
            }[damage]
        )
    assert_equal(load(images, "disk"), load(images, "memory"))


def test_files_that_cannot_be_read_are_tried_again(images, opened):
    bad = images / "cat" / "bad.png"
    bad.write_bytes(b"")
    load(images, "disk", bad_files="skip")
    opened.clear()
    assert load(images, "disk", bad_files="skip").findings.unusable
    assert opened == ["bad.png"]
    Image.new("RGB", (8, 8), "red").save(bad)
    assert_equal(load(images, "disk"), load(images, "memory"))


KILLED = """
import os, signal, sys
from pathlib import Path
from cifar_models.data import read_images
from tests.data.test_prepared_folder import load
real, count = read_images.read_image, 0
def read_image(*arguments):
    global count
    count += 1
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
read_images.read_image = read_image
load(Path(sys.argv[1]), "disk")
"""


def test_a_kill_while_preparing_loses_only_the_last_files(images, opened, monkeypatch):
    monkeypatch.setattr("cifar_models.data.prepared_folder.FILES_PER_BLOCK", 10)
    program = (
        "from cifar_models.data import prepared_folder, read_images\n"
        "prepared_folder.FILES_PER_BLOCK = 10\n"
        "read_images.SMALL_FILES_PER_TASK, read_images.WAITING_FILES = 2, 4\n"
        "read_images.usable_cores = lambda: 1\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program + KILLED, str(images), "60"], env={**os.environ}
    )
    assert result.returncode == -signal.SIGKILL
    index = sqlite3.connect(prepared_file("index.sqlite"))
    (known,) = index.execute("SELECT COUNT(*) FROM images").fetchone()
    index.close()
    disk = load(images, "disk")
    assert len(opened) == 80 - known <= 40
    assert_equal(disk, load(images, "memory"))


def test_the_file_of_pixels_is_read_by_number(tmp_path):
    images = np.arange(5 * 12, dtype=np.uint8).reshape(5, 2, 2, 3)
    (tmp_path / "x.bin").write_bytes(images.tobytes())
    pixels = PixelFile(tmp_path / "x.bin", (2, 2, 3))
    for numbers in ([], [0], [4, 0, 1, 2, 2], [0, 1, 2, 3, 4]):
        found = pixels.read(np.array(numbers, np.int64))
        np.testing.assert_array_equal(found, images[numbers])
    with pytest.raises(OSError, match="ends before image 5"):
        pixels.read(np.array([4, 5]))


@pytest.mark.slow
def test_a_run_from_the_disk_equals_one_from_memory_also_if_it_is_killed(images, tmp_path):
    options = [
        *TINY_CNN,
        *as_overrides([f"data.dataset='folder:{images}'", "training.batch_size=8"]),
        "--deterministic",
    ]
    outcomes = {}
    for storage in ("memory", "disk"):
        run = tmp_path / storage
        assert main([*options, "--set", f"data.storage={storage}", "--run", str(run)]) == 0
        outcomes[storage] = outcome_of(run)
    assert outcomes["memory"] == outcomes["disk"]
    run = tmp_path / "killed"
    command = [*options, *SAVE_EVERY_STEP, "--set", "data.storage=disk", "--run", str(run)]
    run_until_killed(5, command)
    assert main(["resume", str(run)]) == 0
    assert outcome_of(run) == outcomes["memory"]
