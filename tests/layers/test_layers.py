"""Layers against computations in NumPy, TensorFlow or Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import stats

from cifar_models.layers.convolution import MirroredGradientConv2D
from cifar_models.layers.encoder_block import TransformerEncoderBlock
from cifar_models.layers.feature_projection import FeatureProjection, resizing_matrix
from cifar_models.layers.gelu import GELU
from cifar_models.layers.initializers import SinusoidalPositions, apply_mimetic_init
from cifar_models.layers.normalization import FusedBatchNormalization
from cifar_models.layers.patches import PatchExtraction
from cifar_models.layers.stochastic_depth import StochasticDepth, depth_rates
from cifar_models.layers.tokens import ClassToken, PositionEmbedding, SequencePooling


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_patches_equal_those_of_tensorflow(images):
    ours = PatchExtraction(4)(images.astype(np.float32))
    theirs = tf.image.extract_patches(
        images.astype(np.float32), (1, 4, 4, 1), (1, 4, 4, 1), (1, 1, 1, 1), "VALID"
    )
    np.testing.assert_array_equal(ours, tf.reshape(theirs, (8, 64, 48)))


def test_the_error_of_an_indivisible_image_names_the_side():
    with pytest.raises(ValueError, match="patch_size 4 does not divide the image's width 30"):
        PatchExtraction(4)(np.zeros((1, 32, 30, 3), np.float32))


def test_the_same_positions_are_added_to_every_sequence():
    layer, sequence = PositionEmbedding(stddev=0.5), normal(2, 200, 30)
    added = layer(sequence).numpy() - sequence
    np.testing.assert_allclose(added[0], added[1], atol=1e-6)
    np.testing.assert_allclose(added[0], layer.embedding, atol=1e-6)
    expected = 0.5 * stats.truncnorm(-2, 2).std()  # Keras does not rescale the truncated normal
    assert added[0].std() == pytest.approx(expected, rel=0.03)


def test_sinusoidal_positions_by_hand():
    """Row 2, column 1 of 3x3 patches by the paper's formula, and the same after a class token."""
    frequencies = [1, 10_000**-0.5]
    expected = [wave(2 * f) for wave in (np.sin, np.cos) for f in frequencies]
    expected += [wave(1 * f) for wave in (np.sin, np.cos) for f in frequencies]
    np.testing.assert_allclose(SinusoidalPositions()((9, 8))[7], expected, atol=1e-6)
    with_token = SinusoidalPositions()((10, 8)).numpy()
    np.testing.assert_array_equal(with_token[0], np.zeros(8))
    np.testing.assert_array_equal(with_token[1:], SinusoidalPositions()((9, 8)))


def test_sinusoidal_positions_of_near_patches_are_the_most_similar():
    positions = SinusoidalPositions()((64, 48)).numpy()
    similarity = (positions @ positions.T).reshape(8, 8, 8, 8)  # row, column, row, column
    y, x = np.mgrid[:8, :8]
    distance = np.abs(y[..., None, None] - y) + np.abs(x[..., None, None] - x)
    assert similarity[distance == 0] == pytest.approx(24)
    assert similarity[distance == 1].max() < 24
    assert similarity[distance == 1].min() > similarity[distance == 2].max()


def test_the_class_token_comes_first():
    layer, sequence = ClassToken(), normal(2, 5, 3)
    longer = layer(sequence).numpy()
    assert longer.shape == (2, 6, 3)
    np.testing.assert_array_equal(longer[:, 1:], sequence)
    np.testing.assert_array_equal(longer[:, 0], np.broadcast_to(layer.token[0], (2, 3)))


def test_sequence_pooling_by_hand():
    layer, sequence = SequencePooling(), normal(2, 5, 3)
    pooled = layer(sequence).numpy()
    scores = sequence @ np.asarray(layer.score.kernel) + np.asarray(layer.score.bias)
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(pooled, (weights * sequence).sum(axis=1), atol=1e-6)


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean():
    layer = StochasticDepth(0.3, seed=1)
    branch = np.ones((4000, 2, 3), np.float32)
    dropped = layer(branch, training=True).numpy()
    is_zero = dropped == 0
    per_sample = is_zero.reshape(4000, -1)
    assert (per_sample.all(axis=1) | ~per_sample.any(axis=1)).all()
    assert stats.binomtest(int(per_sample[:, 0].sum()), 4000, 0.3).pvalue > 1e-3
    np.testing.assert_allclose(dropped[~is_zero], 1 / 0.7, rtol=1e-6)
    np.testing.assert_array_equal(layer(branch, training=False), branch)


def test_a_network_with_stochastic_depth_can_be_quantized_by_keras():
    """Keras refuses to quantize a network with a layer that is not built."""
    inputs = keras.Input((4,))
    x = StochasticDepth(0.5)(keras.layers.Dense(8)(inputs))
    network = keras.Model(inputs, keras.layers.Dense(3)(x))
    values = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    before = network(values).numpy()
    network.quantize("int8")
    np.testing.assert_allclose(network(values).numpy(), before, atol=0.05)


def test_depth_rates_rise_linearly():
    assert depth_rates(0.2, 5) == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert depth_rates(0.2, 1) == [0]


@pytest.mark.parametrize("training", [True, False])
def test_fused_batch_normalization_equals_that_of_keras(training):
    ours = FusedBatchNormalization(momentum=0.9, epsilon=1e-5)
    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    inputs = 3 * normal(16, 4, 4, 8) + 2
    for layer in (ours, theirs):
        layer.build(inputs.shape)
        layer.gamma.assign(np.linspace(0.5, 2, 8))
        layer.beta.assign(np.linspace(-1, 1, 8))
    gradients = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            variable = tf.Variable(inputs)
            outputs = layer(variable, training=training)
            loss = tf.reduce_sum(outputs * normal(16, 4, 4, 8))
        gradients.append(tape.gradient(loss, [variable, layer.gamma.value, layer.beta.value]))
    np.testing.assert_allclose(
        ours(inputs, training=training), theirs(inputs, training=training), atol=1e-5
    )
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3, rtol=1e-4)
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, atol=1e-6)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, atol=1e-5)


def layer_norm(x, layer):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * np.asarray(layer.gamma) + np.asarray(layer.beta)


def test_the_encoder_block_by_hand():
    block, x = TransformerEncoderBlock(num_heads=2, mlp_dim=16), normal(3, 5, 8)
    result = block(x).numpy()
    weights = [np.asarray(w) for w in block.attention.weights]
    query_kernel, query_bias, key_kernel, key_bias, value_kernel, value_bias, out_kernel, bias = (
        weights
    )
    normed = layer_norm(x, block.attention_norm)
    query, key, value = (
        np.einsum("bnd,dhk->bhnk", normed, kernel) + offset[None, :, None, :]
        for kernel, offset in (
            (query_kernel, query_bias),
            (key_kernel, key_bias),
            (value_kernel, value_bias),
        )
    )
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(4)
    attention = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    x = x + np.einsum("bhnk,hkd->bnd", attention @ value, out_kernel) + bias
    hidden = layer_norm(x, block.mlp_norm) @ np.asarray(block.mlp_in.kernel)
    hidden = hidden + np.asarray(block.mlp_in.bias)
    hidden = hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3))) / 2
    x = x + hidden @ np.asarray(block.mlp_out.kernel) + np.asarray(block.mlp_out.bias)
    np.testing.assert_allclose(result, x, atol=1e-5)


@pytest.mark.parametrize("num_heads", [1, 4])
def test_mimetic_attention_is_noise_and_identity(num_heads):
    """The products of kernels minus the scaled identity are Gaussian noise.

    This holds for value @ output, and for query @ key.T if one head has the full rank. Of several
    heads, each product has the rank of the head.
    """
    width = 64
    attention = keras.layers.MultiHeadAttention(num_heads, width // num_heads)
    attention.build((1, 9, width), (1, 9, width))
    apply_mimetic_init(attention)
    query, key, value, output = (np.asarray(w) for w in attention.weights[::2])
    noise = (np.einsum("dhk,hke->de", value, output) + 0.4 * np.eye(width)) / 0.4
    assert stats.kstest(noise.ravel() * np.sqrt(width), "norm").pvalue > 1e-3
    for head in range(num_heads):
        product = query[:, head] @ key[:, head].T
        singular_values = np.linalg.svd(product, compute_uv=False)
        assert (singular_values[width // num_heads :] < 1e-4).all() and singular_values[0] > 1
        # Each factor has the square roots of the singular values, so both have the same norm.
        for factor in (query[:, head], key[:, head]):
            np.testing.assert_allclose(
                factor.T @ factor, np.diag(singular_values[: width // num_heads]), atol=1e-4
            )
        if num_heads == 1:
            noise = (product - 0.7 * np.eye(width)) / 0.7
            assert stats.kstest(noise.ravel() * np.sqrt(width), "norm").pvalue > 1e-3
        assert np.diag(product).mean() > 10 * abs(product[~np.eye(width, dtype=bool)].mean())


@pytest.mark.parametrize("bias", [True, False])
def test_attention_by_one_product_equals_that_of_keras(bias):
    """Outputs, and gradients of the sequence and of every weight."""
    rng = np.random.default_rng(0)
    block = TransformerEncoderBlock(num_heads=4, mlp_dim=8, attention_bias=bias)
    block.build((None, 10, 32))
    for weight in block.attention.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    sequence = tf.constant(rng.normal(size=(3, 10, 32)), tf.float32)
    direction = tf.constant(rng.normal(size=(3, 10, 32)), tf.float32)

    def results(attention) -> list[np.ndarray]:
        weights = [weight.value for weight in block.attention.weights]
        with tf.GradientTape() as tape:
            tape.watch(sequence)
            output = attention(sequence)
        gradients = tape.gradient(output, [sequence, *weights], direction)
        return [np.asarray(each) for each in (output, *gradients)]

    ours = results(block.self_attention)
    theirs = results(lambda x: block.attention(x, x))
    assert len(ours) == (10 if bias else 6)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_the_number_of_heads_must_divide_the_hidden_dim():
    with pytest.raises(ValueError, match="num_heads 3 does not divide hidden_dim 8"):
        TransformerEncoderBlock(num_heads=3, mlp_dim=16)(normal(1, 5, 8))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, 2, (3, 1)])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, (5, 3)])
def test_the_gradients_of_the_convolution_equal_those_of_keras(kernel_size, strides, padding):
    """In bfloat16, the gradient of every kernel is a sum of matrix products."""
    options = {"filters": 5, "kernel_size": kernel_size, "strides": strides, "padding": padding}
    inputs = normal(2, 7, 8, 3)
    expected = gradients_of(keras.layers.Conv2D(**options, use_bias=False), inputs)
    for dtype, tolerance in (("float32", 1e-4), ("mixed_bfloat16", 0.2)):
        layer = MirroredGradientConv2D(**options, use_bias=False, dtype=dtype)
        for one, other in zip(gradients_of(layer, inputs), expected, strict=True):
            np.testing.assert_allclose(one, other, atol=tolerance)


def gradients_of(layer: keras.layers.Layer, inputs: np.ndarray) -> list[np.ndarray]:
    """Return the outputs and the gradients for inputs and kernel, as float32."""
    layer.build(inputs.shape)
    layer.kernel.assign(normal(*layer.kernel.shape))
    variable = tf.Variable(inputs)
    with tf.GradientTape() as tape:
        outputs = tf.cast(layer(variable), "float32")
        loss = tf.reduce_sum(outputs * normal(*outputs.shape))
    gradients = tape.gradient(loss, [variable, layer.kernel.value])
    return [np.asarray(each, np.float32) for each in (outputs, *gradients)]


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_gelu_and_its_gradient_by_the_formula(approximate, training):
    x = np.linspace(-6, 6, 10_001)
    if approximate:
        z, slope = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3), 1 + 3 * 0.044715 * x**2
        distribution = (1 + np.tanh(z)) / 2
        density = (1 - np.tanh(z) ** 2) / 2 * np.sqrt(2 / np.pi) * slope
    else:
        distribution, density = stats.norm.cdf(x), stats.norm.pdf(x)
    variable = tf.Variable(x.astype(np.float32))
    with tf.GradientTape() as tape:
        outputs = GELU(approximate)(variable, training=training)
    np.testing.assert_allclose(outputs, x * distribution, atol=5e-6)
    gradient = tape.gradient(outputs, variable)
    np.testing.assert_allclose(gradient, distribution + x * density, atol=5e-6)


@pytest.mark.parametrize(("size", "new_size"), [(4, 3), (4, 4), (3, 7), (7, 3), (8, 2)])
def test_resizing_matrix_resizes_as_pillow(size, new_size):
    column = np.random.default_rng(0).normal(size=(size, 1)).astype(np.float32)
    resized = Image.fromarray(column).resize((1, new_size), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(
        resizing_matrix(size, new_size) @ column, np.asarray(resized), atol=1e-5
    )


def test_feature_projection_drops_a_class_token_and_keeps_the_layout():
    """A projection that is the identity returns the patches row by row."""
    layer = FeatureProjection(height=2, width=2, channels=3)
    tokens = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    layer.build(tokens.shape)
    layer.dense.kernel.assign(np.eye(3))
    np.testing.assert_allclose(layer(tokens), tokens[:, 1:].reshape(4, 2, 2, 3), rtol=1e-6)


def test_feature_projection_refuses_tokens_without_a_grid():
    with pytest.raises(ValueError, match="7 tokens"):
        FeatureProjection(2, 2, 3).build((None, 7, 3))
