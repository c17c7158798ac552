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
from cifar_models.data import image_folder
from cifar_models.data.image_folder import read_image_folder
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


def test_a_fifth_of_each_class_becomes_the_test_split(tmp_path):
    train, test, names = read_image_folder(write_two_classes(tmp_path), 8)
    assert names == ("cat", "dog")
    assert train.images.shape == (16, 8, 8, 3) and train.images.dtype == np.uint8
    assert np.bincount(train.labels).tolist() == [8, 8]
    assert np.bincount(test.labels).tolist() == [2, 2]
    for split in (train, test):  # images and labels are still paired
        np.testing.assert_array_equal(split.images[:, 0, 0, 2] == 255, split.labels == 1)


def test_folders_named_train_and_test_are_the_splits(tmp_path):
    write_two_classes(tmp_path / "train", 4)
    write_two_classes(tmp_path / "test", 2)
    train, test, _ = read_image_folder(tmp_path, 8)
    assert (len(train.labels), len(test.labels)) == (8, 4)


def test_other_modes_and_formats_are_converted(tmp_path):
    write_two_classes(tmp_path)
    save(tmp_path / "cat" / "grey.png", mode="L")
    save(tmp_path / "cat" / "alpha.png", mode="RGBA")
    save(tmp_path / "cat" / "palette.gif", mode="P")
    save(tmp_path / "cat" / "print.jpg", mode="CMYK")
    save(tmp_path / "cat" / "modern.webp")
    train, test, _ = read_image_folder(tmp_path, 8)
    assert len(train.labels) + len(test.labels) == 25


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("I;16", 0x8000, 0x80),  # half of the range of 16 bits
        ("I;16", 0x00FF, 0),
        ("RGBA", (0, 0, 0, 0), 255),  # transparent, on white
        ("RGBA", (0, 0, 0, 255), 0),
        ("LA", (0, 127), 128),
    ],
)
def test_16_bit_and_transparent_pixels_are_converted(mode, colour, expected, tmp_path):
    write_two_classes(tmp_path / "train")
    write_two_classes(tmp_path / "test")
    (tmp_path / "train" / "cat" / "0.png").unlink()
    Image.new(mode, (20, 10), colour).save(tmp_path / "train" / "cat" / "0.png")
    train, _, _ = read_image_folder(tmp_path, 8)
    assert (train.images[0] == expected).all()


def test_pixels_of_32_bits_are_refused(tmp_path):
    write_two_classes(tmp_path)
    Image.new("F", (8, 8), 0.5).save(tmp_path / "cat" / "float.tif")
    with pytest.raises(RequestError, match=r"float\.tif \(32 bits per value"):
        read_image_folder(tmp_path, 8)


def test_folders_of_other_splits_are_refused(tmp_path):
    write_two_classes(tmp_path / "train")
    write_two_classes(tmp_path / "val")
    with pytest.raises(RequestError, match=r"cat: is a folder in a class folder; put images in"):
        read_image_folder(tmp_path, 8)


def test_exif_orientation_is_applied(tmp_path):
    write_two_classes(tmp_path)
    image = Image.new("RGB", (8, 8), "black")
    image.paste("white", (0, 0, 8, 4))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 3  # rotated by 180 degrees
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            image.save(tmp_path / part / name / "rotated.png", exif=exif)
    train, _, _ = read_image_folder(tmp_path, 8)
    assert train.images[0, 0].max() == 0 and train.images[0, -1].min() == 255


def test_every_unusable_file_is_named_with_its_reason(tmp_path):
    write_two_classes(tmp_path)
    content = (tmp_path / "cat" / "0.png").read_bytes()
    (tmp_path / "cat" / "truncated.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "cat" / "empty.jpg").write_bytes(b"")
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    with pytest.raises(RequestError) as error:
        read_image_folder(tmp_path, 8)
    message = str(error.value)
    assert message.startswith("unusable image files (3)") and "\n" not in message
    for name in ("truncated.png", "empty.jpg", "notes.txt"):
        assert name in message


def test_a_decompression_bomb_is_refused(tmp_path):
    write_two_classes(tmp_path)
    Image.new("1", (10_000, 10_000)).save(tmp_path / "cat" / "bomb.png")
    with pytest.raises(RequestError, match=r"bomb\.png \(10000x10000 pixels, more than 50,000,000"):
        read_image_folder(tmp_path, 8)


def test_a_class_only_in_the_test_folder_is_refused(tmp_path):
    write_two_classes(tmp_path / "train")
    write_two_classes(tmp_path / "test")
    save(tmp_path / "test" / "horse" / "0.png")
    with pytest.raises(RequestError, match="class horse is not in train"):
        read_image_folder(tmp_path, 8)


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
                read_image_folder(root, 8)
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
    write_two_classes(tmp_path, 10)
    opened: list[Path] = []
    read = image_folder._read_image
    monkeypatch.setattr(
        image_folder, "_read_image", lambda path, size: (opened.append(path), read(path, size))[1]
    )
    config = DataConfig(dataset=f"folder:{tmp_path}", folder_image_size=100)
    needed = 20 * 100 * 100 * 3
    # Of the 16 images of train: 2 for validation, 14 for training and twice more for TensorFlow.
    for_training = needed + (16 + 2 * 14) * 100 * 100 * 3
    monkeypatch.setattr(memory, "available_bytes", lambda: needed - 1)
    with pytest.raises(
        RequestError, match=r"20 images of 100x100 pixels need .* take fewer"
    ) as error:
        load_dataset(config)
    assert "--force" not in str(error.value)  # evaluate and export have no such option
    monkeypatch.setattr(memory, "available_bytes", lambda: for_training - 1)
    with memory.memory_for_training(force=False), pytest.raises(RequestError) as error:
        load_dataset(config)
    assert str(error.value) == (
        f"folder:{tmp_path}: 20 images of 100x100 pixels (0.6 MB) and the copies of them for "
        "training need at least 1.9 MB of memory, and 1.9 MB are left; lower "
        "data.folder_image_size (100) or take fewer images, or go on anyway with --force"
    )
    assert not opened
    with memory.memory_for_training(force=True):
        load_dataset(config)
    monkeypatch.setattr(memory, "available_bytes", lambda: for_training)
    with memory.memory_for_training(force=False):
        load_dataset(config)
    assert len(opened) == 40
