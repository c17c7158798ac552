"""Image folders: splits, conversion of formats, and unusable files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_models.data.image_folder import read_image_folder
from cifar_models.errors import RequestError


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
