"""Each statement of docs/from-pytorch.md, with torch's formula written out in numpy."""

import ast
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import erf

from cifar_models.augmentation import rand_augment
from cifar_models.config.architectures import ARCHITECTURES, ResidualCNNConfig, ViTConfig
from cifar_models.config.training import TrainingConfig
from cifar_models.layers.encoder_block import CCTEncoderBlock, TransformerEncoderBlock
from cifar_models.layers.gelu import GELU
from cifar_models.layers.normalization import FusedBatchNormalization
from cifar_models.models.catalog import build_network
from cifar_models.optimizers.optimizers import make_optimizer, variables_without_decay
from cifar_models.optimizers.schedules import make_schedule
from cifar_models.optimizers.weight_average import WeightAverage

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "from-pytorch.md"


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_statement_of_the_page_has_a_test():
    text = PAGE.read_text(encoding="utf-8")
    sections = text.split("\n## ")[1:]
    named = re.findall(r"`(test_\w+)`", text)
    assert len(sections) > 10
    assert all(re.search(r"`test_\w+`", section) for section in sections)
    here = functions_of(Path(__file__)) - {"test_every_statement_of_the_page_has_a_test"}
    assert {name for name in here if name.startswith("test_")} <= set(named)
    everywhere = set().union(*(functions_of(path) for path in TESTS.rglob("test_*.py")))
    assert set(named) <= everywhere


def one_weight(shape: tuple[int, int], **layer: object) -> keras.Model:
    """Return a network with one random kernel."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape[:1])
    return keras.Model(inputs, keras.layers.Dense(shape[1], use_bias=False, **layer)(inputs))


def weight_after(config: TrainingConfig, gradients: list[np.ndarray], total: int) -> np.ndarray:
    """Return a weight that begins at 1, after steps of the recipe's optimizer."""
    network = one_weight(gradients[0].shape)
    network.set_weights([np.ones(gradients[0].shape)])
    optimizer = make_optimizer(config, network, total)
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient, tf.float32)], network.trainable_variables)
    return network.get_weights()[0]


def random_gradients(steps: int, shape=(10, 10)) -> list[np.ndarray]:
    return list(np.random.default_rng(0).normal(size=(steps, *shape)))


def rates_of(config: TrainingConfig, total: int) -> np.ndarray:
    """Return warm-up from 0 and a cosine to 0, the rates of each step, in numpy."""
    warmup, step = round(config.warmup_fraction * total), np.arange(total)
    cosine = (1 + np.cos(np.pi * (step - warmup) / (total - warmup))) / 2
    return config.peak_learning_rate * np.where(step < warmup, step / max(warmup, 1), cosine)


def torch_sgd(gradients, rates, momentum=0.9, weight=1.0, coupled=0.0):
    """Return a weight after steps of torch.optim.SGD(momentum, nesterov=True, weight_decay)."""
    buffer = 0.0
    for gradient, rate in zip(gradients, rates, strict=True):
        gradient = gradient + coupled * weight
        buffer = momentum * buffer + gradient
        weight = weight - rate * (gradient + momentum * buffer)
    return weight


def keras_sgd(gradients, rates, momentum=0.9, weight=1.0):
    """Return a weight after steps of keras.optimizers.SGD(momentum, nesterov=True)."""
    velocity = 0.0
    for gradient, rate in zip(gradients, rates, strict=True):
        velocity = momentum * velocity - rate * gradient
        weight = weight + momentum * velocity - rate * gradient
    return weight


def test_sgd_sums_gradients_as_torch_does():
    config, gradients = TrainingConfig(peak_learning_rate=0.3), random_gradients(20)
    expected = torch_sgd(gradients, rates_of(config, 20))
    np.testing.assert_allclose(weight_after(config, gradients, 20), expected, atol=1e-5)


def test_the_form_of_keras_holds_the_rates_and_differs_most_in_short_runs():
    config, gradients = TrainingConfig(momentum_form="keras"), random_gradients(20)
    expected = keras_sgd(gradients, rates_of(config, 20))
    np.testing.assert_allclose(weight_after(config, gradients, 20), expected, atol=1e-5)
    constant = np.full(20, 0.1)
    np.testing.assert_allclose(torch_sgd(gradients, constant), keras_sgd(gradients, constant))
    for steps, percent in ((20, 53), (4000, 1.1)):
        differences = []
        for seed in range(20):
            noise = np.random.default_rng(seed).normal(size=(steps, 100))
            rates = rates_of(config, steps)
            torch, ours = torch_sgd(noise, rates), keras_sgd(noise, rates)
            differences.append(np.linalg.norm(ours - torch) / np.linalg.norm(torch - 1))
        assert 100 * np.mean(differences) == pytest.approx(percent, rel=0.02)


def test_weight_decay_is_decoupled_and_ten_times_that_of_torchs_sgd():
    """Without gradients, 5e-4 coupled at momentum 0.9 shrinks a weight like 5e-3 decoupled."""
    config = TrainingConfig(peak_learning_rate=0.1, warmup_fraction=0, weight_decay=5e-3)
    steps, zeros = 400, [np.zeros((2, 2))] * 400
    ours = weight_after(config, zeros, 10**9)  # so many steps that the rate stays
    np.testing.assert_allclose(ours, (1 - 0.1 * 5e-3) ** steps, rtol=1e-5)
    theirs = torch_sgd(np.zeros(steps), np.full(steps, 0.1), coupled=5e-4)
    assert np.log(ours[0, 0]) == pytest.approx(np.log(theirs), rel=0.03)


def test_only_kernels_decay_where_torch_decays_everything():
    config = ResidualCNNConfig(stem_filters=2, stage_filters=(2,), stage_blocks=(1,))
    network = build_network(config, (8, 8, 3), 3)
    kept = {variable.name for variable in variables_without_decay(network)}
    assert kept == {"gamma", "beta", "bias"}


def test_l2_is_half_of_the_coupled_weight_decay_of_torch():
    """The presets have l2 = 2.5e-4, which is torch's weight_decay = 5e-4 of kernels."""
    for name in ("residual_cnn", "resnet18", "wide_resnet28_10"):
        assert ARCHITECTURES[name].config.l2 == 2.5e-4
    rates, gradients = np.full(20, 0.1), random_gradients(20)
    network = one_weight((10, 10), kernel_regularizer=keras.regularizers.L1L2(l2=2.5e-2))
    network.set_weights([np.ones((10, 10))])
    config = TrainingConfig(peak_learning_rate=0.1, warmup_fraction=0)
    optimizer = make_optimizer(config, network, 10**9)
    for gradient in gradients:
        with tf.GradientTape() as tape:
            output = sum(network.losses) + tf.reduce_sum(network.weights[0].value * gradient)
        optimizer.apply(tape.gradient(output, [network.weights[0].value]), network.weights)
    expected = torch_sgd(gradients, rates, coupled=5e-2)
    np.testing.assert_allclose(network.get_weights()[0], expected, atol=1e-4)


def torch_adamw(gradients, rate, beta_1, beta_2, epsilons, decay=0.0):
    """Return a weight after steps of torch.optim.AdamW, with one epsilon for each step."""
    weight, first, second = 1.0, 0.0, 0.0
    for step, (gradient, epsilon) in enumerate(zip(gradients, epsilons, strict=True), start=1):
        weight = weight * (1 - rate * decay)
        first = beta_1 * first + (1 - beta_1) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient**2
        denominator = np.sqrt(second / (1 - beta_2**step)) + epsilon
        weight = weight - rate * first / (1 - beta_1**step) / denominator
    return weight


def test_adamws_epsilon_is_torchs_before_the_correction_of_the_bias():
    """It can be set; step t has torch's epsilon of adamw_epsilon / sqrt(1 - beta_2**t)."""
    config = TrainingConfig(
        optimizer="adamw",
        peak_learning_rate=0.01,
        warmup_fraction=0,
        weight_decay=0.1,
        adamw_epsilon=0.5,
    )
    gradients = random_gradients(12)
    ours = weight_after(config, gradients, 10**9)
    epsilons = 0.5 / np.sqrt(1 - 0.98 ** np.arange(1, 13))
    assert epsilons[0] / 0.5 == pytest.approx(7.07, abs=0.01)
    expected = torch_adamw(gradients, 0.01, 0.9, 0.98, epsilons, decay=0.1)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    other = torch_adamw(gradients, 0.01, 0.9, 0.98, np.full(12, 1e-8), decay=0.1)
    assert np.abs(ours - other).max() > 0.01


def test_the_defaults_of_adamw_are_not_those_of_torch():
    ours = TrainingConfig()
    assert (ours.beta_1, ours.beta_2, ours.adamw_epsilon) == (0.9, 0.98, 1e-7)
    assert ours.weight_decay == 0


def orthogonalized(matrix: np.ndarray, steps: int = 5) -> np.ndarray:
    """Take the steps of Newton and Schulz with the coefficients of Jordan et al. (2024)."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix) / np.linalg.norm(matrix)
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if is_tall else x


@pytest.mark.parametrize("inputs, outputs", [(12, 8), (6, 15)])
def test_muons_update_has_torchs_scale_match_rms_adamw(inputs, outputs):
    """torch.optim.Muon, of weights (outputs, inputs), with a momentum that is a mean."""
    gradients, config = (
        random_gradients(4, (inputs, outputs)),
        TrainingConfig(optimizer="muon", peak_learning_rate=0.1, warmup_fraction=0, momentum=0.95),
    )
    weight, buffer = np.ones((outputs, inputs)), np.zeros((outputs, inputs))
    for gradient in gradients:
        buffer = 0.95 * buffer + 0.05 * gradient.T
        direction = orthogonalized(0.05 * gradient.T + 0.95 * buffer)
        scale = 0.2 * np.sqrt(max(weight.shape))  # "original": sqrt(max(1, outputs / inputs))
        weight = weight - 0.1 * scale * direction
    ours = weight_after(config, gradients, 10**9)
    np.testing.assert_allclose(ours, weight.T, atol=1e-4)


def test_the_weight_average_warms_up_and_includes_batch_norm():
    inputs = keras.Input((2,))
    network, average = (
        keras.Model(inputs, keras.layers.BatchNormalization()(inputs)) for _ in range(2)
    )
    averages = WeightAverage(network, average, decay=0.5)
    expected = [weight.numpy() for weight in network.weights]
    rng = np.random.default_rng(0)
    for step in range(12):
        network.set_weights([rng.normal(size=weight.shape) for weight in network.weights])
        averages.update(tf.constant(step))
        decay = min(0.5, (1 + step) / (10 + step))  # torch's get_ema_multi_avg_fn: always 0.5
        expected = [
            decay * old + (1 - decay) * new.numpy()
            for old, new in zip(expected, network.weights, strict=True)
        ]
    for ours, theirs in zip(average.weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for decay, steps in ((0.999, 8990), (0.9999, 89_990)):
        assert (1 + steps) / (10 + steps) == pytest.approx(decay, abs=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_warm_up_is_part_of_the_total_as_in_torchs_sequential_lr(schedule):
    """SequentialLR of LinearLR(start_factor=0.1) and CosineAnnealingLR(T_max=80) or LinearLR."""
    config = TrainingConfig(
        schedule=schedule,
        peak_learning_rate=0.4,
        warmup_fraction=0.2,
        initial_learning_rate_fraction=0.1,
        final_learning_rate_fraction=0.05,
    )
    ours = np.array([float(make_schedule(config, 100)(step)) for step in range(100)])
    warm_up = 0.4 * (0.1 + 0.9 * np.arange(20) / 20)
    fraction = np.arange(80) / 80
    decay = {"cosine": (1 + np.cos(np.pi * fraction)) / 2, "linear": 1 - fraction}[schedule]
    expected = np.concatenate([warm_up, 0.02 + 0.38 * decay])
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    if schedule == "cosine":  # timm counts from the first step of the warm-up
        timm = 0.02 + 0.38 * (1 + np.cos(np.pi * 20 / 100)) / 2
        assert timm == pytest.approx(0.91 * ours[20], rel=0.01)


def test_the_gelu_of_vit_is_that_of_tanh_and_the_others_are_exact():
    x = np.linspace(-6, 6, 100_001)
    exact = x * (1 + erf(x / np.sqrt(2))) / 2
    approximate = x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2
    assert np.abs(exact - approximate).max() == pytest.approx(4.7e-4, abs=1e-5)
    airbench = build_network(ARCHITECTURES["airbench94"].config, (32, 32, 3), 10)
    for ours, theirs in (
        (GELU(TransformerEncoderBlock.approximate_gelu), approximate),
        (GELU(CCTEncoderBlock.approximate_gelu), exact),
        (airbench.get_layer("whitening_gelu"), exact),
    ):
        np.testing.assert_allclose(ours(tf.constant(x, tf.float32)), theirs, atol=2e-6)


def test_vit_normalizes_before_the_mean_and_timm_after_it(images):
    config = ViTConfig(hidden_dim=12, num_layers=1, num_heads=2, mlp_dim=8)
    network = build_network(config, (32, 32, 3), 10)
    norm, classifier = network.get_layer("norm"), network.get_layer("classifier")
    tokens = keras.Model(network.input, norm.input)(images).numpy().astype(np.float64)

    def normalized(x):
        x = x - x.mean(axis=-1, keepdims=True)
        return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)

    kernel = classifier.kernel.numpy()
    ours, timm = normalized(tokens).mean(axis=1) @ kernel, normalized(tokens.mean(axis=1)) @ kernel
    np.testing.assert_allclose(network(images), ours, atol=1e-4)
    assert np.abs(ours - timm).max() > 0.01


def translated(image: np.ndarray, strength: float) -> np.ndarray:
    """Return an image of one channel, moved to the left by RandAugment."""
    which = tf.constant([rand_augment.GEOMETRIC.index("translate_x")])
    pixels = tf.constant(image[None, ..., None], tf.float32)
    moved = rand_augment.apply_transformations(pixels, which, tf.constant([strength]))
    return moved.numpy()[0, ..., 0]


def test_rand_augment_fills_with_grey_and_interpolates():
    """torchvision fills with black and takes the nearest pixel by default."""
    white = translated(np.full((32, 32), 255.0), 0.7)  # by 0.7 x 0.45 x 32 = 10.08 pixels
    assert set(np.unique(white[:, : 32 - 11])) == {255}
    np.testing.assert_array_equal(white[:, -9:], 128)
    ramp = np.broadcast_to(np.arange(32) * 8.0, (32, 32))
    moved = translated(ramp, 0.5 / 0.45 / 32)  # by half a pixel
    np.testing.assert_allclose(moved[:, :-1], ramp[:, :-1] + 4, atol=1e-3)


def test_a_magnitude_of_rand_augment_is_three_of_torchvision():
    """torchvision has 31 bins, so that its magnitude 9 is 9/30 of the maximum."""
    ours = {
        "rotate": rand_augment.MAX_DEGREES,
        "shear": rand_augment.MAX_SHEAR,
        "translate": rand_augment.MAX_SHIFT,
        "blend": rand_augment.MAX_BLEND,
    }
    theirs = {"rotate": 30, "shear": 0.3, "translate": 150 / 331, "blend": 0.9}
    assert ours == pytest.approx(theirs, rel=0.01)
    white = translated(np.full((32, 32), 255.0), 3 / 10)
    bins = np.linspace(0, 150 / 331 * 32, 31)
    assert (white[0] < 255).sum() == pytest.approx(bins[9], abs=1)


def test_batch_norm_averages_the_biased_variance():
    """torch averages the unbiased one; its momentum is 1 - ours."""
    x = np.random.default_rng(0).normal(2, 3, (4, 2, 2, 3)).astype(np.float32)
    layer = FusedBatchNormalization(momentum=0.9, epsilon=1e-5)
    outputs = layer(x, training=True)
    biased = x.var(axis=(0, 1, 2))
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * biased, rtol=1e-5)
    torch = 0.9 + 0.1 * x.var(axis=(0, 1, 2), ddof=1)
    count = 4 * 2 * 2
    np.testing.assert_allclose(torch - 0.9, 0.1 * biased * count / (count - 1), rtol=1e-5)
    expected = (x - x.mean(axis=(0, 1, 2))) / np.sqrt(biased + 1e-5)
    np.testing.assert_allclose(outputs, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["residual_cnn", "airbench94", "vit", "cct2_3x2"])
def test_pixels_are_scaled_to_one_around_zero(name, images):
    """torch's recipes subtract the mean of the data and divide by its standard deviation."""
    with keras.StatelessScope(initialize_variables=False):
        scale = build_network(ARCHITECTURES[name].config, (32, 32, 3), 10).get_layer("scale")
    np.testing.assert_allclose(scale(images), images / 127.5 - 1, atol=1e-6)
