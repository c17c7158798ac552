"""Attention maps, rollout and similarities of positions against NumPy and by hand."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

from cifar_models.config.recipe_file import read_recipe
from cifar_models.explain.attention import (
    attention_maps,
    attention_rollout,
    attention_to_patches,
    position_similarities,
)
from cifar_models.models.catalog import build_network
from cifar_models.models.test_time_augmentation import with_test_time_augmentation

TRANSFORMERS = {  # pooling or family → recipe, overrides, number of tokens N
    "mean": ("vit", ("model.patch_size=8",), 16),
    "token": ("vit", ("model.patch_size=8", "model.pooling=token"), 17),
    "hybrid": ("hybrid", ("model.conv_layers=2",), 64),
}
SMALL = ("model.num_layers=3", "model.hidden_dim=12", "model.num_heads=3", "model.mlp_dim=8")


def small_network(name: str) -> keras.Model:
    recipe_name, overrides, _ = TRANSFORMERS[name]
    keras.utils.set_random_seed(0)
    network = build_network(read_recipe(recipe_name, (*SMALL, *overrides)).model, (32, 32, 3), 10)
    for weight in network.trainable_variables:  # also changes biases and norms
        weight.assign_add(0.1 * keras.random.normal(weight.shape))
    return network


def attention_in_numpy(block: keras.layers.Layer, sequence: np.ndarray) -> np.ndarray:
    """Return softmax(Q Kᵀ / √d) of a normalized sequence (B, N, D) as (B, heads, N, N)."""
    norm = block.attention_norm
    centred = sequence - sequence.mean(axis=-1, keepdims=True)
    normed = centred / np.sqrt(sequence.var(axis=-1, keepdims=True) + 1e-6)
    normed = normed * np.asarray(norm.gamma) + np.asarray(norm.beta)
    weights = {weight.path.split("/", 1)[1]: np.asarray(weight) for weight in block.weights}

    def project(name: str) -> np.ndarray:
        kernel = weights[f"attention/{name}/kernel"]  # (D, heads, d)
        bias = weights.get(f"attention/{name}/bias", np.zeros(kernel.shape[1:]))
        return np.einsum("bnd,dhk->bhnk", normed, kernel) + bias[:, np.newaxis]

    query, key = project("query"), project("key")  # (B, heads, N, d)
    return softmax(query @ key.transpose(0, 1, 3, 2) / np.sqrt(query.shape[-1]), axis=-1)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_maps_are_the_softmax_of_queries_and_keys(name, images):
    network, num_tokens = small_network(name), TRANSFORMERS[name][2]
    maps = attention_maps(network, images)
    assert maps.shape == (8, 3, 3, num_tokens, num_tokens)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)
    assert num_tokens * maps.std() > 0.05  # not uniform, so the comparison below is meaningful
    sequence = keras.Model(network.input, network.get_layer("positions").output)(images).numpy()
    for number in range(3):
        block = network.get_layer(f"encoder{number + 1}")
        expected = attention_in_numpy(block, sequence)
        np.testing.assert_allclose(maps[:, number], expected, atol=1e-5)
        sequence = block(sequence).numpy()


def test_maps_are_float32_in_mixed_precision(images, float32_policy):
    keras.config.set_dtype_policy("mixed_bfloat16")
    maps = attention_maps(small_network("mean"), images[:2])
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=0.02)


def test_maps_with_test_time_augmentation_are_those_of_the_image(images):
    network = small_network("mean")
    augmented = with_test_time_augmentation(network, 6)
    np.testing.assert_array_equal(
        attention_maps(augmented, images), attention_maps(network, images)
    )
    np.testing.assert_array_equal(position_similarities(augmented), position_similarities(network))


def test_maps_of_a_network_without_attention_raise(images):
    network = build_network(read_recipe("digits-cnn").model, (32, 32, 3), 10)
    with pytest.raises(ValueError, match="residual_cnn has no attention"):
        attention_maps(network, images)


def test_rollout_by_hand():
    first = [[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]]  # mean [[0, 1], [1/2, 1/2]]
    second = [[[1.0, 0.0], [1.0, 0.0]]] * 2
    # With the residual connection: [[1/2, 1/2], [1/4, 3/4]], then [[1, 0], [1/2, 1/2]] times it.
    rollout = attention_rollout(np.array([[first, second]]))
    np.testing.assert_allclose(rollout, [[[0.5, 0.5], [0.375, 0.625]]])


def test_rollout_of_tokens_that_attend_to_themselves_is_the_identity():
    maps = np.broadcast_to(np.eye(9), (2, 4, 3, 9, 9))
    np.testing.assert_allclose(attention_rollout(maps), np.broadcast_to(np.eye(9), (2, 9, 9)))


def test_the_rows_of_a_rollout_sum_to_one():
    maps = softmax(np.random.default_rng(0).normal(size=(2, 5, 3, 17, 17)), axis=-1)
    rollout = attention_rollout(maps)
    assert rollout.shape == (2, 17, 17)
    np.testing.assert_allclose(rollout.sum(axis=-1), 1)


def test_attention_to_patches_is_the_mean_over_queries():
    weights = np.array([[0.1, 0.2, 0.3, 0.4]] * 3 + [[1.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(
        attention_to_patches(weights[np.newaxis]), [[[1.3 / 4, 0.6 / 4], [0.9 / 4, 1.2 / 4]]]
    )


def test_attention_to_patches_is_that_of_the_class_token_if_there_is_one():
    weights = np.full((2, 5, 5), 0.2)
    weights[:, 0] = [0.0, 0.1, 0.2, 0.3, 0.4]
    np.testing.assert_allclose(attention_to_patches(weights), [[[0.1, 0.2], [0.3, 0.4]]] * 2)


@pytest.mark.parametrize("name", ["mean", "token"])
def test_position_similarities_are_cosines(name):
    network, num_tokens = small_network(name), TRANSFORMERS[name][2]
    vectors = np.random.default_rng(1).normal(size=(num_tokens, 12))
    network.get_layer("positions").embedding.assign(vectors)
    patches = vectors[-16:]
    similarities = position_similarities(network)
    assert similarities.shape == (16, 16)
    for one in range(16):
        for other in range(16):
            cosine = patches[one] @ patches[other]
            cosine /= np.sqrt((patches[one] @ patches[one]) * (patches[other] @ patches[other]))
            assert similarities[one, other] == pytest.approx(cosine, abs=1e-5)
