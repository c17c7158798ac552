"""The contract that every layer of this package fulfils, after Keras' own `run_layer_test`."""

import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cifar_models.layers.serialization import PACKAGE

# Softmax ignores a constant added to all scores, so the gradients of these variables are zero.
WITHOUT_GRADIENT = ("attention/key/bias", "score/bias")


def check_layer(
    layer_class: type[keras.layers.Layer],
    init_args: dict[str, object],
    input_shape: tuple[int, ...],
    expected_output_shape: tuple[int, ...],
    expected_num_weights: tuple[int, int],
    folder: Path,
) -> None:
    """Check a layer under the current precision policy.

    Args:
        layer_class: Class of the layer.
        init_args: Arguments of its constructor.
        input_shape: Shape of an input, including the batch.
        expected_output_shape: Shape of the output, including the batch.
        expected_num_weights: Number of trainable and of other weights.
        folder: Empty folder for a saved model.
    """
    layer = layer_class(**init_args)
    inputs = np.random.default_rng(0).normal(size=input_shape).astype(np.float32)
    check_build(layer, input_shape, expected_output_shape, expected_num_weights)
    for training in (False, True):
        check_output(layer, inputs, expected_output_shape, training)
        check_gradients(layer, inputs, training)
    assert init_args.keys() <= layer.get_config().keys()
    check_config(layer, inputs)
    check_saved_model(layer, inputs, folder / "model.keras")


def check_build(layer, input_shape, expected_output_shape, expected_num_weights) -> None:
    """Check the weights, sublayers and output shape after `build`, before the first call."""
    layer.build(input_shape)
    assert [sublayer.path for sublayer in layer._flatten_layers() if not sublayer.built] == []
    trainable, others = len(layer.trainable_weights), len(layer.non_trainable_weights)
    assert (trainable, others) == expected_num_weights
    for weight in layer.weights:
        assert weight.dtype == "float32", weight.path
    spec = layer.compute_output_spec(keras.KerasTensor(input_shape))
    assert spec.shape == expected_output_shape
    unknown_batch = layer.compute_output_spec(keras.KerasTensor((None, *input_shape[1:])))
    assert unknown_batch.shape == (None, *expected_output_shape[1:])


def check_output(layer, inputs, expected_shape, training: bool) -> None:
    outputs = layer(inputs, training=training)
    assert outputs.shape == expected_shape
    assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
    assert np.isfinite(to_float32(outputs)).all()


def check_gradients(layer, inputs, training: bool) -> None:
    """Check that the gradients of trainable weights and of the input are finite and not zero."""
    keras.utils.set_random_seed(0)  # dropout must leave a part of the batch
    variables = layer.trainable_variables
    tensor = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        outputs = tf.cast(layer(tensor, training=training), "float32")
        loss = tf.reduce_sum(outputs * np.random.default_rng(1).normal(size=outputs.shape))
    gradients = tape.gradient(loss, [tensor, *(variable.value for variable in variables)])
    paths = ["input", *(variable.path for variable in variables)]
    for path, gradient in zip(paths, gradients, strict=True):
        assert gradient is not None, path
        assert np.isfinite(gradient).all(), path
        assert path.endswith(WITHOUT_GRADIENT) or np.abs(gradient).max() > 0, path


def check_config(layer, inputs) -> None:
    """Check that the configuration is JSON, is registered, and restores the layer."""
    name = f"{PACKAGE}>{type(layer).__name__}"
    assert keras.saving.get_registered_name(type(layer)) == name
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    restored = keras.saving.deserialize_keras_object(serialized)
    assert type(restored) is type(layer)
    assert restored.get_config() == layer.get_config()
    from_config = type(layer).from_config(layer.get_config())
    for other in (restored, from_config):
        if not other.built:
            other.build(inputs.shape)
        other.set_weights(layer.get_weights())
        np.testing.assert_array_equal(to_float32(other(inputs)), to_float32(layer(inputs)))


def check_saved_model(layer, inputs, path: Path) -> None:
    """Check that a model with the layer gives the same outputs after saving and loading."""
    images = keras.Input(inputs.shape[1:])
    model = keras.Model(images, layer(images))
    model.save(path)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # a saved layer keeps its own policy
    loaded = keras.models.load_model(path)
    keras.config.set_dtype_policy(policy)
    outputs = loaded(inputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
    np.testing.assert_array_equal(to_float32(outputs), to_float32(layer(inputs)))


def to_float32(tensor) -> np.ndarray:
    return np.asarray(tf.cast(tensor, "float32"))
