"""The moving average of the weights against TensorFlow, and in a run."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cifar_models.cli.main import main
from cifar_models.optimizers.weight_average import WeightAverage
from cifar_models.run.load import load_run
from cifar_models.storage.checkpoint_file import decode_checkpoint
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import SAVE_EVERY_STEP, TINY_CNN, as_overrides


def normalized_network() -> keras.Model:
    inputs = keras.Input((3,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(2)(inputs))
    return keras.Model(inputs, keras.layers.Dropout(0.5)(x))


def test_the_average_equals_that_of_tensorflow():
    """The reference is tf.train.ExponentialMovingAverage(decay, num_updates=step)."""
    network = normalized_network()
    average = WeightAverage(network, normalized_network(), decay=0.6)
    theirs = tf.train.ExponentialMovingAverage(0.6, num_updates=tf.Variable(0))
    shadows = [tf.Variable(weight.numpy()) for weight in network.weights]
    theirs.apply(shadows)
    rng = np.random.default_rng(0)
    for step in range(12):
        for weight, shadow in zip(network.weights, shadows, strict=True):
            value = rng.normal(size=weight.shape).astype(np.float32)
            weight.assign(value)
            shadow.assign(value)
        theirs._num_updates.assign(step)
        theirs.apply(shadows)
        average.update(tf.constant(step, tf.int64))
    assert len(average.network.weights) == 6  # with the statistics of batch norm
    for ours, shadow in zip(average.network.weights, shadows, strict=True):
        np.testing.assert_allclose(ours, theirs.average(shadow), rtol=1e-5)


@pytest.mark.parametrize("keep", ["best", pytest.param("last", marks=pytest.mark.slow)])
def test_the_average_is_evaluated_and_saved(keep, tmp_path):
    arguments = [*TINY_CNN, "training.ema_decay=0.9", f"training.keep={keep}"]
    run = tmp_path / "run"
    assert main([*as_overrides(arguments), *SAVE_EVERY_STEP, "--run", str(run)]) == 0
    folder = RunFolder(run)
    arrays, record = decode_checkpoint(folder.checkpoint_paths()[0].read_bytes())
    prefix = {"best": "best/", "last": "average/"}[keep]
    expected = [arrays[name] for name in sorted(arrays) if name.startswith(prefix)]
    for weight, array in zip(load_run(run).load_network().weights, expected, strict=True):
        np.testing.assert_array_equal(weight, array)
    if keep == "best":
        assert record["best_epoch"] == 2  # so the newest averages are the best weights
        averages = [arrays[name] for name in sorted(arrays) if name.startswith("average/")]
        np.testing.assert_array_equal(expected[0], averages[0])
