"""Figures of images: the arrays that they show, and the file that they write."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy.special import softmax

from cifar_models.data.splits import ArraySplit
from cifar_models.explain import figures as image_plots
from cifar_models.explain.attention import attention_rollout
from cifar_models.layers.patches import PatchExtraction


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Return a function that draws into a file and returns the arrays and titles of all axes."""
    saved = []
    real = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (saved.append(self), real(self, *a, **k))
    )

    def draw(function, *arguments):
        path = tmp_path / "figure.png"
        function(*arguments, path)
        with Image.open(path) as image:
            assert min(image.size) > 100
            assert len(np.unique(np.asarray(image.convert("L")))) > 20
        axes = saved[-1].axes
        shown = [np.asarray(one.images[0].get_array()) for one in axes if one.images]
        return shown, [one.get_title() for one in axes]

    return draw


def random_images(count: int, size: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels), np.uint8)


def random_maps(*shape: int) -> np.ndarray:
    return softmax(np.random.default_rng(0).normal(size=shape), axis=-1)


def test_samples_of_a_class_are_in_its_column(drawn):
    labels = np.repeat([0, 1], [5, 2])  # the second class has fewer than the figure has rows
    split = ArraySplit(random_images(7, 8, 3), labels)
    shown, titles = drawn(image_plots.draw_samples, split, ("cat", "dog"))
    expected = [0, 5, 1, 6, 2]  # row by row
    assert len(shown) == len(expected)
    for array, number in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(array, split.images[number])
    assert titles[:2] == ["cat", "dog"]


def test_dollar_signs_of_class_names_are_not_parsed_as_mathematics(drawn):
    names = ("from_$10_to_$20", "$x^2$")
    split = ArraySplit(random_images(2, 8, 3), np.arange(2))
    _, titles = drawn(image_plots.draw_samples, split, names)
    assert titles[:2] == list(names)


@pytest.mark.parametrize(("size", "channels", "patch_size"), [(8, 1, 2), (32, 3, 8)])
def test_the_sequence_of_patches_equals_that_of_the_network(drawn, size, channels, patch_size):
    image = random_images(1, size, channels)[0]
    shown, titles = drawn(image_plots.draw_patches, image, patch_size)
    theirs = np.asarray(PatchExtraction(patch_size)(image[np.newaxis].astype(np.float32)))[0]
    np.testing.assert_array_equal(shown[0], image.squeeze())
    assert titles[1] == f"16 patches of {patch_size}x{patch_size} pixels"
    assert titles[2:] == [str(number) for number in range(16)]
    np.testing.assert_array_equal([array.ravel() for array in shown[2:]], theirs)


def test_attention_shows_each_layer_and_the_rollout(drawn):
    images, maps = random_images(2, 8, 1), random_maps(2, 3, 4, 16, 16)
    shown, titles = drawn(image_plots.draw_attention, images, maps)
    assert titles[:5] == ["image", "layer 1", "layer 2", "layer 3", "rollout"]
    rollout = attention_rollout(maps)
    for number, row in enumerate((shown[:5], shown[5:10])):
        np.testing.assert_array_equal(row[0], images[number, ..., 0])
        for layer in range(3):
            received = maps[number, layer].mean(axis=(0, 1)).reshape(4, 4)
            np.testing.assert_allclose(row[1 + layer], received)
        np.testing.assert_allclose(row[4], rollout[number].mean(axis=0).reshape(4, 4))


def test_heads_show_the_attention_of_one_patch(drawn):
    image, maps = random_images(1, 32, 3)[0], random_maps(2, 3, 16, 16)
    shown, titles = drawn(image_plots.draw_heads, image, maps, 6)
    assert titles[:4] == ["query patch", "head 1", "head 2", "head 3"]
    for layer, row in enumerate((shown[:4], shown[4:8])):
        np.testing.assert_array_equal(row[0], image)
        for head in range(3):
            np.testing.assert_array_equal(row[1 + head], maps[layer, head, 6].reshape(4, 4))


def test_position_similarities_show_one_map_per_position(drawn):
    similarities = np.random.default_rng(0).uniform(-1, 1, (16, 16))
    shown, _ = drawn(image_plots.draw_position_similarities, similarities)
    np.testing.assert_array_equal(shown[:16], similarities.reshape(16, 4, 4))
