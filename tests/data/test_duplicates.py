"""Duplicates: equal pixels, and images that were saved again."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from cifar_models.data import duplicates, splits
from cifar_models.data.duplicates import image_hashes, near_duplicates, perceptual_hashes
from cifar_models.data.splits import ArraySplit

SIZE = 32


def split_of(images: list[np.ndarray]) -> ArraySplit:
    return ArraySplit(np.stack(images), np.zeros(len(images), int))


def photographs() -> list[Image.Image]:
    """Return parts of two real photographs that do not overlap, 80x80 pixels."""
    return [
        photograph.crop((left, top, left + 80, top + 80))
        for photograph in map(Image.fromarray, load_sample_images().images)
        for left, top in itertools.product(range(0, 560, 80), range(0, 400, 80))
    ]


def shrunk(images: list[Image.Image]) -> ArraySplit:
    size = (SIZE, SIZE)
    return split_of([np.asarray(image.resize(size, Image.Resampling.BILINEAR)) for image in images])


def saved_again(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=quality)
    return Image.open(file)


def test_a_hash_by_hand():
    """Of the nine columns, each is brighter than the one before, except in the lower half."""
    image = np.tile(np.repeat(np.arange(9) * 20, 2), (16, 1)).astype(np.uint8)
    image[8:] = image[8:, ::-1]
    hashes = perceptual_hashes(ArraySplit(image[None, :, :, None], np.zeros(1, int)))
    assert hashes.view(np.uint8).tolist() == [255] * 4 + [0] * 4


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_photographs_that_were_saved_again_are_found(quality):
    images = photographs()
    train, others = images[:60], images[60:]
    detailed = [index for index, image in enumerate(train) if np.asarray(image).std() > 30]
    test = [saved_again(train[index], quality) for index in detailed] + others
    found, right = near_duplicates(shrunk(train), shrunk(test)), list(enumerate(detailed))
    assert set(found) <= set(right)
    assert len(found) >= 0.95 * len(right) > 25


def test_different_images_are_not_near_duplicates():
    images = photographs()
    assert near_duplicates(shrunk(images[::2]), shrunk(images[1::2])) == []


def test_flat_images_of_different_colours_are_different():
    flat = [np.full((SIZE, SIZE, 3), value, np.uint8) for value in (0, 60, 200)]
    assert near_duplicates(split_of(flat[:2]), split_of(flat[2:])) == []


def test_equal_images_are_found_at_any_size():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 8, 8, 1), np.uint8)
    train, test = split_of(list(images[:6])), split_of(list(images[4:]))
    known = np.isin(image_hashes(test), image_hashes(train))
    assert known.tolist() == [True, True, False, False, False, False]
    assert near_duplicates(train, test) == []  # too small for a perceptual hash


def test_too_many_pairs_are_not_compared_and_it_is_said(monkeypatch, caplog):
    images = shrunk(photographs()[:2])
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 3)
    with caplog.at_level("INFO", logger="cifar_models"):
        assert near_duplicates(images, images) == []
    assert "are not searched among so many images" in caplog.text


def test_the_hashes_do_not_depend_on_the_size_of_a_chunk(monkeypatch):
    images = shrunk(photographs()[:20])
    hashes, perceptual = image_hashes(images), perceptual_hashes(images)
    monkeypatch.setattr(splits, "CHUNK_BYTES", 3 * SIZE * SIZE * 3)
    assert [len(chunk) for chunk in splits.chunks(images)] == [3] * 6 + [2]
    np.testing.assert_array_equal(image_hashes(images), hashes)
    np.testing.assert_array_equal(perceptual_hashes(images), perceptual)


def test_few_pixels_are_compared_among_many_images_that_look_alike(monkeypatch):
    """2,000 flat images have one hash, that of a nearly flat test image too."""
    train = split_of([np.full((SIZE, SIZE, 3), value, np.uint8) for value in range(200)] * 10)
    test = np.full((SIZE, SIZE, 3), 100, np.uint8)
    test[-1, -1] = 255
    compared = []
    monkeypatch.setattr(
        duplicates, "_difference", lambda image, other: compared.append(image) or 1.0
    )
    near_duplicates(train, split_of([test]))
    assert len(compared) <= duplicates.MAX_CANDIDATES + 1
