"""One contract for every preset: its size, its output, saving, precision, gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cifar_models.config.model_presets import (
    PRESETS,
    CCTConfig,
    ViTConfig,
)
from cifar_models.evaluation.flops import flops_per_image
from cifar_models.models.catalog import build_network
from cifar_models.training.initialization import initialize_network

# All parameters, and the trainable ones. ResNet-18 as kuangliu/pytorch-cifar counts it, and the
# trainable ones of WRN-28-10 as xternalz/WideResNet-pytorch does; CCT-2/3x2 and CCT-7/3x1 are 0.28
# and 3.76 million in the paper's table; test_airbench.py knows the fast CNNs; the rest by the
# formulas below.
GOLDEN = {
    "residual_cnn": (311_530, 310_186),
    "resnet18": (11_183_562, 11_173_962),
    "wide_resnet28_10": (36_497_146, 36_479_194),
    "airbench94": (1_973_944, 1_971_352),
    "airbench96": (9_921_848, 9_915_416),
    "vit": (2_697_226, 2_697_226),
    "vit_notebook": (43_177_738, 43_177_738),
    "cct2_3x2": (283_467, 283_467),
    "cct7_3x1": (3_758_347, 3_758_347),
}
BIG = {"resnet18", "wide_resnet28_10", "airbench96", "vit_notebook", "cct7_3x1"}
# What the contract holds for besides the presets.
RECIPES = {
    **PRESETS,
    "vit_mimetic": ViTConfig(hidden_dim=48, num_layers=2, mimetic_init=True, pooling="token"),
    "hybrid_mimetic": CCTConfig(hidden_dim=48, mimetic_init=True),
}
SMALL = sorted(set(RECIPES) - BIG)


def build(name: str, image_shape=(32, 32, 3), num_classes=10) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_network(RECIPES[name], image_shape, num_classes)


def test_every_preset_has_a_golden_count():
    assert set(GOLDEN) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_golden_parameter_counts(name):
    network = build(name)
    trainable = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    assert (network.count_params(), trainable) == GOLDEN[name]


def vit_parameters(p: ViTConfig, channels: int, num_classes: int) -> int:
    width, places = p.hidden_dim, (p.image_size // p.patch_size) ** 2
    tokens = 1 if p.pooling == "token" else 0
    patches = (p.patch_size**2 * channels + 1) * width
    attention = 4 * (width**2 + width)
    mlp = (width + 1) * p.mlp_dim + (p.mlp_dim + 1) * width
    norms = 2 * 2 * width
    positions = (places + tokens) * width + tokens * width
    blocks = p.num_layers * (attention + mlp + norms)
    return patches + positions + blocks + 2 * width + (width + 1) * num_classes


@pytest.mark.parametrize("name", ["vit", "vit_notebook", "vit_mimetic"])
def test_vit_counts_by_formula(name):
    assert build(name).count_params() == vit_parameters(RECIPES[name], 3, 10)


def test_published_sizes_of_the_hybrids():
    assert round(GOLDEN["cct2_3x2"][0] / 1e6, 2) == 0.28
    assert round(GOLDEN["cct7_3x1"][0] / 1e6, 2) == 3.76


@pytest.mark.parametrize(
    ("name", "giga_multiply_adds", "tolerance"),
    # Published as multiply-adds, two operations each. 0.56 G: kuangliu's ResNet-18, 1.11 GFLOPs
    # here; 0.95 G and 0.03 G: the table of Compact-Transformers, which rounds and counts
    # attention's matrix products differently.
    # 5.2 G: the paper of wide residual networks, table 4.
    [
        ("resnet18", 0.56, 0.01),
        ("wide_resnet28_10", 5.2, 0.05),
        ("cct7_3x1", 0.95, 0.3),
        ("cct2_3x2", 0.03, 0.01),
    ],
)
def test_flops_are_the_published_ones(name, giga_multiply_adds, tolerance):
    assert flops_per_image(build(name)) / 2e9 == pytest.approx(giga_multiply_adds, abs=tolerance)


def vit_multiply_adds(p: ViTConfig, channels: int, num_classes: int) -> int:
    width, places = p.hidden_dim, (p.image_size // p.patch_size) ** 2
    length = places + (1 if p.pooling == "token" else 0)
    patches = places * p.patch_size**2 * channels * width
    projections = 4 * length * width**2  # query, key, value and output
    attention = 2 * length**2 * width  # scores, and the mean that they weight
    mlp = 2 * length * width * p.mlp_dim
    return patches + p.num_layers * (projections + attention + mlp) + width * num_classes


@pytest.mark.parametrize("name", ["vit", "vit_notebook", "vit_mimetic"])
def test_flops_of_a_vit_by_formula(name):
    assert flops_per_image(build(name)) == 2 * vit_multiply_adds(RECIPES[name], 3, 10)


def test_flops_of_vit_b_16_are_the_published_ones():
    """17.56 G multiply-adds in torchvision's table, which calls them FLOPs."""
    recipe = ViTConfig(
        image_size=224,
        patch_size=16,
        hidden_dim=768,
        num_layers=12,
        num_heads=12,
        mlp_dim=3072,
        pooling="token",
    )
    with keras.StatelessScope(initialize_variables=False):  # a drawing, which takes no memory
        network = build_network(recipe, (224, 224, 3), 1000)
    assert flops_per_image(network) / 2e9 == pytest.approx(17.56, abs=0.005)


def test_flops_of_a_convolution_and_a_dense_layer_by_hand():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(5, 3, strides=2, padding="same")(inputs)  # (4, 4, 5)
    x = keras.layers.Dense(7)(keras.layers.Flatten()(x))
    expected = 2 * (4 * 4 * 5 * 3 * 3 * 3 + 80 * 7)
    assert flops_per_image(keras.Model(inputs, x)) == expected


def test_an_unknown_layer_with_a_kernel_is_not_silently_free():
    inputs = keras.Input((8, 3))
    network = keras.Model(inputs, keras.layers.Conv1D(2, 3)(inputs))
    with pytest.raises(ValueError, match="add a rule for Conv1D"):
        flops_per_image(network)


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (8, 8, 1)])
@pytest.mark.parametrize("name", SMALL)
def test_any_image_becomes_float32_logits(name, shape):
    network = build(name, shape, 7)
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8)
    logits = network(images)
    assert logits.shape == (3, 7) and logits.dtype == tf.float32
    assert network.input.dtype == "uint8"


@pytest.mark.parametrize("name", SMALL)
def test_save_and_load(name, images, tmp_path):
    network = build(name)
    network.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(network(images), restored(images))
    assert [type(layer) for layer in restored.layers] == [type(layer) for layer in network.layers]
    with_config = [layer for layer in network.layers if layer.__module__.startswith("cifar_models")]
    for layer in with_config:
        assert restored.get_layer(layer.name).get_config() == layer.get_config()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", SMALL)
def test_mixed_precision(name, policy, images, float32_policy):
    exact = build(name)
    keras.config.set_dtype_policy(policy)
    mixed = build(name)
    for one, other in zip(exact.weights, mixed.weights, strict=True):
        assert other.dtype in ("float32", "uint32")
        np.testing.assert_array_equal(one, other)
    logits = mixed(images)
    assert logits.dtype == tf.float32
    np.testing.assert_allclose(logits, exact(images), atol=0.1)


@pytest.mark.parametrize("name", SMALL)
def test_every_variable_gets_a_gradient(name, images):
    network = build(name)
    with tf.GradientTape() as tape:
        logits = network(images, training=False)
        loss = tf.reduce_mean(tf.square(logits - tf.one_hot(tf.range(8), 10)))
    variables = network.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        if "key/bias" not in variable.path:  # softmax does not feel it
            assert np.abs(gradient).max() > 0, variable.path


def test_l1_and_l2_are_added_to_the_loss():
    recipe = PRESETS["residual_cnn"]
    recipe = type(recipe)(l1=1e-4, l2=2e-3)
    network = build_network(recipe, (32, 32, 3), 10)
    kernels = [v.numpy() for v in network.trainable_variables if v.name == "kernel"]
    assert len(kernels) == 1 + 3 * 2 + 2 + 1  # stem, blocks, projections, classifier
    expected = sum(1e-4 * np.abs(k).sum() + 2e-3 * np.square(k).sum() for k in kernels)
    assert float(sum(network.losses)) == pytest.approx(expected, rel=1e-5)


def test_resnet18_keeps_the_image_until_the_second_stage():
    """The 32-pixel stem: no stride, no pooling."""
    network = build("resnet18")
    sizes = [network.get_layer(f"stage{n}_block2_relu").output.shape[1:] for n in (1, 2, 3, 4)]
    assert sizes == [(32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512)]


@pytest.mark.parametrize("name", ["vit_mimetic", "hybrid_mimetic"])
def test_a_mimetic_start_looks_at_the_like_and_takes_it_away(name):
    network = build(name)
    initialize_network(network, RECIPES[name], np.zeros((4, 32, 32, 3), np.uint8))
    for block in (network.get_layer("encoder1"), network.get_layer("encoder2")):
        kernels = (w for w in block.attention.weights if w.name == "kernel")
        query, key, value, output = (np.asarray(kernel) for kernel in kernels)
        similarity = np.einsum("dhk,ehk->hde", query, key)
        taken = np.einsum("dhk,hke->de", value, output)
        for product, sign in (*((head, 1) for head in similarity), (taken, -1)):
            diagonal = np.diag(product)
            beside = product[~np.eye(48, dtype=bool)]
            assert sign * diagonal.mean() > 0.2 and abs(beside.mean()) < 0.02
    # Of 8 by 8 places the last is in row 7, and the first frequency is one radian a row.
    assert np.isclose(network.get_layer("positions").embedding[-1, 0], np.sin(7))


def test_only_a_mimetic_recipe_starts_mimetically():
    network = build("cct2_3x2")
    before = network.get_weights()
    initialize_network(network, RECIPES["cct2_3x2"], np.zeros((4, 32, 32, 3), np.uint8))
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_notebooks_vit_sees_64_patches_of_16_pixels():
    network = build("vit_notebook")
    assert network.get_layer("patches").output.shape[1:] == (64, 16 * 16 * 3)
