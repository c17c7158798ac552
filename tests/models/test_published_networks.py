"""Networks that are named after published ones, against their forward pass in numpy and in torch.

A convolution of the published code pads all sides equally, where Keras' "same" pads an even image
only at the bottom and at the right if there is a stride.
"""

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.special import erf, softmax

from cifar_models.config.architectures import ARCHITECTURES, CCTConfig, ResidualCNNConfig
from cifar_models.models.catalog import build_network
from cifar_models.run.load import load_run
from tests.models import contract

RESNET18, WRN, CCT7 = (
    ARCHITECTURES[name].config for name in ("resnet18", "wide_resnet28_10", "cct7_3x1")
)
NARROW = {
    "resnet18": dataclasses.replace(RESNET18, stem_filters=4, stage_filters=(4, 6, 8, 10)),
    "wide_resnet28_10": dataclasses.replace(WRN, stem_filters=4, stage_filters=(6, 8, 10)),
    "stem of stride 2": dataclasses.replace(
        ARCHITECTURES["residual_cnn"].config, stem_filters=4, stage_filters=(4, 6, 8)
    ),
    "stem with max pooling": ResidualCNNConfig(
        stem_filters=4,
        stem_kernel_size=3,
        stem_strides=1,
        stem_pool_size=2,
        stage_filters=(4, 6, 8),
    ),
}


def randomize(network: keras.Model) -> keras.Model:
    """Set all weights at random, so that no term of a forward pass is 0 or 1."""
    rng = np.random.default_rng(0)
    for weight in network.weights:
        if weight.dtype != "float32":  # the state of a random number generator
            continue
        values = rng.normal(size=weight.shape) / np.sqrt(max(np.prod(weight.shape[:-1]), 4))
        is_positive = weight.name in ("gamma", "moving_variance")
        weight.assign(1 + np.abs(values) if is_positive else values)
    return network


def scaled(images: np.ndarray) -> np.ndarray:
    return images / 127.5 - 1


class Arrays:
    """The weights of a network as float64 arrays, and the layers that use them, in numpy."""

    def __init__(self, network: keras.Model):
        self.network = network

    def of(self, layer: str) -> list[np.ndarray]:
        return [np.asarray(w, np.float64) for w in self.network.get_layer(layer).weights]

    def convolve(self, x, layer: str, strides: int = 1):
        """Pad all sides by half the kernel, and convolve with a stride: (B, H, W, C) → same."""
        (kernel,) = self.of(layer)
        border = kernel.shape[0] // 2
        x = np.pad(x, ((0, 0), (border, border), (border, border), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
        windows = windows[:, ::strides, ::strides]  # (B, H / strides, W / strides, C, P, Q)
        return np.einsum("bhwcpq,pqcf->bhwf", windows, kernel, optimize=True)

    def normalize(self, x, layer: str):
        gamma, beta, mean, variance = self.of(f"{layer}_norm")
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def dense(self, x, layer: str):
        kernel, bias = self.of(layer)
        return x @ kernel + bias


def residual_logits(network: keras.Model, config: ResidualCNNConfig, images: np.ndarray):
    """Return the logits by figure 2 of arXiv:1512.03385 or figure 4e of arXiv:1603.05027."""
    arrays = Arrays(network)
    x = arrays.convolve(scaled(images), "stem", config.stem_strides)
    if not config.pre_activation:
        x = np.maximum(arrays.normalize(x, "stem"), 0)
    if (size := config.stem_pool_size) > 1:
        count, height, width, filters = x.shape
        x = x.reshape(count, height // size, size, width // size, size, filters).max(axis=(2, 4))
    for stage, blocks in enumerate(config.stage_blocks, start=1):
        for block in range(1, blocks + 1):
            name, strides = f"stage{stage}_block{block}", 2 if stage > 1 and block == 1 else 1
            has_projection = block == 1 and (strides > 1 or config.stem_filters != x.shape[-1])
            has_projection |= x.shape[-1] != config.stage_filters[stage - 1]
            before = np.maximum(arrays.normalize(x, name), 0) if config.pre_activation else x
            y = arrays.convolve(before, f"{name}_conv1", strides)
            y = np.maximum(arrays.normalize(y, f"{name}_conv1"), 0)
            y = arrays.convolve(y, f"{name}_conv2")
            if has_projection:
                x = arrays.convolve(before, f"{name}_shortcut", strides)
            if not config.pre_activation:
                y = arrays.normalize(y, f"{name}_conv2")
                x = arrays.normalize(x, f"{name}_shortcut") if has_projection else x
                y = np.maximum(x + y, 0) - x
            x = x + y
    if config.pre_activation:
        x = np.maximum(arrays.normalize(x, "last"), 0)
    return arrays.dense(x.mean(axis=(1, 2)), "classifier")


@pytest.mark.parametrize("name", NARROW)
def test_residual_networks_give_the_logits_of_the_papers_formulas(name, images):
    network = randomize(contract.build(NARROW[name]))
    expected = residual_logits(network, NARROW[name], images[:4])
    assert expected.std() > 0.1
    np.testing.assert_allclose(network(images[:4]), expected, atol=1e-4)


def layer_norm(x, gamma, beta):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5) * gamma + beta


def cct_logits(network: keras.Model, config: CCTConfig, images: np.ndarray):
    """Return the logits of the authors' code: Compact-Transformers, src/utils/transformers.py."""
    arrays, x = Arrays(network), scaled(images)
    for number in range(1, config.conv_layers + 1):
        x = np.maximum(arrays.convolve(x, f"tokenizer{number}_conv"), 0)
        x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2)).max(axis=(-1, -2))
        x = x[:, ::2, ::2]
    x = x.reshape(len(x), -1, config.hidden_dim) + arrays.of("positions")[0]
    for number in range(1, config.num_layers + 1):
        block = network.get_layer(f"encoder{number}")
        norm, mlp_norm, mlp_in, mlp_out = (
            [np.asarray(weight, np.float64) for weight in layer.weights]
            for layer in (block.attention_norm, block.mlp_norm, block.mlp_in, block.mlp_out)
        )
        query, key, value, output = (np.asarray(w, np.float64) for w in block.attention.weights)
        normed = layer_norm(x, *norm)
        query, key, value = (
            np.einsum("bnd,dhk->bhnk", normed, kernel) for kernel in (query, key, value)
        )
        scores = softmax(query @ key.transpose(0, 1, 3, 2) / np.sqrt(query.shape[-1]), axis=-1)
        x = x + np.einsum("bhnk,hkd->bnd", scores @ value, output) + np.asarray(block.output_bias)
        x = layer_norm(x, *mlp_norm)
        hidden = x @ mlp_in[0] + mlp_in[1]
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        x = x + hidden @ mlp_out[0] + mlp_out[1]
    x = layer_norm(x, *arrays.of("norm"))
    weights = softmax(arrays.dense(x, "sequence_pooling"), axis=1)  # (B, N, 1)
    return arrays.dense((weights * x).sum(axis=1), "classifier")


@pytest.mark.parametrize("conv_layers", [1, 2])
def test_cct_gives_the_logits_of_the_authors_code(conv_layers, images):
    config = dataclasses.replace(
        CCT7, conv_layers=conv_layers, hidden_dim=16, num_layers=2, mlp_dim=32
    )
    network = randomize(contract.build(config))
    expected = cct_logits(network, config, images[:4])
    assert expected.std(axis=0).max() > 0.01
    np.testing.assert_allclose(network(images[:4]), expected, atol=1e-4)


SMALL_CNN = ResidualCNNConfig(stem_filters=4, stage_filters=(4, 6, 8), padding="same")
# Logits of the code before it had the keys `padding` and `as_published`.
EARLIER_LOGITS = [
    (
        CCTConfig(hidden_dim=16, mlp_dim=32, as_published=False),
        [0.363, -2.2701, 1.2261, -2.293, 1.7103, -0.6822, -0.8778, -0.1317, 0.5445, -0.9045],
    ),
    (
        SMALL_CNN,
        [-0.7035, -1.0137, -0.4039, -0.0524, -1.1737, 0.9517, 2.0154, 0.0206, 1.35, -1.9291],
    ),
    (
        dataclasses.replace(SMALL_CNN, pre_activation=True),
        [0.9541, 1.888, -0.1042, 0.4454, 0.125, -1.4865, -0.9628, -0.5755, 0.6268, -0.2877],
    ),
]


@pytest.mark.parametrize(("config", "logits"), EARLIER_LOGITS)
def test_networks_of_earlier_versions_still_give_their_logits(config, logits, images):
    network = randomize(contract.build(config))
    np.testing.assert_allclose(network(images[:1])[0], logits, atol=2e-4)


def test_a_run_folder_of_an_earlier_version_keeps_its_network(run_copy, images):
    """Its recipe has no `padding`. The weights have the same shapes with both paddings."""
    run, digits = load_run(run_copy), images[:, :8, :8, :1]
    network = build_network(dataclasses.replace(run.recipe.model, padding="same"), (8, 8, 1), 10)
    network.set_weights(run.load_network().get_weights())
    network.save(run_copy / "model.keras")
    recipe = run_copy / "recipe.toml"
    lines = recipe.read_text(encoding="utf-8").splitlines(keepends=True)
    assert 'padding = "symmetric"\n' in lines
    recipe.write_text("".join(line for line in lines if not line.startswith("padding")))
    logits = load_run(run_copy).load_network()(digits)
    np.testing.assert_array_equal(logits, network(digits))
    assert np.abs(logits - run.load_network()(digits)).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "wide_resnet28_10"])
def test_weights_of_torch_give_the_logits_of_torch(name, images, tmp_path):
    """torch runs in another process, because some of its builds crash beside TensorFlow."""
    if not importlib.util.find_spec("torchvision"):
        pytest.skip("needs torch and torchvision")
    network = randomize(contract.build(ARCHITECTURES[name].config))
    arrays = {
        f"{layer.name}/{weight.name}": weight.numpy()
        for layer in network.layers
        for weight in layer.weights
    }
    np.savez(tmp_path / "weights.npz", images=scaled(images[:2]).astype(np.float32), **arrays)
    script = Path(__file__).with_name("torch_logits.py")
    subprocess.run([sys.executable, script, name, "weights.npz"], cwd=tmp_path, check=True)
    expected = np.load(tmp_path / "logits.npy")
    assert expected.std() > 0.1
    np.testing.assert_allclose(network(images[:2]), expected, atol=1e-4)
