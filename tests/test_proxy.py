"""The proxy picks what numpy finds hardest by its logits, and that alone is trained on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cifar_models.cli import main
from cifar_models.models.catalog import build_network
from cifar_models.recipe_file import read_recipe
from cifar_models.runtime import configure
from cifar_models.training.fit import make_trainer
from cifar_models.training.trainer import Trainer

BATCH, CLASSES = 16, 10
IMAGES = np.random.default_rng(0).integers(0, 256, (BATCH, 8, 8, 1), np.uint8)
LABELS = np.random.default_rng(1).integers(0, CLASSES, BATCH)
NONE_MIRRORED = np.zeros(BATCH, bool)
BASE = [
    *("training.batch_size=16", "training.warmup_fraction=0", "training.label_smoothing=0.2"),
    *("training.weight_decay=0.01", "training.proxy_filters=[4, 8]", "augmentation.crop_padding=0"),
    *("model.stem_filters=4", "model.stage_filters=[4, 4]"),
]


def make(fraction: float, *overrides: str) -> Trainer:
    """A trainer of a small CNN whose weights, and the proxy's, are the same each time."""
    options = [*BASE, f"training.hardest_fraction={fraction}", *overrides]
    recipe = read_recipe("digits-cnn", options)
    runtime = configure(recipe.runtime)
    network = build_network(recipe.model, (8, 8, 1), CLASSES)
    proxy = build_network(recipe.proxy, (8, 8, 1), CLASSES) if recipe.proxy else None
    return make_trainer(network, recipe, runtime, steps_per_epoch=100, proxy=proxy)


def targets_of(labels: np.ndarray) -> np.ndarray:
    """float32 (B, K), smoothed."""
    return (0.8 * np.eye(CLASSES)[labels] + 0.2 / CLASSES).astype(np.float32)


def losses_by_hand(trainer: Trainer) -> np.ndarray:
    """The proxy's cross-entropy of each image, float64 (B,)."""
    logits = np.asarray(trainer.proxy.network(IMAGES, training=True), np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -(targets_of(LABELS) * log_probabilities).sum(axis=1)


def step(trainer: Trainer, chosen=slice(None)) -> dict[str, float]:
    results = trainer.train_step((IMAGES[chosen], LABELS[chosen], NONE_MIRRORED[chosen]))
    return {name: float(result) for name, result in results.items()}


def assert_same(ours: keras.Model, theirs: keras.Model) -> None:
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("xla", [False, True])
def test_the_hardest_are_those_that_numpy_finds(xla):
    trainer = make(0.375)
    losses = losses_by_hand(trainer)
    hardest = np.argsort(-losses)[:6]
    pick = tf.function(trainer.proxy.pick, jit_compile=xla)
    images, targets, loss = pick(tf.constant(IMAGES), tf.constant(targets_of(LABELS)))
    np.testing.assert_array_equal(images, IMAGES[hardest])
    np.testing.assert_array_equal(targets, targets_of(LABELS)[hardest])
    assert float(loss) == pytest.approx(losses[hardest].mean(), rel=1e-5)


def test_the_network_learns_from_the_hardest_alone():
    """Another one, without a proxy, that is given by hand what was picked."""
    picky, plain = make(0.5), make(1.0)
    assert_same(picky.network, plain.network)
    for _ in range(3):
        hardest = np.argsort(-losses_by_hand(picky))[:8]
        assert step(picky) == pytest.approx(step(plain, hardest), rel=1e-5)
        assert_same(picky.network, plain.network)


def test_the_proxy_learns_from_the_hardest_alone():
    """The gradient of their mean loss, by a tape and an optimizer of Keras' own."""
    trainer = make(0.5, "training.weight_decay=0", "training.peak_learning_rate=0.3")
    network = trainer.proxy.network
    hardest = np.argsort(-losses_by_hand(trainer))[:8]
    is_picked = np.isin(np.arange(BATCH), hardest).astype(np.float32)
    twin = make(0.5).proxy.network
    with tf.GradientTape() as tape:
        logits = twin(IMAGES, training=True)  # the others count in the norms' statistics
        losses = tf.nn.softmax_cross_entropy_with_logits(targets_of(LABELS), logits)
        loss = tf.reduce_sum(losses * is_picked) / 8
    optimizer = keras.optimizers.SGD(0.3, momentum=0.9, nesterov=True)
    gradients = tape.gradient(loss, twin.trainable_variables)
    assert any(np.abs(gradient).max() > 1e-2 for gradient in gradients)
    optimizer.apply(gradients, twin.trainable_variables)
    step(trainer)
    for ours, theirs in zip(network.trainable_variables, twin.trainable_variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_all_of_a_batch_is_what_there_is_without_a_proxy():
    assert make(1.0).proxy is None
    everything, plain = make(0.99), make(1.0)  # 16 of 16, in another order
    assert step(everything) == pytest.approx(step(plain), rel=1e-5)
    assert_same(everything.network, plain.network)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_losses_are_compared_in_float32(precision, float32_policy):
    trainer = make(0.5, f"runtime.precision={precision}")
    network = trainer.proxy.network
    scales = isinstance(network.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scales == (precision == "mixed_float16")
    before = network.get_weights()
    images, _, loss = trainer.proxy.pick(tf.constant(IMAGES), tf.constant(targets_of(LABELS)))
    assert (images.shape, loss.dtype) == ((8, 8, 8, 1), tf.float32)
    moved = [np.abs(a - b).max() for a, b in zip(before, network.get_weights(), strict=True)]
    assert 1e-4 < np.max(moved) < 1  # not times the scale of the loss


def test_a_proxy_that_diverges_is_noted():
    trainer = make(0.5)
    step(trainer)
    classifier = trainer.proxy.network.get_layer("classifier")
    classifier.kernel.assign(np.full(classifier.kernel.shape, np.nan))
    step(trainer)
    assert int(trainer.diverged_step) == 1


def test_images_per_second_are_those_trained_on():
    def images_per_step(*overrides: str) -> int:
        return read_recipe("cnn-fast", overrides).training.images_per_step

    assert images_per_step() == 1024
    assert images_per_step("training.hardest_fraction=0.5") == 512
    assert images_per_step("training.hardest_fraction=1e-9") == 1


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("training.hardest_fraction=0", "hardest_fraction = 0.0 must be above 0 and at most 1"),
        ("training.hardest_fraction=1.5", "hardest_fraction = 1.5 must be above 0 and at most 1"),
        ("training.proxy_filters=[]", "proxy_filters = () must hold positive integers"),
        ("training.proxy_filters=[32, 0]", "proxy_filters = (32, 0) must hold positive integers"),
        (
            "training.hardest_fraction=0.5",
            "proxy_filters = [32, 64, 64] halve the image 3 times; 8 pixels bear 2",
        ),
    ],
)
def test_impossible_values(override, problem, capsys):
    assert main(["train", "digits-cnn", "--set", override]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.endswith(f"training.{problem}\n")
    assert error.count("\n") == 1
