"""Training on two devices, which two virtual CPUs stand for, against training on one."""

import json
from pathlib import Path

import pytest

from cifar_models.cli.main import main
from cifar_models.run.load import load_run
from cifar_models.runtime.subprocesses import run_python
from tests.conftest import TINY_CNN_TOML, read_history

# A new process, because devices are divided before TensorFlow uses them.
TWO_CPUS = """
import json, sys
import numpy as np
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from pathlib import Path
from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe
"""
GRADIENTS = (
    TWO_CPUS
    + """
import dataclasses
import keras
from cifar_models.data.load import load_dataset
from cifar_models.models.catalog import build_network
from cifar_models.runtime.device import configure
from cifar_models.training.fit import make_trainer

recipe = read_recipe(sys.argv[1], sys.argv[2:])
runtime = configure(recipe.runtime)
train = load_dataset(recipe).splits(recipe.data, 0).train
images, labels = train.images[:64], train.labels[:64]
network = build_network(recipe.model, train.image_shape, 10)
trainer = make_trainer(network, recipe, runtime, 10)
assert trainer.parallel
targets = tf.one_hot(labels, 10)
weights = tf.linspace(0.5, 2.0, 64)
found = trainer.parallel(tf.constant(images), targets, weights, tf.constant(8.0))
with tf.GradientTape() as tape:
    logits = network(images, training=True)
    losses = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="none")
    loss = tf.reduce_mean(weights * losses(targets, logits)) + sum(network.losses)
expected = tape.gradient(loss, [each.value for each in network.trainable_variables])
largest = max(float(tf.reduce_max(tf.abs(each))) for each in expected)
difference = max(
    float(tf.reduce_max(tf.abs(mine / 8 - theirs)))
    for mine, theirs in zip(found.gradients, expected, strict=True)
)
print(json.dumps({
    "devices": len(runtime.devices),
    "difference": difference / largest,
    "loss": abs(float(found.loss) - float(loss)),
    "logits": float(tf.reduce_max(tf.abs(found.logits - logits))),
}))
"""
)
PAUSED = (
    TWO_CPUS
    + """
from cifar_models.run.train import train
from cifar_models.errors import Paused

try:
    train(read_recipe(sys.argv[1], ["runtime.devices=all"]), sys.argv[2], pause_after=1)
except Paused:
    sys.exit(0)
"""
)
RESUMED = TWO_CPUS + """sys.exit(main(["resume", sys.argv[1]]))"""

VIT = (
    TINY_CNN_TOML.split("[model]")[0]
    + """[model]
architecture = "vit"
patch_size = 2
hidden_dim = 16
mlp_dim = 32
num_layers = 1
num_heads = 2

[training]
epochs = 2
batch_size = 64

[runtime]
deterministic = true
"""
)


@pytest.fixture
def recipe_path(tmp_path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(VIT)
    return path


def test_gradients_equal_those_of_one_device(recipe_path):
    output = run_python(["-c", GRADIENTS, str(recipe_path), "runtime.devices=all"], "gradients")
    found = json.loads(output.splitlines()[-1])
    assert found["devices"] == 2
    assert found["difference"] < 1e-5
    assert found["loss"] < 1e-5 and found["logits"] < 1e-5


def test_a_run_changes_between_one_device_and_two(recipe_path, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["train", str(recipe_path), "--run", str(one)]) == 0
    run_python(["-c", PAUSED, str(recipe_path), str(two)], "two devices")
    assert len(read_history(two)) == 1
    assert main(["resume", str(two)]) == 0  # on one device
    assert "was 2 x " in (two / "log.txt").read_text()
    expected, found = load_run(one), load_run(two)
    assert found.metrics.epochs == 2
    for name in ("train_loss", "validation_loss"):
        for mine, theirs in zip(read_history(two), read_history(one), strict=True):
            assert float(mine[name]) == pytest.approx(float(theirs[name]), rel=1e-4)
    assert found.metrics.accuracy == pytest.approx(expected.metrics.accuracy, abs=0.01)


@pytest.mark.slow
def test_a_run_of_one_device_goes_on_on_two(recipe_path, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    recipe_path.write_text(VIT + 'devices = "all"\n')
    assert main(["train", str(recipe_path), "--run", str(one)]) == 0
    run_python(
        ["-c", PAUSED.replace('["runtime.devices=all"]', "[]"), str(recipe_path), str(two)], "one"
    )
    run_python(["-c", RESUMED, str(two)], "two devices")
    for mine, theirs in zip(read_history(two), read_history(one), strict=True):
        assert float(mine["train_loss"]) == pytest.approx(float(theirs["train_loss"]), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("training.optimizer=muon", "training.ema_decay=0.9"),
        ("training.gradient_clip_norm=1.0",),
        ("runtime.precision=mixed_float16",),
        ("runtime.precision=mixed_bfloat16", "runtime.steps_per_execution=4"),
        ("runtime.xla=on", "runtime.deterministic=false"),
        ("training.class_weights=balanced", "training.label_smoothing=0.1"),
    ],
)
def test_options_train_on_two_devices(options, tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(
        f"{TINY_CNN_TOML}stem_filters = 4\nstage_filters = [4, 8]\nstage_blocks = [1, 1]"
    )
    overrides = ["runtime.devices=all", "training.epochs=2", *options]
    sets = [part for override in overrides for part in ("--set", override)]
    script = TWO_CPUS + "sys.exit(main(sys.argv[1:]))"
    command = ["train", str(path), "--run", str(tmp_path / "run"), *sets]
    run_python(["-c", script, *command], "two devices")
    history = read_history(tmp_path / "run")
    assert float(history[-1]["train_loss"]) < float(history[0]["train_loss"])


def test_a_batch_that_cannot_be_divided_is_refused(recipe_path, tmp_path):
    script = TWO_CPUS + "sys.exit(main(sys.argv[1:]))"
    with pytest.raises(Exception, match="batch_size = 63 cannot be divided among 2 devices"):
        run_python(
            [
                "-c",
                script,
                "train",
                str(recipe_path),
                "--run",
                str(tmp_path / "run"),
                "--set",
                "runtime.devices=all",
                "--set",
                "training.batch_size=63",
            ],
            "two devices",
        )
