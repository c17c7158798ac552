"""Every architecture against the contract of models, and sizes against published numbers."""

import dataclasses

import keras
import numpy as np
import pytest

from cifar_models.config.architectures import (
    ARCHITECTURES,
    CCTConfig,
    ModelConfig,
    ResidualCNNConfig,
    ViTConfig,
)
from cifar_models.evaluation.flops import flops_per_image
from cifar_models.models.test_time_augmentation import with_test_time_augmentation
from cifar_models.training.initialization import initialize_network
from tests.models import contract
from tests.models.contract import CONFIGS as ARCHITECTURE_CONFIGS

# Number of all parameters and of the trainable ones; a new architecture is tested by adding a line.
GOLDEN = {
    "residual_cnn": (311_530, 310_186),
    "resnet18": (11_183_562, 11_173_962),  # trainable: kuangliu/pytorch-cifar
    "wide_resnet28_10": (36_497_146, 36_479_194),  # trainable: xternalz/WideResNet-pytorch
    "airbench94": (1_973_944, 1_971_352),  # test_airbench.py compares with the published sizes
    "airbench96": (9_921_848, 9_915_416),
    "vit": (2_697_226, 2_697_226),  # vit_parameters below
    "vit_notebook": (43_177_738, 43_177_738),
    "cct2_3x2": (283_723, 283_723),  # the paper's table: 0.28 and 3.76 million
    "cct7_3x1": (3_760_139, 3_760_139),  # the authors' code
    "conv_vit": (606_978, 606_050),  # test_size_of_the_hybrid_for_laptops counts them
}
VARIANTS: dict[str, ModelConfig] = {
    "vit_mimetic": ViTConfig(hidden_dim=48, num_layers=2, mimetic_init=True, pooling="token"),
    "hybrid_mimetic": CCTConfig(hidden_dim=48, mimetic_init=True),
}
CONFIGS = {**ARCHITECTURE_CONFIGS, **VARIANTS}
MAX_PARAMETERS = 3_000_000  # of larger networks, only the size is tested
SMALL = sorted({name for name in GOLDEN if GOLDEN[name][0] <= MAX_PARAMETERS} | set(VARIANTS))
BLACK = contract.split_of(np.zeros((4, 32, 32, 3), np.uint8))  # for architectures without whitening


def build(name: str) -> keras.Model:
    return contract.build(CONFIGS[name])


def shallow(name: str) -> ModelConfig:
    """Return a configuration with at most two encoder blocks, which take most of the time."""
    config = CONFIGS[name]
    is_deep = getattr(config, "num_layers", 0) > 2
    return dataclasses.replace(config, num_layers=2) if is_deep else config


def test_every_architecture_has_a_line():
    assert set(GOLDEN) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_size(name):
    contract.check_size(CONFIGS[name], GOLDEN[name])


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (8, 8, 1)])
@pytest.mark.parametrize("name", SMALL)
def test_logits_of_any_image(name, shape):
    contract.check_logits(shallow(name), shape)


@pytest.mark.parametrize("name", SMALL)
def test_save_and_load(name, images, tmp_path):
    contract.check_saving(shallow(name), images, tmp_path / "model.keras")


@pytest.mark.parametrize("name", SMALL)
def test_serialization(name, images):
    contract.check_serialization(shallow(name), images)


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1)])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", SMALL)
def test_mixed_precision(name, policy, shape, float32_policy):
    contract.check_mixed_precision(shallow(name), policy, shape)


@pytest.mark.parametrize("name", SMALL)
def test_gradient_step(name, images):
    contract.check_gradient_step(shallow(name), images)


def vit_parameters(p: ViTConfig, channels: int, num_classes: int) -> int:
    width, num_patches = p.hidden_dim, (p.image_size // p.patch_size) ** 2
    tokens = 1 if p.pooling == "token" else 0
    patches = (p.patch_size**2 * channels + 1) * width
    attention = 4 * (width**2 + width)
    mlp = (width + 1) * p.mlp_dim + (p.mlp_dim + 1) * width
    norms = 2 * 2 * width
    positions = (num_patches + tokens) * width + tokens * width
    blocks = p.num_layers * (attention + mlp + norms)
    return patches + positions + blocks + 2 * width + (width + 1) * num_classes


@pytest.mark.parametrize("name", ["vit", "vit_notebook", "vit_mimetic"])
def test_vit_sizes_by_formula(name):
    assert build(name).count_params() == vit_parameters(CONFIGS[name], 3, 10)


def test_size_of_the_hybrid_for_laptops():
    """Count the weights of two stages of 32 and 128 filters, and three blocks of 128 and 256."""
    whitening_kernel, whitening_bias = 2 * 2 * 3 * 24, 24
    convolutions = 9 * (24 * 32 + 32 * 32 + 32 * 128 + 128 * 128)
    shifts = 2 * 32 + 2 * 128
    blocks = 3 * (4 * (128 * 128 + 128) + 129 * 256 + 257 * 128 + 2 * 2 * 128)
    positions, norm, classifier = 7 * 7 * 128, 2 * 128, 129 * 10
    trainable = whitening_bias + convolutions + shifts + blocks + positions + norm + classifier
    moving_averages = 2 * shifts
    assert GOLDEN["conv_vit"] == (trainable + whitening_kernel + moving_averages, trainable)


def test_published_sizes_of_the_hybrids():
    assert round(GOLDEN["cct2_3x2"][0] / 1e6, 2) == 0.28
    assert round(GOLDEN["cct7_3x1"][0] / 1e6, 2) == 3.76


@pytest.mark.parametrize(
    ("name", "giga_multiply_adds", "tolerance"),
    # Published numbers of multiply-adds, which are two operations each. 0.56 G: kuangliu's
    # ResNet-18. 5.2 G: Zagoruyko and Komodakis (2016), table 4. 0.95 G and 0.03 G: the table of
    # Compact-Transformers, which rounds and counts the products of attention differently.
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
    width, num_patches = p.hidden_dim, (p.image_size // p.patch_size) ** 2
    length = num_patches + (1 if p.pooling == "token" else 0)
    patches = num_patches * p.patch_size**2 * channels * width
    projections = 4 * length * width**2  # query, key, value and output
    attention = 2 * length**2 * width  # scores and weighted mean
    mlp = 2 * length * width * p.mlp_dim
    return patches + p.num_layers * (projections + attention + mlp) + width * num_classes


@pytest.mark.parametrize("name", ["vit", "vit_notebook", "vit_mimetic"])
def test_flops_of_a_vit_by_formula(name):
    assert flops_per_image(build(name)) == 2 * vit_multiply_adds(CONFIGS[name], 3, 10)


def test_flops_of_vit_b_16_are_the_published_ones():
    """torchvision's table gives 17.56 G multiply-adds and calls them FLOPs."""
    config = ViTConfig(
        image_size=224,
        patch_size=16,
        hidden_dim=768,
        num_layers=12,
        num_heads=12,
        mlp_dim=3072,
        pooling="token",
    )
    with keras.StatelessScope(initialize_variables=False):  # takes no memory
        network = contract.build(config, (224, 224, 3), 1000)
    assert flops_per_image(network) / 2e9 == pytest.approx(17.56, abs=0.005)


def test_flops_of_a_convolution_and_a_dense_layer_by_hand():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(5, 3, strides=2, padding="same")(inputs)  # (4, 4, 5)
    x = keras.layers.Dense(7)(keras.layers.Flatten()(x))
    expected = 2 * (4 * 4 * 5 * 3 * 3 * 3 + 80 * 7)
    assert flops_per_image(keras.Model(inputs, x)) == expected


@pytest.mark.parametrize(
    ("layer_class", "arguments"),
    [
        (keras.layers.Conv2DTranspose, (2, 3)),
        (keras.layers.DepthwiseConv2D, (3,)),
        (keras.layers.EinsumDense, ("bhwc,ck->bhwk", (8, 8, 2))),
        (keras.layers.SeparableConv2D, (2, 3)),
    ],
)
def test_an_unknown_layer_with_a_matrix_is_not_counted_as_zero(layer_class, arguments):
    inputs = keras.Input((8, 8, 3))
    network = keras.Model(inputs, layer_class(*arguments)(inputs))
    with pytest.raises(ValueError, match=f"add a rule for {layer_class.__name__} to"):
        flops_per_image(network)


def test_a_network_inside_a_network_is_not_counted_as_zero():
    network = with_test_time_augmentation(build("residual_cnn"), 2)
    with pytest.raises(ValueError, match="layer residual_cnn: add a rule for Functional"):
        flops_per_image(network)


def test_an_unknown_layer_with_a_kernel_is_not_counted_as_zero():
    inputs = keras.Input((8, 3))
    network = keras.Model(inputs, keras.layers.Conv1D(2, 3, name="line")(inputs))
    with pytest.raises(ValueError, match="layer line: add a rule for Conv1D"):
        flops_per_image(network)


def test_a_layer_with_vectors_only_is_counted_as_zero():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GroupNormalization(1)(inputs)
    assert flops_per_image(keras.Model(inputs, keras.layers.Dropout(0.5)(x))) == 0


def test_l1_and_l2_penalties_are_added_to_the_loss():
    network = contract.build(ResidualCNNConfig(l1=1e-4, l2=2e-3))
    kernels = [v.numpy() for v in network.trainable_variables if v.name == "kernel"]
    assert len(kernels) == 1 + 3 * 2 + 2 + 1  # stem, blocks, projections, classifier
    expected = sum(1e-4 * np.abs(k).sum() + 2e-3 * np.square(k).sum() for k in kernels)
    assert float(sum(network.losses)) == pytest.approx(expected, rel=1e-5)


def test_resnet18_keeps_the_image_until_the_second_stage():
    """The stem for 32 pixels has neither stride nor pooling."""
    network = build("resnet18")
    sizes = [network.get_layer(f"stage{n}_block2_relu").output.shape[1:] for n in (1, 2, 3, 4)]
    assert sizes == [(32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512)]


@pytest.mark.parametrize("name", ["vit_mimetic", "hybrid_mimetic"])
def test_mimetic_attention_prefers_similar_tokens_and_subtracts_them(name):
    network = build(name)
    initialize_network(network, CONFIGS[name], BLACK)
    for block in (network.get_layer("encoder1"), network.get_layer("encoder2")):
        kernels = (w for w in block.attention.weights if w.name == "kernel")
        query, key, value, output = (np.asarray(kernel) for kernel in kernels)
        similarity = np.einsum("dhk,ehk->hde", query, key)
        update = np.einsum("dhk,hke->de", value, output)
        for product, sign in [*((head, 1) for head in similarity), (update, -1)]:
            diagonal = np.diag(product)
            off_diagonal = product[~np.eye(48, dtype=bool)]
            assert sign * diagonal.mean() > 0.2 and abs(off_diagonal.mean()) < 0.02
    # The last of 8x8 patches is in row 7, and the first frequency is one radian per row.
    assert np.isclose(network.get_layer("positions").embedding[-1, 0], np.sin(7))


def test_only_a_mimetic_architecture_is_initialized_mimetically():
    network = build("cct2_3x2")
    before = network.get_weights()
    initialize_network(network, CONFIGS["cct2_3x2"], BLACK)
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_vit_of_the_notebook_has_64_patches_of_16_pixels():
    network = build("vit_notebook")
    assert network.get_layer("patches").output.shape[1:] == (64, 16 * 16 * 3)
