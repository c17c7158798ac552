"""The estimate of the memory of training, its refusal, and running out of memory in a step."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe, with_values
from cifar_models.data.splits import ArraySplit
from cifar_models.evaluation.predictions import compile_predictions
from cifar_models.layers.encoder_block import TransformerEncoderBlock
from cifar_models.models.catalog import build_network, without_weights
from cifar_models.runtime import memory
from cifar_models.training.memory import activation_bytes, weight_bytes
from cifar_models.training.trainer import Trainer
from tests.conftest import TINY_CNN, refusal


def small_cnn(**values) -> keras.Model:
    """Return the network of a recipe of one stage of one block, for images of 8x8 pixels."""
    overrides = ["model.stage_filters=[4]", "model.stage_blocks=[1]", "model.image_size=8"]
    overrides += ["model.stem_filters=4", "model.stem_strides=1", "model.stem_pool_size=1"]
    recipe = read_recipe("cnn", overrides)
    return build_network(with_values(recipe, values).model, (8, 8, 3), 10)


def test_the_activations_of_a_cnn_are_counted_by_hand():
    # The input, uint8, and the same as float32. Then on 8x8 pixels with 4 filters: convolution,
    # norm and ReLU of the stem; twice convolution and norm with a ReLU between, sum and ReLU.
    pixels = 8 * 8 * 3 * (1 + 4)
    maps = (3 + 2 * 2 + 1 + 2) * 8 * 8 * 4 * 4
    pooled_and_logits = (4 + 10) * 4
    assert activation_bytes(small_cnn()) == pytest.approx(0.6 * (pixels + maps + pooled_and_logits))


def test_the_activations_of_a_vit_are_counted_by_hand():
    overrides = [
        "model.num_layers=2",
        "model.hidden_dim=6",
        "model.mlp_dim=10",
        "model.num_heads=2",
    ]
    recipe = read_recipe("vit", [*overrides, "model.patch_size=8", "model.mimetic_init=false"])
    network = build_network(recipe.model, (32, 32, 3), 10)
    length = 16  # (32 / 8)²
    floats = 32 * 32 * 3 + length * 8 * 8 * 3  # scaled images, patches
    floats += length * 6 * 2  # embedding, with positions
    floats += 2 * (length * (12 * 6 + 5 * 10) + 3 * 2 * length**2)
    floats += length * 6 + 6 + 10  # last norm, mean, logits
    assert activation_bytes(network) == pytest.approx(0.6 * (4 * floats + 32 * 32 * 3))


@pytest.mark.parametrize(
    ("overrides", "arrays"),
    [
        ([], 3),  # weights, gradients, momentum
        (["training.keep=best"], 4),
        (["training.optimizer=adamw"], 4),
        (["training.ema_decay=0.9", "training.lookahead_steps=5"], 5),
    ],
)
def test_the_arrays_of_the_size_of_the_weights_are_counted(overrides, arrays):
    network = small_cnn()
    weights = sum(int(np.prod(weight.shape)) for weight in network.weights)
    recipe = read_recipe("digits-cnn", overrides)
    assert weight_bytes(network, recipe.training) == 4 * arrays * weights


def test_a_network_without_weights_allocates_none_and_keeps_the_policy():
    def count() -> int:
        keras.config.set_dtype_policy("mixed_bfloat16")
        dim = 50_000  # 10 GB for each kernel of an MLP
        overrides = [f"model.{key}={dim}" for key in ("hidden_dim", "mlp_dim")]
        recipe = read_recipe("vit", [*overrides, "model.num_heads=1", "model.num_layers=1"])
        return build_network(recipe.model, (32, 32, 3), 10).count_params()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert without_weights(count) > 6 * 50_000**2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kB
    assert keras.config.dtype_policy().name == "float32"


def test_a_network_larger_than_the_memory_is_refused_before_its_folder_exists(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(memory, "available_bytes", lambda: 3 * 10**9)
    options = ["model.hidden_dim=8192", "model.mlp_dim=32768", "training.batch_size=32"]
    command = ["train", "digits-vit", "--run", tmp_path / "run"]
    for option in options:
        command += ["--set", option]
    error = refusal(capsys, *command)
    assert re.search(
        r"digits-vit: training images \(0\.2 MB\), weights and optimizer of vit \([\d.]+ GB\), "
        r"activations of a batch of 32 images of 8x8 pixels in 16 tokens \([\d.]+ GB\) need at "
        r"least [\d.]+ GB of memory, and 3\.0 GB are left; lower training\.batch_size \(32\) or "
        r"model\.image_size \(8\) or raise model\.patch_size \(2\)",
        error,
    ), error
    assert not (tmp_path / "run").exists()


def allocate_four_terabytes(trainer: Trainer, batch) -> dict:
    """Take the place of `train_step`. TensorFlow waits for ten seconds before it gives up."""
    side = 10**6 + tf.cast(trainer.step.value, tf.int32)  # not a constant
    return {"loss": tf.reduce_sum(tf.random.uniform((side, side)))}


def run_out_of_memory(*arguments, **options) -> None:
    """Take the place of `fit`, without the ten seconds."""
    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


@pytest.mark.parametrize(
    ("method", "replacement"),
    [
        ("fit", run_out_of_memory),
        pytest.param("train_step", allocate_four_terabytes, marks=pytest.mark.slow),
    ],
)
def test_force_goes_on_and_running_out_of_memory_in_a_step_is_one_line(
    method, replacement, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    assert "--force" in refusal(capsys, *TINY_CNN, "--run", tmp_path / "run")
    monkeypatch.setattr(Trainer, method, replacement)
    assert main([*TINY_CNN, "--run", str(tmp_path / "run"), "--force"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert (
        "digits-cnn: out of memory in step 1, with a batch of 64 images of 8x8 pixels; lower "
        "training.batch_size (64) or model.image_size (8)"
    ) in error
    assert "OOM when allocating tensor" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.slow
def test_a_limit_of_the_machine_refuses_a_run_that_would_not_fit(tmp_path):
    """With `ulimit -v`. The same run trains without the limit."""
    command = [sys.executable, "-m", "cifar_models", "train", "digits-cnn", "--run"]
    options = ["--set", "training.epochs=1", "--set", "training.batch_size=1024"]
    options += ["--set", "model.image_size=96", "--set", "training.min_steps_per_epoch=1"]

    def run(name: str, shell: str = "") -> subprocess.CompletedProcess:
        words = [
            "bash",
            "-c",
            f'{shell} exec "$@"',
            "bash",
            *command,
            str(tmp_path / name),
            *options,
        ]
        return subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2])

    refused = run("refused", "ulimit -v 4000000;")  # kB
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused.stderr
    assert "are left; lower training.batch_size (1024) or model.image_size (96)" in refused.stderr
    assert not (tmp_path / "refused").exists()
    assert run("free").returncode == 0


@pytest.mark.parametrize(
    ("recipe", "size", "batch_size"),
    [
        ("hybrid", 32, 512),  # as before the limit: another size would change the last bits
        ("cnn-best", 32, 512),
        ("resnet18", 224, 47),  # 224² · 64 floats, five times, of 3.1 GB
        ("resnet18", 2048, 1),
    ],
)
def test_large_images_are_predicted_in_batches_that_fit(recipe, size, batch_size):
    model = read_recipe(recipe, [f"model.image_size={size}"]).model
    images = np.broadcast_to(np.uint8(0), (600, size, size, 3))
    split = ArraySplit(images, np.zeros(600, int))
    fed = []

    def predict(network) -> None:
        network.predict_on_batch = lambda batch: fed.append(len(batch)) or np.zeros((len(batch), 2))
        compile_predictions(network, split)

    without_weights(lambda: predict(build_network(model, (size, size, 3), 2)))
    assert fed == [batch_size]


@pytest.mark.parametrize("size", [32, 60, 224])
@pytest.mark.parametrize("recipe", ["vit", "hybrid", "hybrid-laptop", "photos-hybrid"])
def test_the_number_of_tokens_is_that_of_the_network(recipe, size):
    model = read_recipe(recipe, [f"model.image_size={size}", "model.num_layers=1"]).model

    def tokens() -> int:
        network = build_network(model, (size, size, 3), 10)
        (block,) = (each for each in network.layers if isinstance(each, TransformerEncoderBlock))
        return block.input.shape[1]

    assert model.num_tokens == without_weights(tokens)
