"""What a transformer looks at: attention maps, their rollout, and the likeness of its positions."""

import math

import keras
import numpy as np

from cifar_models.layers.encoder_block import TransformerEncoderBlock


def attention_maps(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Returns how much each token takes from each other, in every layer and head.

    Args:
        network: a ViT or a hybrid; where it answers for several views, of the first of them.
        images: uint8 (B, H, W, C), all at once: a few.

    Returns:
        float32 (B, layers, heads, N, N); a row is a token that looks, and sums to 1.

    Raises:
        ValueError: the network has no attention.
    """
    network = _of_one_view(network)
    blocks = [layer for layer in network.layers if isinstance(layer, TransformerEncoderBlock)]
    if not blocks:
        raise ValueError(f"network {network.name} has no attention")
    sequences = keras.Model(network.input, [block.input for block in blocks])(images)
    maps = []
    for block, sequence in zip(blocks, keras.tree.flatten(sequences), strict=True):
        normed = block.attention_norm(sequence)  # (B, N, D)
        _, weights = block.attention(normed, normed, return_attention_scores=True)
        maps.append(keras.ops.convert_to_numpy(keras.ops.cast(weights, "float32")))
    return np.stack(maps, axis=1)


def attention_rollout(maps: np.ndarray) -> np.ndarray:
    """Follows the attention from the last layer down to the patches.

    The heads are averaged, the shortcut beside the attention counts for one half, and the layers
    are multiplied. Abnar and Zuidema 2020, arXiv:2005.00928, section 3.

    Args:
        maps: (B, layers, heads, N, N).

    Returns:
        (B, N, N); each row is a token of the last layer, and sums to 1.
    """
    layers = (maps.mean(axis=2) + np.eye(maps.shape[-1], dtype=maps.dtype)) / 2  # (B, L, N, N)
    rollout = layers[:, 0]
    for layer in range(1, layers.shape[1]):
        rollout = layers[:, layer] @ rollout
    return rollout


def attention_to_patches(weights: np.ndarray) -> np.ndarray:
    """Lays out how much each patch is looked at: by the class token, else by the mean patch.

    Args:
        weights: (…, N, N), of a square of patches, after a class token where there is one.

    Returns:
        (…, rows, columns)
    """
    num_tokens = weights.shape[-1]
    side = math.isqrt(num_tokens)
    has_class_token = num_tokens == side**2 + 1
    looked_at = weights[..., 0, 1:] if has_class_token else weights.mean(axis=-2)
    return looked_at.reshape(*weights.shape[:-2], side, side)


def position_similarities(network: keras.Model) -> np.ndarray:
    """Returns the cosine between the learned vectors of every two places: (N, N), -1 to 1.

    Dosovitskiy et al. 2020, arXiv:2010.11929, figure 7, centre; a class token is left out.
    """
    positions = np.asarray(_of_one_view(network).get_layer("positions").embedding)  # (N, D)
    patches = positions[len(positions) - math.isqrt(len(positions)) ** 2 :]
    unit = patches / np.linalg.norm(patches, axis=1, keepdims=True)
    return unit @ unit.T


def _of_one_view(network: keras.Model) -> keras.Model:
    """Returns the network inside one that answers for several views, else the network."""
    return next((layer for layer in network.layers if isinstance(layer, keras.Model)), network)
