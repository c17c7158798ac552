"""Attention maps of transformers, attention rollout, and similarity of position embeddings."""

import math

import keras
import numpy as np

from cifar_models.layers.encoder_block import TransformerEncoderBlock
from cifar_models.models.test_time_augmentation import without_test_time_augmentation


def attention_maps(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the attention weights of every layer and head.

    If the network includes test-time augmentation, the weights are those of the original images.

    Args:
        network: A ViT or a CCT.
        images: Images, uint8 (B, H, W, C); processed as one batch.

    Returns:
        Attention weights, float32 (B, L, heads, N, N) for L layers and N tokens. Each row belongs
        to a query and sums to 1; columns are keys.

    Raises:
        ValueError: The network has no attention.
    """
    network = without_test_time_augmentation(network)
    blocks = [layer for layer in network.layers if isinstance(layer, TransformerEncoderBlock)]
    if not blocks:
        raise ValueError(f"network {network.name} has no attention; use a ViT or a CCT")
    sequences = keras.Model(network.input, [block.input for block in blocks])(images)
    maps = []
    for block, sequence in zip(blocks, keras.tree.flatten(sequences), strict=True):
        x = block.attention_norm(sequence)  # (B, N, D)
        _, weights = block.attention(x, x, return_attention_scores=True)  # (B, heads, N, N)
        maps.append(keras.ops.convert_to_numpy(keras.ops.cast(weights, "float32")))
    return np.stack(maps, axis=1)


def attention_rollout(maps: np.ndarray) -> np.ndarray:
    """Return the attention of the last layer's tokens to the input tokens, through all layers.

    The heads of a layer are averaged, then averaged with the identity matrix, which stands for
    the residual connection. The rollout is the product of these matrices.

    Args:
        maps: Attention weights (B, L, heads, N, N), as from `attention_maps`.

    Returns:
        Rollout (B, N, N); each row belongs to a token of the last layer and sums to 1.

    Source: Abnar and Zuidema (2020), arXiv:2005.00928, section 3.
    """
    layers = (maps.mean(axis=2) + np.eye(maps.shape[-1], dtype=maps.dtype)) / 2  # (B, L, N, N)
    rollout = layers[:, 0]
    for layer in range(1, layers.shape[1]):
        rollout = layers[:, layer] @ rollout
    return rollout


def attention_to_patches(weights: np.ndarray) -> np.ndarray:
    """Return the attention that each patch receives, in the layout of the image.

    The query is the class token if there is one; otherwise, the queries are averaged.

    Args:
        weights: Attention weights or rollout (…, N, N) of a square grid of patches, optionally
            after a class token.

    Returns:
        Attention (…, rows, columns).
    """
    num_tokens = weights.shape[-1]
    side = math.isqrt(num_tokens)
    has_class_token = num_tokens == side**2 + 1
    received = weights[..., 0, 1:] if has_class_token else weights.mean(axis=-2)
    return received.reshape(*weights.shape[:-2], side, side)


def position_similarities(network: keras.Model) -> np.ndarray:
    """Return the cosine similarity of every pair of position embeddings.

    Args:
        network: A ViT or a CCT.

    Returns:
        Similarities (N, N) of N patches, -1 to 1; a class token is left out.

    Source: Dosovitskiy et al. (2020), arXiv:2010.11929, figure 7, center.
    """
    layer = without_test_time_augmentation(network).get_layer("positions")
    positions = np.asarray(layer.embedding)  # (N, D) or (1 + N, D)
    patches = positions[len(positions) - math.isqrt(len(positions)) ** 2 :]  # (N, D)
    unit = patches / np.linalg.norm(patches, axis=1, keepdims=True)
    return unit @ unit.T
