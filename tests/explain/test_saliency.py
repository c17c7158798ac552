"""Saliency maps against values computed by hand, and maps of random networks."""

import json
import shutil

import keras
import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image
from scipy.stats import spearmanr

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe
from cifar_models.explain.map_figure import draw_maps, overlaid
from cifar_models.explain.saliency import (
    ClassAttention,
    GradCAM,
    deletion_and_insertion,
    has_attention,
    occlusion,
)
from cifar_models.layers.encoder_block import TransformerEncoderBlock
from cifar_models.models.catalog import build_network
from cifar_models.run.load import load_run
from tests.conftest import refusal

RNG = np.random.default_rng(0)


def test_grad_cam_is_the_weighted_sum_of_the_feature_maps():
    """With a mean over the maps A and a dense layer w, a logit has the gradient w / (H W)."""
    images = keras.Input((5, 4, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255, dtype="float32")(images)
    maps = keras.layers.Conv2D(6, 3, padding="same", activation="relu", use_bias=False)(x)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    network = keras.Model(images, keras.layers.Dense(2, use_bias=False)(pooled))
    batch = RNG.integers(0, 256, (3, 5, 4, 3), np.uint8)
    classes = np.array([0, 1, 1])
    features = keras.Model(images, maps)(batch).numpy()
    weights = network.layers[-1].kernel.numpy()[:, classes].T  # (B, F)
    expected = np.maximum((features * weights[:, None, None]).sum(axis=-1) / 20, 0)
    assert expected.max() > 0
    np.testing.assert_allclose(GradCAM(network)(batch, classes), expected, rtol=1e-4, atol=1e-7)


def test_class_attention_of_one_linear_block():
    """Without its MLP, a block adds A V O to its tokens, whose mean a dense layer w weights.

    So the gradient of a logit for the attention A from token i to j is w O V_j / N.
    """
    images = keras.Input((4, 4, 1), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255, dtype="float32")(images)
    x = keras.layers.Reshape((4, 4))(x)  # four tokens
    block = TransformerEncoderBlock(num_heads=1, mlp_dim=3)
    y = keras.layers.GlobalAveragePooling1D()(block(x))
    network = keras.Model(images, keras.layers.Dense(3)(y))
    block.mlp_out.kernel.assign(np.zeros((3, 4)))
    batch = RNG.integers(0, 256, (2, 4, 4, 1), np.uint8)
    classes = np.array([2, 0])
    tokens = batch.reshape(2, 4, 4) / 255
    normed = block.attention_norm(tokens.astype(np.float32)).numpy()
    attention = block.attention
    parts = (attention.query_dense, attention.key_dense, attention.value_dense)
    query, key, value = (
        normed @ each.kernel.numpy().reshape(4, 4) + each.bias.numpy().reshape(4) for each in parts
    )
    scores = np.exp(query @ key.transpose(0, 2, 1) / 2)
    weights = scores / scores.sum(axis=-1, keepdims=True)  # (B, N, N)
    output = value @ attention.output_dense.kernel.numpy().reshape(4, 4)  # (B, N, D)
    dense = network.layers[-1].kernel.numpy()[:, classes].T  # (B, D)
    gradient = np.einsum("bd,bjd->bj", dense, output) / 4
    layer = np.maximum(gradient[:, None] * weights, 0)  # (B, N, N); the identity before is left out
    expected = layer.mean(axis=1).reshape(2, 2, 2)
    assert expected.max() > 0
    np.testing.assert_allclose(ClassAttention(network)(batch, classes), expected, rtol=1e-4)


@pytest.fixture(scope="module")
def corner_network() -> keras.Model:
    """Return a network with two classes: the logit of the first is the mean of the upper left."""
    images = keras.Input((8, 8, 1), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 25, dtype="float32")(images))
    kernel = np.zeros((8, 8, 2), np.float32)
    kernel[:4, :4, 0] = 1 / 16
    network = keras.Model(images, keras.layers.Dense(2, use_bias=False)(x))
    network.layers[-1].kernel.assign(kernel.reshape(64, 2))
    return network


@pytest.fixture(scope="module")
def corner_image() -> np.ndarray:
    image = np.zeros((8, 8, 1), np.uint8)
    image[:4, :4] = 200
    return image


def test_occlusion_is_the_fall_of_the_probability(corner_network, corner_image):
    """Squares of 4 x 4 pixels side by side; the mean of the image is 50."""

    def sigmoid(z: float) -> float:
        return 1 / (1 + np.exp(-z))

    expected = np.zeros((8, 8))
    expected[:4, :4] = sigmoid(200 / 25) - sigmoid(50 / 25)
    found = occlusion(corner_network, corner_image, 0, patch=4, stride=4)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    whole = occlusion(corner_network, corner_image, 0, patch=3, stride=2)  # 0, 2, 4 and 5
    assert whole.shape == (8, 8) and whole[:4, :4].min() > 1e-4
    np.testing.assert_allclose(whole[6:, 6:], 0, atol=1e-6)


def test_the_areas_of_a_right_and_a_wrong_map(corner_network, corner_image):
    right = corner_image[..., 0].astype(float)
    deletion, insertion = deletion_and_insertion(corner_network, corner_image, 0, right)
    assert deletion < insertion
    wrong_deletion, wrong_insertion = deletion_and_insertion(
        corner_network, corner_image, 0, -right
    )
    assert wrong_deletion > deletion and wrong_insertion < insertion
    # A map that ranks the pixels in reverse order turns both curves into each other.
    assert wrong_deletion == pytest.approx(insertion, abs=0.02)


@pytest.mark.parametrize(
    ("recipe", "values"),
    [
        ("digits-cnn", ["model.stage_filters=[8,16]", "model.stem_filters=8"]),
        ("digits-vit", ["model.num_layers=2"]),
        ("digits-hybrid", ["model.num_layers=1"]),
        ("cnn-laptop", ["model.stage_filters=[8,8,8]"]),
        ("cnn", ["model.image_size=16", "model.stage_filters=[8,8,8]"]),  # the last maps are 2 x 2
        ("hybrid-laptop", ["model.stage_filters=[8,16]", "model.num_layers=1"]),
    ],
)
def test_the_maps_of_every_family_depend_on_the_weights(recipe, values):
    """Adebayo et al. (2018), arXiv:1810.03292: a map that random weights do not change is none."""
    shape = (8, 8, 1) if recipe.startswith("digits") else (32, 32, 3)
    images = RNG.integers(0, 256, (8, *shape), np.uint8)
    config = read_recipe(recipe, values).model

    def maps_of(seed: int) -> np.ndarray:
        keras.utils.set_random_seed(seed)
        network = build_network(config, shape, 10)
        method = ClassAttention if has_attention(network) else GradCAM
        return method(network)(images, np.arange(8))

    first, second = maps_of(1), maps_of(2)
    assert first.shape[0] == 8 and first.shape[1] == first.shape[2] >= 4
    assert (first >= 0).all() and first.max() > 0
    np.testing.assert_array_equal(first, maps_of(1))
    correlations = [
        spearmanr(one.ravel(), other.ravel()).statistic
        for one, other in zip(first, second, strict=True)
        if one.max() > 0 and other.max() > 0
    ]
    assert np.mean(correlations) < 0.7


def test_a_map_over_a_picture_by_hand():
    image = np.array([[[30, 60, 90], [0, 0, 0]]], np.uint8)  # grey values 60 and 0
    inferno = 255 * np.array([0.988362, 0.998364, 0.644924])  # its last colour, for the peak
    pixels = overlaid(image, np.array([[2.0, -1.0]]))
    np.testing.assert_allclose(pixels[0, 0], 0.75 * inferno + 0.25 * 60, atol=0.51)
    assert pixels[0, 1].tolist() == [0, 0, 0]  # a negative value leaves the picture as it is
    np.testing.assert_array_equal(overlaid(image, np.zeros((1, 2)))[0, 0], [60, 60, 60])


def test_classes_whose_shown_names_are_equal_have_a_bar_each(tmp_path, monkeypatch):
    heights, real = [], Axes.barh

    def barh(axes: Axes, positions, widths, **options):
        heights.extend(widths)
        return real(axes, positions, widths, **options)

    monkeypatch.setattr(Axes, "barh", barh)
    image, maps = np.zeros((8, 8, 3), np.uint8), {"x": np.zeros((8, 8))}
    draw_maps(image, maps, [("a long name", 0.7), ("a long name", 0.2)], "a", tmp_path / "x.png")
    assert heights == [0.7, 0.2]


def test_pictures_are_explained(finished_run, tmp_path, capsys):
    for number in range(3):
        pixels = RNG.integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    out = tmp_path / "out"
    inputs = [str(tmp_path / f"{number}.png") for number in range(4)]
    assert main(["explain", str(finished_run), *inputs, "--out", str(out)]) == 1
    assert "1 of 4 files could not be read" in capsys.readouterr().err
    names = {"explanations.json", "contact-sheet.png"}
    names |= {f"{number + 1:04d}-{number}.png" for number in range(3)}
    assert {path.name for path in out.iterdir()} == names
    for name in names - {"explanations.json"}:
        with Image.open(out / name) as figure:
            assert min(figure.size) > 100
    for each in json.loads((out / "explanations.json").read_text()):
        (prediction,) = load_run(finished_run).predict([each["path"]])
        assert each["label"] == prediction.top(1)[0][0]
        assert each["probability"] == pytest.approx(prediction.top(1)[0][1], abs=1e-5)
        assert set(each["deletion"]) == {"Grad-CAM", "occlusion"}
        assert all(0 <= area <= 1 for area in each["deletion"].values())
    shutil.rmtree(out)
    assert main(["explain", str(finished_run), inputs[0], "--class", "7", "--out", str(out)]) == 0
    assert ": 7" in capsys.readouterr().out
    assert "holds files" in refusal(capsys, "explain", finished_run, inputs[0], "--out", out)
    error = refusal(capsys, "explain", finished_run, inputs[0], "--class", "x", "--out", "new")
    assert "--class x: must be one of 0, 1" in error
