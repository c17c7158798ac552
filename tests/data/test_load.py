"""The digits, TensorFlow Datasets, splits and fingerprints."""

import re
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from cifar_models.config.recipe import DataConfig, Recipe
from cifar_models.config.recipe_file import read_recipe, with_values
from cifar_models.data.dataset import Dataset, Findings, data_sha256, describe, warn_of_odd_data
from cifar_models.data.file_paths import FilePaths
from cifar_models.data.load import load_dataset
from cifar_models.data.pixel_file import DiskSplit
from cifar_models.data.recipe_fit import warn_of_many_tokens, with_fitting_batch
from cifar_models.data.splits import ArraySplit, JoinedSplit, hold_out_validation
from cifar_models.errors import RequestError, RunError


def recipe_of(dataset: str, data_dir: Path | str = "") -> Recipe:
    return read_recipe("cnn", [f"data.dataset={dataset}", f"data.data_dir={data_dir}"])


def test_the_digits_are_those_of_scikit_learn():
    dataset = load_dataset(recipe_of("digits"))
    images = np.concatenate([dataset.train.images, dataset.test.images])
    assert images.shape == (1797, 8, 8, 1) and images.dtype == np.uint8
    assert len(dataset.test.labels) == 360
    # The same images in another order, with values scaled from 0..16 to 0..255.
    original = np.round(load_digits().images * 255 / 16).astype(np.uint8).reshape(1797, -1)
    ours = images.reshape(1797, -1)
    assert sorted(map(bytes, ours)) == sorted(map(bytes, original))
    fractions = np.bincount(dataset.test.labels) / 360
    np.testing.assert_allclose(fractions, np.bincount(load_digits().target) / 1797, atol=0.003)


@pytest.mark.parametrize(
    ("name", "shape", "num_classes"),
    [
        ("cifar10", (32, 32, 3), 10),
        ("cifar100", (32, 32, 3), 100),
        ("svhn_cropped", (32, 32, 3), 10),
        ("fashion_mnist", (28, 28, 1), 10),
    ],
)
def test_a_data_set_of_tfds_is_loaded_by_its_name(name, shape, num_classes, tmp_path):
    write_tfds(name, shape, num_classes, tmp_path)
    dataset = load_dataset(recipe_of(name, tmp_path))
    assert dataset.train.images.shape == (2 * num_classes, *shape)
    assert dataset.test.images.shape == (num_classes, *shape)
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.labels.dtype == np.int64
    assert len(dataset.class_names) == num_classes
    # Pixels are equal to the label: images and labels are still paired.
    np.testing.assert_array_equal(dataset.train.images[:, 0, 0, 0], dataset.train.labels)


def test_a_data_set_of_tfds_on_the_disk_equals_one_in_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_tfds("cifar10", (32, 32, 3), 10, tmp_path)
    memory, disk, again = (
        load_dataset(with_values(recipe_of("cifar10", tmp_path), {"data.storage": storage}))
        for storage in ("memory", "disk", "disk")
    )
    assert isinstance(disk.train, DiskSplit)
    assert data_sha256(memory) == data_sha256(disk)
    np.testing.assert_array_equal(again.test.images_at(slice(None)), memory.test.images)
    (cached, _) = sorted((tmp_path / "cache").rglob("pixels.bin"))
    cached.write_bytes(cached.read_bytes()[:-1])  # an interrupted copy is made again
    repaired = load_dataset(with_values(recipe_of("cifar10", tmp_path), {"data.storage": "disk"}))
    np.testing.assert_array_equal(repaired.test.images_at(slice(None)), memory.test.images)
    (cached, other) = sorted((tmp_path / "cache").rglob("pixels.bin"))
    for path in (cached, other):  # a flipped bit is found by a checksum
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    repaired = load_dataset(with_values(recipe_of("cifar10", tmp_path), {"data.storage": "disk"}))
    assert data_sha256(repaired) == data_sha256(memory)


def test_a_data_set_of_tfds_that_was_replaced_is_prepared_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = with_values(recipe_of("cifar10", tmp_path), {"data.storage": "disk"})
    write_tfds("cifar10", (32, 32, 3), 10, tmp_path)
    before = load_dataset(recipe)
    shutil.rmtree(tmp_path / "cifar10")
    write_tfds("cifar10", (32, 32, 3), 10, tmp_path, brighter=1)
    after = load_dataset(recipe)
    assert (after.train.images_at(slice(9)) == before.train.images_at(slice(9)) + 1).all()


def test_the_validation_split_of_a_data_set_of_tfds_is_used(tmp_path):
    write_tfds("fashion_mnist", (28, 28, 1), 10, tmp_path, parts=("train", "validation", "test"))
    dataset = load_dataset(recipe_of("fashion_mnist", tmp_path))
    splits = dataset.splits(DataConfig(validation_fraction=0.5), seed=0)
    assert [len(each) for each in (splits.train, splits.validation, splits.test)] == [20, 10, 10]


def test_a_long_list_of_unusable_files_is_cut():
    dataset = load_dataset(recipe_of("digits"))
    remarks = [f"/images/{number}.txt: the suffix is not one of .png" for number in range(100_000)]
    long = replace(dataset, findings=Findings(unusable=remarks))
    splits = long.splits(DataConfig(), seed=0)
    listed = describe(long, splits).unusable_files
    assert listed[:-1] == remarks[: len(listed) - 1]
    assert listed[-1] == f"and {100_001 - len(listed):,} more".replace(",", "")
    assert sum(map(len, listed)) < 2_100_000


def test_joined_splits_equal_an_array():
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 1), np.uint8)
    whole = ArraySplit(images, np.arange(10), FilePaths.of(f"{number}.png" for number in range(10)))
    parts = [whole.subset(np.arange(first, end)) for first, end in ((0, 3), (3, 4), (4, 10))]
    joined = JoinedSplit(tuple(parts))
    assert list(joined.files) == list(whole.files) and joined.labels.tolist() == list(range(10))
    for indices in (slice(2, 7), slice(None), np.array([9, 0, 3, 3])):
        np.testing.assert_array_equal(joined.images_at(indices), images[indices])
        if not isinstance(indices, slice):
            assert list(joined.subset(indices).files) == [f"{index}.png" for index in indices]


def test_a_data_set_without_a_test_split_is_refused(tmp_path):
    write_tfds("fashion_mnist", (28, 28, 1), 10, tmp_path, parts=("train",))
    with pytest.raises(RequestError, match="and the splits train and test"):
        load_dataset(recipe_of("fashion_mnist", tmp_path))


def write_tfds(
    name: str,
    shape: tuple[int, ...],
    num_classes: int,
    folder: Path,
    parts=("train", "test"),
    brighter: int = 0,
) -> None:
    """Write a small data set with the builder of TFDS that has this name.

    Each pixel is equal to the label, or brighter.
    """
    builder = tfds.builder(name, data_dir=folder)

    def examples(count):
        for number in range(count):
            label = number % num_classes
            example = {"image": np.full(shape, label + brighter, np.uint8), "label": label}
            if "coarse_label" in builder.info.features:
                example["coarse_label"] = label // 5
            if "id" in builder.info.features:
                example["id"] = str(number)
            yield number, example

    builder._split_generators = lambda *arguments, **options: {
        part: examples((2 if part == "train" else 1) * num_classes) for part in parts
    }
    builder.download_and_prepare()


@pytest.mark.parametrize("failure", ["name resolution", "download"])
def test_the_error_without_a_network_suggests_fixes(failure, tmp_path, monkeypatch):
    def no_network(*arguments, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("urllib.request.getproxies", dict)
    if failure == "name resolution":
        monkeypatch.setattr(socket, "getaddrinfo", no_network)
    else:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: [])
        monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", no_network)
    with pytest.raises(RunError) as error:
        load_dataset(recipe_of("cifar10", tmp_path))
    message = str(error.value)
    assert "\n" not in message
    for part in (str(tmp_path), "cifar10", "DATA_DIR=", "DATASET=digits", "Name or service"):
        assert part in message


def splits_of(labels: np.ndarray, seed: int):
    """Hold out a fifth of images whose only pixel is their number."""
    images = np.arange(len(labels), dtype=np.int64)[:, None, None, None]
    test = ArraySplit(images[:5] + 10_000, labels[:5])
    return hold_out_validation(ArraySplit(images, labels), test, 0.2, seed)


def test_splits_are_disjoint_stratified_and_complete():
    labels = np.repeat(np.arange(4), [40, 80, 120, 160])
    splits = splits_of(labels, seed=3)
    train, validation = splits.train.images.ravel(), splits.validation.images.ravel()
    assert sorted([*train, *validation]) == list(range(400))
    assert np.bincount(splits.validation.labels).tolist() == [8, 16, 24, 32]
    np.testing.assert_array_equal(labels[train], splits.train.labels)
    np.testing.assert_array_equal(labels[validation], splits.validation.labels)


def test_the_validation_split_depends_on_the_seed():
    labels = np.repeat(np.arange(4), 50)
    first, again, other = (splits_of(labels, seed).validation.images for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_class_of_one_image_is_named():
    labels = np.array([0] * 30 + [1])
    split = ArraySplit(np.zeros((31, 8, 8, 1), np.uint8), labels)
    dataset = Dataset("photos", split, split, ("cat", "owl"))
    with pytest.raises(RequestError, match="class owl has a single training image, too few"):
        dataset.splits(DataConfig(validation_fraction=0.2), seed=0)
    assert len(dataset.splits(DataConfig(validation_fraction=0), seed=0).train) == 31


def test_of_few_images_one_of_each_class_is_held_out():
    """Ten classes of two to eleven images, and ten of two."""
    labels = np.repeat(np.arange(10), np.arange(2, 12))
    splits = splits_of(labels, seed=0)
    counts = np.bincount(splits.validation.labels, minlength=10)
    expected = [max(1, round(0.2 * count)) for count in range(2, 12)]
    small = np.repeat(np.arange(10), 2)
    assert np.bincount(splits_of(small, seed=0).validation.labels).tolist() == [1] * 10
    assert abs(counts - expected).max() <= 1 and counts.min() >= 1


def test_test_images_in_the_training_split_are_counted():
    dataset = load_dataset(recipe_of("digits"))
    splits = dataset.splits(DataConfig(), seed=0)
    assert describe(dataset, splits).test_images_in_train == 0
    splits.train.images[:3] = splits.test.images[10:13]
    assert describe(dataset, splits).test_images_in_train == 3


def test_the_hash_changes_with_a_single_pixel():
    dataset = load_dataset(recipe_of("digits"))
    splits = dataset.splits(DataConfig(validation_fraction=0.1), seed=0)
    before = describe(dataset, splits)
    dataset.train.images[0, 0, 0, 0] ^= 1
    after = describe(dataset, splits)
    assert before.sha256 != after.sha256
    sizes = (before.train_images, before.validation_images, before.test_images)
    assert sizes == (1293, 144, 360)


def test_a_smaller_training_split_is_a_subset_of_a_larger_one():
    dataset = load_dataset(recipe_of("digits"))
    fractions = (1.0, 0.5, 0.1, 0.01)
    all_splits = [
        dataset.splits(DataConfig(dataset="digits", train_fraction=fraction), seed=3)
        for fraction in fractions
    ]
    complete = all_splits[0]
    for larger, smaller, fraction in zip(all_splits, all_splits[1:], fractions[1:], strict=False):
        images = {image.tobytes() for image in larger.train.images}
        assert all(image.tobytes() in images for image in smaller.train.images)
        counts, complete_counts = (
            np.bincount(splits.train.labels) for splits in (smaller, complete)
        )
        np.testing.assert_array_equal(counts, np.maximum(np.round(fraction * complete_counts), 1))
        np.testing.assert_array_equal(smaller.validation.labels, complete.validation.labels)
        np.testing.assert_array_equal(smaller.test.images, complete.test.images)


@pytest.mark.parametrize(
    ("images", "batch_size", "min_steps", "expected"),
    [
        (129, 128, 8, 16),
        (129, 16, 8, 16),
        (5_000, 500, 8, 500),
        (1_293, 2_000, 1, 1_293),
        (6, 128, 8, 1),
    ],
)
def test_the_batch_size_follows_small_data(images, batch_size, min_steps, expected, caplog):
    split = ArraySplit(np.zeros((images, 8, 8, 1), np.uint8), np.zeros(images, int))
    recipe = read_recipe(
        "cnn",
        [f"training.batch_size={batch_size}", f"training.min_steps_per_epoch={min_steps}"],
    )
    fitted = with_fitting_batch(recipe, split)
    assert fitted.training.batch_size == expected
    assert (f"batches of {expected} images instead of {batch_size}" in caplog.text) == (
        expected != batch_size
    )


def test_skewed_classes_and_known_test_images_are_warned_of(caplog):
    labels = np.repeat([0, 1], [200, 3])
    images = np.random.default_rng(0).integers(0, 256, (203, 8, 8, 1), np.uint8)
    train, test = ArraySplit(images, labels), ArraySplit(images[190:], labels[190:])
    dataset = Dataset("photos", train, test, ("cat", "dog"))
    splits = dataset.splits(DataConfig(validation_fraction=0), seed=0)
    warn_of_odd_data(describe(dataset, splits), splits)
    assert "13 of the 13 test images are also training images" in caplog.text
    assert "class cat has 200 training images and class dog has 3" in caplog.text
    assert "training.class_weights=balanced" in caplog.text


def test_ordinary_data_are_not_warned_of(caplog):
    dataset = load_dataset(recipe_of("digits"))
    splits = dataset.splits(DataConfig(), seed=0)
    warn_of_odd_data(describe(dataset, splits), splits)
    assert not caplog.text


@pytest.mark.parametrize(
    ("recipe", "overrides", "advice"),
    [
        (
            "vit",
            ["model.image_size=224"],
            "3136 tokens an image .* with model.patch_size=14 there are 256",
        ),
        ("vit", ["model.image_size=224", "model.patch_size=16"], None),
        ("vit", ["model.image_size=64"], None),
        ("hybrid", ["model.image_size=224"], "12544 tokens .* raise model.conv_layers \\(1\\)"),
        ("hybrid-laptop", ["model.image_size=224"], "3025 tokens .* add a stage to model.stage_"),
        ("cnn", ["model.image_size=224"], None),
    ],
)
def test_thousands_of_tokens_are_warned_of(recipe, overrides, advice, caplog):
    warn_of_many_tokens(read_recipe(recipe, overrides))
    assert bool(re.search(advice or "tokens", caplog.text)) == bool(advice)
