"""The contract that the network of every architecture fulfils."""

import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cifar_models.config.architectures import ARCHITECTURES, ModelConfig
from cifar_models.data.splits import ArraySplit
from cifar_models.evaluation.flops import flops_per_image
from cifar_models.models.catalog import build_network

CONFIGS: dict[str, ModelConfig] = {name: each.config for name, each in ARCHITECTURES.items()}


def build(config: ModelConfig, image_shape=(32, 32, 3), num_classes: int = 10) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_network(config, image_shape, num_classes)


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def split_of(images: np.ndarray) -> ArraySplit:
    """Return images with arbitrary labels as a split."""
    return ArraySplit(images, np.zeros(len(images), np.int64))


def check_size(config: ModelConfig, expected: tuple[int, int]) -> None:
    """Check the numbers of all and of trainable parameters, and that FLOPs can be counted."""
    network = build(config)
    trainable = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    assert (network.count_params(), trainable) == expected
    assert flops_per_image(network) > 0


def check_logits(config: ModelConfig, image_shape: tuple[int, int, int]) -> None:
    """Check that the input is uint8 (B, H, W, C) and that the logits are float32 (B, K)."""
    network = build(config, image_shape, 7)
    logits = network(random_images(3, *image_shape))
    assert logits.shape == (3, 7) and logits.dtype == tf.float32
    assert np.isfinite(logits).all()
    assert network.input.dtype == "uint8"


def check_saving(config: ModelConfig, images: np.ndarray, path: Path) -> None:
    """Check that a saved and loaded network has the same layers and gives the same logits."""
    network = build(config)
    network.save(path)
    restored = keras.models.load_model(path)
    np.testing.assert_array_equal(network(images), restored(images))
    assert [type(layer) for layer in restored.layers] == [type(layer) for layer in network.layers]
    our_layers = [layer for layer in network.layers if layer.__module__.startswith("cifar_models")]
    for layer in our_layers:
        assert restored.get_layer(layer.name).get_config() == layer.get_config()


def check_serialization(config: ModelConfig, images: np.ndarray) -> None:
    """Check that the configuration is JSON and restores the network."""
    network = build(config)
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(network)))
    restored = keras.saving.deserialize_keras_object(serialized)
    assert [layer.name for layer in restored.layers] == [layer.name for layer in network.layers]
    restored.set_weights(network.get_weights())
    np.testing.assert_array_equal(network(images), restored(images))


def check_mixed_precision(config: ModelConfig, policy: str, image_shape) -> None:
    """Check that variables and logits are float32, and the logits close to exact ones."""
    images = random_images(8, *image_shape)
    exact = build(config, image_shape)
    keras.config.set_dtype_policy(policy)
    mixed = build(config, image_shape)
    for one, other in zip(exact.weights, mixed.weights, strict=True):
        assert other.dtype in ("float32", "uint32")
        np.testing.assert_array_equal(one, other)
    logits = mixed(images)
    assert logits.shape == (8, 10) and logits.dtype == tf.float32
    np.testing.assert_allclose(logits, exact(images), atol=0.1)


def check_gradient_step(config: ModelConfig, images: np.ndarray) -> None:
    """Check that every variable has a gradient, and that a small step lowers the loss."""
    network = build(config)

    def loss_of_batch() -> tf.Tensor:
        logits = network(images, training=False)
        targets = tf.one_hot(tf.range(len(images)), logits.shape[-1])
        return tf.reduce_mean(tf.square(logits - targets))

    with tf.GradientTape() as tape:
        loss = loss_of_batch()
    variables = network.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        if "key/bias" not in variable.path:  # softmax ignores it
            assert np.abs(gradient).max() > 0, variable.path
    squared_norm = sum(float(tf.reduce_sum(tf.square(gradient))) for gradient in gradients)
    learning_rate = 0.01 * float(loss) / squared_norm  # to first order, lowers the loss by 1 %
    keras.optimizers.SGD(learning_rate).apply(gradients, variables)
    assert float(loss_of_batch()) < float(loss)
