"""Saliency maps: which pixels speak for a class."""

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from cifar_models.evaluation.predictions import predict_images
from cifar_models.explain.attention import attention_to_patches
from cifar_models.layers.encoder_block import TransformerEncoderBlock

MIN_MAP_SIDE = 4  # of the feature maps that Grad-CAM reads; smaller ones show no place
NO_FEATURES = (  # layers of four axes whose outputs are no features
    keras.layers.InputLayer,
    keras.layers.Rescaling,
    keras.layers.Resizing,
    keras.layers.ZeroPadding2D,
)


def has_attention(network: keras.Model) -> bool:
    """Return whether a network has transformer encoder blocks."""
    return any(isinstance(layer, TransformerEncoderBlock) for layer in network.layers)


def fitting_method(network: keras.Model) -> "GradCAM | ClassAttention":
    """Return the attention for a class if a network has attention, otherwise Grad-CAM.

    Args:
        network: uint8 images (B, H, W, C) → logits (B, K), without test-time augmentation.
    """
    return (ClassAttention if has_attention(network) else GradCAM)(network)


class GradCAM:
    """Grad-CAM: the feature maps that raise the logit of a class.

    They are those of the last layer whose maps have at least MIN_MAP_SIDE rows.

    Args:
        network: uint8 images (B, H, W, C) → logits (B, K), without test-time augmentation.

    Raises:
        ValueError: The network has no such layer.

    Source: Selvaraju et al. (2016), arXiv:1610.02391, equations 1 and 2.
    """

    name = "Grad-CAM"

    def __init__(self, network: keras.Model):
        self._model = keras.Model(network.input, [_last_feature_maps(network), network.output])

    def __call__(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return the maps of images.

        Args:
            images: Images, uint8 (B, H, W, C).
            classes: Class of each image, int64 (B,).

        Returns:
            Maps, float32 (B, rows, columns), at least 0.
        """
        with tf.GradientTape() as tape:
            features, logits = self._model(images, training=False)
            logits = tf.gather(logits, classes, axis=1, batch_dims=1)
        gradient = tf.cast(tape.gradient(logits, features), tf.float32)
        weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)  # (B, 1, 1, F)
        weighted = tf.reduce_sum(weights * tf.cast(features, tf.float32), axis=-1)
        return tf.nn.relu(weighted).numpy()


def _last_feature_maps(network: keras.Model) -> keras.KerasTensor:
    """Return the output of the last layer with maps of at least MIN_MAP_SIDE rows."""
    outputs = [
        layer.output
        for layer in network.layers
        if not isinstance(layer, NO_FEATURES)
        and len(layer.output.shape) == 4
        and min(layer.output.shape[1:3]) >= MIN_MAP_SIDE
    ]
    if not outputs:
        raise ValueError(f"network {network.name} has no feature maps; use occlusion")
    return outputs[-1]


class ClassAttention:
    """The attention of a transformer that raises the logit of a class, through all layers.

    The weights of each layer are multiplied by the gradient of the logit, negative products are
    dropped, the heads are averaged, and the layers are combined as in `attention_rollout`, with the
    identity for the residual connections.

    Args:
        network: A ViT, a CCT or a hybrid with attention, without test-time augmentation.

    Raises:
        ValueError: The network has no attention.

    Source: Chefer, Gur and Wolf (2021), arXiv:2103.15679, equations 5 and 6.
    """

    name = "attention"

    def __init__(self, network: keras.Model):
        self._blocks = [
            each for each in network.layers if isinstance(each, TransformerEncoderBlock)
        ]
        if not self._blocks:
            raise ValueError(f"network {network.name} has no attention; use Grad-CAM or occlusion")
        self._sequences = keras.Model(network.input, [block.input for block in self._blocks])
        self._rests = [keras.Model(block.output, network.output) for block in self._blocks]

    def __call__(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return the relevance of the patches of images.

        Args:
            images: Images, uint8 (B, H, W, C).
            classes: Class of each image, int64 (B,).

        Returns:
            Relevance of each patch, float32 (B, rows, columns), at least 0.
        """
        sequences = keras.tree.flatten(self._sequences(images, training=False))
        identity = np.eye(sequences[0].shape[1], dtype=np.float32)  # (N, N)
        relevance = np.broadcast_to(identity, (len(images), *identity.shape))
        for block, rest, sequence in zip(self._blocks, self._rests, sequences, strict=True):
            with tf.GradientTape() as tape:
                x = block.attention_norm(sequence)  # (B, N, D)
                # The weights are (B, heads, N, N).
                x, weights = block.attention(x, x, return_attention_scores=True, training=False)
                logits = rest(block.after_attention(sequence, x), training=False)
                logits = tf.gather(logits, classes, axis=1, batch_dims=1)
            gradient = tf.cast(tape.gradient(logits, weights), tf.float32)
            positive = tf.nn.relu(gradient * tf.cast(weights, tf.float32))
            relevance = relevance + tf.reduce_mean(positive, axis=1).numpy() @ relevance
        return attention_to_patches(relevance - identity)


def occlusion(
    network: keras.Model, image: np.ndarray, label: int, patch: int, stride: int
) -> np.ndarray:
    """Return how much the probability of a class falls if a square of an image is hidden.

    The square has the mean colour of the image. Squares are at every `stride` pixels. A pixel has
    the mean of the squares that cover it.

    Args:
        network: uint8 images (B, H, W, C) → logits (B, K).
        image: Image, uint8 (H, W, C).
        label: The class.
        patch: Side of the square, pixels.
        stride: Distance of two squares, pixels.

    Returns:
        Falls of the probability, float32 (H, W), -1 to 1.

    Source: Zeiler and Fergus (2013), arXiv:1311.2901, section 4.2.
    """
    height, width, _ = image.shape
    mean = image.mean(axis=(0, 1)).round().astype(np.uint8)
    corners = [
        (top, left)
        for top in _places(height, patch, stride)
        for left in _places(width, patch, stride)
    ]
    hidden = np.repeat(image[np.newaxis], len(corners), axis=0)
    for number, (top, left) in enumerate(corners):
        hidden[number, top : top + patch, left : left + patch] = mean
    (before,) = predict_images(network, image[np.newaxis])[:, label]
    falls = before - predict_images(network, hidden)[:, label]
    total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    for (top, left), fall in zip(corners, falls, strict=True):
        total[top : top + patch, left : left + patch] += fall
        count[top : top + patch, left : left + patch] += 1
    return total / count


def _places(side: int, patch: int, stride: int) -> list[int]:
    """Return where squares begin along a side, so that they cover all of it."""
    last = max(side - patch, 0)
    return sorted({*range(0, last + 1, stride), last})


def enlarged_map(values: np.ndarray, side: int) -> np.ndarray:
    """Resize a map (rows, columns) to the size of a square image, bilinearly: float32 (H, W)."""
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def deletion_and_insertion(
    network: keras.Model, image: np.ndarray, label: int, saliency: np.ndarray, steps: int = 32
) -> tuple[float, float]:
    """Return the areas under the curves of deletion and insertion.

    Pixels are replaced by the mean colour, the most salient first (deletion), or put back in the
    same order (insertion). A map that shows what the network uses has a small area of deletion and
    a large area of insertion.

    Args:
        network: uint8 images (B, H, W, C) → logits (B, K).
        image: Image, uint8 (H, W, C).
        label: The class.
        saliency: Map, float (H, W).
        steps: Number of steps of each curve.

    Returns:
        The mean probability of the class along both curves, 0 to 1.

    Source: Petsiuk, Das and Saenko (2018), arXiv:1806.07421, section 4.1.
    """
    order = np.argsort(-saliency, axis=None, kind="stable")
    mean = image.mean(axis=(0, 1)).round().astype(np.uint8)
    counts = np.linspace(0, order.size, steps + 1).round().astype(int)
    deleted = np.repeat(image[np.newaxis], len(counts), axis=0)
    inserted = np.broadcast_to(mean, deleted.shape).copy()
    for number, count in enumerate(counts):
        rows, columns = np.unravel_index(order[:count], saliency.shape)
        deleted[number, rows, columns] = mean
        inserted[number, rows, columns] = image[rows, columns]
    curves = predict_images(network, np.concatenate([deleted, inserted]))[:, label]
    both = np.trapezoid(curves.reshape(2, -1), dx=1 / steps)
    return float(both[0]), float(both[1])
