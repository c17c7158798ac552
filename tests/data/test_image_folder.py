"""Image folders: splits, conversion of formats, and unusable files."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_models.config.recipe import DataConfig
from cifar_models.config.recipe_file import read_recipe, with_values
from cifar_models.data import read_images
from cifar_models.data.dataset import Dataset, data_sha256
from cifar_models.data.load import load_dataset
from cifar_models.data.memory import training_copies
from cifar_models.errors import RequestError
from cifar_models.runtime import memory


def save(path: Path, colour: tuple[int, int, int] = (10, 200, 30), mode: str = "RGB", **options):
    """Write an image of one colour, 12x9 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 9), colour).convert(mode).save(path, **options)


def write_two_classes(root: Path, count: int = 10) -> Path:
    """Write `count` images of each of two classes, whose blue value tells the class."""
    for name in ("cat", "dog"):
        for number in range(count):
            save(root / name / f"{number}.png", (number, 0, 255 * (name == "dog")))
    return root


def load(root: Path, size: int = 8, **data: str) -> Dataset:
    """Load an image folder with other values of keys of the `data` table."""
    overrides = [f"data.{key}={value}" for key, value in data.items()]
    recipe = read_recipe("digits-cnn", [f"data.dataset='folder:{root}'", *overrides])
    return load_dataset(with_values(recipe, {"model.image_size": size}))


def test_images_and_labels_are_paired_in_every_split(tmp_path):
    dataset = load(write_two_classes(tmp_path, 40))
    assert dataset.class_names == ("cat", "dog")
    assert len(dataset.train) + len(dataset.test) == 80
    assert 4 <= len(dataset.test) <= 30
    for split in (dataset.train, dataset.test):
        assert split.images.shape[1:] == (8, 8, 3) and split.images.dtype == np.uint8
        np.testing.assert_array_equal(split.images[:, 0, 0, 2] == 255, split.labels == 1)


def test_images_stay_in_their_split_when_others_are_added(tmp_path):
    """Each image has a colour of its own, so that no image of train may be found in test."""
    write_two_classes(tmp_path, 30)
    before = load(tmp_path)
    for name in ("cat", "dog"):
        for number in range(3):
            save(tmp_path / name / f"a{number}.png", (number, 99, 0))
    after = load(tmp_path)
    trained = {image.tobytes() for image in before.train.images}
    assert not trained & {image.tobytes() for image in after.test.images}


def test_the_folders_of_splits_are_the_splits(tmp_path):
    for name, count in (("train", 4), ("val", 3), ("test", 2)):
        write_two_classes(tmp_path / name, count)
    dataset = load(tmp_path)
    splits = dataset.splits(DataConfig(validation_fraction=0.1), seed=0)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (8, 6, 4)
    np.testing.assert_array_equal(splits.validation.images[:, 0, 0, 0], [0, 1, 2, 0, 1, 2])


def test_the_hash_of_the_data_covers_the_validation_folder(tmp_path):
    for name in ("train", "val", "test"):
        write_two_classes(tmp_path / name, 2)
    before = data_sha256(load(tmp_path))
    save(tmp_path / "val" / "cat" / "0.png", (1, 2, 3))
    assert data_sha256(load(tmp_path)) != before


def test_other_modes_and_formats_are_converted(tmp_path):
    write_two_classes(tmp_path)
    save(tmp_path / "cat" / "grey.png", mode="L")
    save(tmp_path / "cat" / "alpha.png", mode="RGBA")
    save(tmp_path / "cat" / "palette.gif", mode="P")
    save(tmp_path / "cat" / "print.jpg", mode="CMYK")
    save(tmp_path / "cat" / "modern.webp")
    dataset = load(tmp_path)
    assert len(dataset.train) + len(dataset.test) == 25


def add_unusable_files(root: Path) -> list[Path]:
    """Add three files that are no images, and return their paths."""
    content = (root / "cat" / "0.png").read_bytes()
    (root / "cat" / "truncated.png").write_bytes(content[: len(content) // 2])
    (root / "cat" / "empty.jpg").write_bytes(b"")
    (root / "dog" / "notes.txt").write_text("not an image")
    return [root / "cat" / "empty.jpg", root / "cat" / "truncated.png", root / "dog" / "notes.txt"]


def test_every_unusable_file_is_named_with_its_reason(tmp_path):
    paths = add_unusable_files(write_two_classes(tmp_path))
    with pytest.raises(RequestError) as error:
        load(tmp_path)
    message = str(error.value)
    assert message.startswith("unusable image files (3)") and "\n" not in message
    assert "--set data.bad_files=skip" in message
    for path in paths:
        assert f"{path}: " in message


def test_many_unusable_files_are_listed_in_a_file(tmp_path):
    write_two_classes(tmp_path)
    for number in range(44):
        (tmp_path / "cat" / f"bad{number}.png").write_bytes(b"")
    with pytest.raises(RequestError) as error:
        load(tmp_path)
    assert "files (44)" in str(error.value) and "and 39 more" in str(error.value)
    listed = Path(str(error.value).rpartition("the whole list is in ")[2])
    lines = listed.read_text().splitlines()
    listed.unlink()
    expected = {str(tmp_path / "cat" / f"bad{number}.png") for number in range(44)}
    assert {line.partition(": ")[0] for line in lines} == expected


def test_unusable_files_can_be_skipped(tmp_path):
    paths = add_unusable_files(write_two_classes(tmp_path / "with"))
    write_two_classes(tmp_path / "without")
    dataset, clean = load(tmp_path / "with", bad_files="skip"), load(tmp_path / "without")
    assert {line.partition(": ")[0] for line in dataset.findings.unusable} == set(map(str, paths))
    assert data_sha256(dataset) == data_sha256(clean)


def test_what_is_worth_a_look_is_said_once_with_names(tmp_path, caplog):
    write_two_classes(tmp_path, 6)
    load(tmp_path)
    assert "12 images have a single colour: " in caplog.text
    assert "cat/0.png" in caplog.text and "and 7 more" in caplog.text


@contextlib.contextmanager
def as_ordinary_user() -> Iterator[Path]:
    """Give a folder of a user who may not read everything, until the block ends."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o400])
@pytest.mark.parametrize("name", ["photos", "photos/dog", "photos/train", "photos/train/dog"])
def test_a_folder_that_cannot_be_read_is_named(name, mode):
    with as_ordinary_user() as folder:
        root = folder / "photos"
        for part in ("train", "test") if "train" in name else (".",):
            write_two_classes(root / part, 2)
        (folder / name).chmod(mode)
        try:
            with pytest.raises(RequestError) as error:
                load(root)
        finally:
            (folder / name).chmod(0o700)
    assert str(error.value).startswith(f"{folder / name}")
    assert str(error.value).endswith(": cannot be read: Permission denied; change its permissions")


@pytest.mark.parametrize(
    ("config", "copies"),
    [
        # Of 100 images: 10 for validation and 90 for training, which TensorFlow holds twice more.
        (DataConfig(validation_fraction=0.1), 100 + 2 * 90),
        (DataConfig(validation_fraction=0.1, train_fraction=0.5), 10 + 45 + 2 * 45),
        (DataConfig(validation_fraction=0.0), 2 * 100),  # the split is the data set's own
        (DataConfig(validation_fraction=0.0, train_fraction=0.5), 50 + 2 * 50),
    ],
)
def test_the_copies_of_a_training_run_are_counted(config, copies):
    assert training_copies(config, 100) == copies


def test_a_folder_larger_than_the_memory_is_refused_before_an_image_is_opened(
    tmp_path, monkeypatch
):
    opened: list[Path] = []
    read = read_images.read_image
    monkeypatch.setattr(
        read_images,
        "read_image",
        lambda path, *options: (opened.append(path), read(path, *options))[1],
    )
    for part, count in (("train", 8), ("test", 2)):
        write_two_classes(tmp_path / part, count)
    recipe = read_recipe("digits-cnn", [f"data.dataset='folder:{tmp_path}'"])
    recipe = with_values(recipe, {"model.image_size": 100})
    needed = 20 * 100 * 100 * 3
    # Of the 16 images of train: 2 for validation, 14 for training and twice more for TensorFlow.
    for_training = needed + (16 + 2 * 14) * 100 * 100 * 3
    monkeypatch.setattr(memory, "available_bytes", lambda: needed - 1)
    with pytest.raises(
        RequestError, match=r"20 images of 100x100 pixels need .* or set data"
    ) as error:
        load_dataset(recipe)
    assert "--force" not in str(error.value)  # evaluate and export have no such option
    monkeypatch.setattr(memory, "available_bytes", lambda: for_training - 1)
    with memory.memory_for_training(force=False), pytest.raises(RequestError) as error:
        load_dataset(recipe)
    assert str(error.value) == (
        f"folder:{tmp_path}: 20 images of 100x100 pixels (0.6 MB) and the copies of them for "
        "training need at least 1.9 MB of memory, and 1.9 MB are left; lower model.image_size "
        "(100) or set data.storage=disk, or go on anyway with --force"
    )
    assert not opened
    with memory.memory_for_training(force=True):
        load_dataset(recipe)
    monkeypatch.setattr(memory, "available_bytes", lambda: for_training)
    with memory.memory_for_training(force=False):
        load_dataset(recipe)
    assert len(opened) == 40
