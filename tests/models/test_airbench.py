"""airbench, its parts, and test-time augmentation against NumPy and scikit-learn."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.decomposition import PCA

from cifar_models.config.architectures import ARCHITECTURES, AirbenchConfig
from cifar_models.evaluation.flops import flops_per_image
from cifar_models.layers.initializers import PartialIdentity
from cifar_models.layers.whitening import WhiteningConvolution
from cifar_models.models.catalog import build_network
from cifar_models.models.test_time_augmentation import shift_and_flip, with_test_time_augmentation
from cifar_models.training.initialization import fit_whitening
from tests.models.contract import split_of


def smooth_images(count: int, channels: int = 3) -> np.ndarray:
    """Images, float32 (N, 12, 12, C), with mean 3 and correlated neighboring pixels."""
    noise = np.random.default_rng(0).normal(size=(count, 13, 13, channels))
    return (noise[:, 1:, 1:] + 2 * noise[:, :-1, :-1] + 3).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_whitening_equals_the_principal_components_of_scikit_learn(channels):
    layer, images = WhiteningConvolution(2), smooth_images(400, channels)
    layer.build(images.shape)
    layer.adapt(images)
    outputs = layer(images).numpy()
    size = 4 * channels
    assert outputs.shape == (400, 11, 11, 2 * size)
    np.testing.assert_allclose(outputs[..., :size], -outputs[..., size:], atol=1e-4)
    patches = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(1, 2))
    patches = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size)
    theirs = PCA(whiten=True).fit_transform(patches)[:, ::-1]  # ascending order of variance
    ours = outputs[..., :size].reshape(-1, size)
    correlations = np.abs((ours * theirs).mean(axis=0))  # the sign of a component is arbitrary
    np.testing.assert_allclose(correlations, 1, atol=2e-3)
    np.testing.assert_allclose(ours.mean(axis=0), 0, atol=1e-3)


def test_training_changes_only_the_bias_of_the_whitening():
    network = build_network(ARCHITECTURES["airbench94"].config, (32, 32, 3), 10)
    trained = {variable.path for variable in network.get_layer("whitening").trainable_variables}
    assert trained == {"whitening/bias"}


def test_whitening_of_constant_images_is_finite():
    network = build_network(AirbenchConfig(stage_filters=(8,)), (32, 32, 3), 10)
    images = np.full((4, 32, 32, 3), 7, np.uint8)
    fit_whitening(network, split_of(images))
    assert np.isfinite(network.get_layer("whitening").kernel).all()
    assert np.isfinite(network(images)).all()


def test_whitening_is_fitted_to_all_classes_of_sorted_images():
    """5,000 images are sorted by brightness; the mean is that of all, not of the first ones."""
    images = np.repeat(np.linspace(0, 250, 5000).astype(np.uint8), 64).reshape(5000, 8, 8, 1)
    network = build_network(AirbenchConfig(image_size=8, stage_filters=(8,)), (8, 8, 1), 10)
    fit_whitening(network, split_of(images))
    whitened = keras.Model(network.input, network.get_layer("whitening").output)
    assert np.abs(whitened.predict(images, verbose=0).mean(axis=(0, 1, 2))).max() < 0.01


def test_networks_without_whitening_stay_the_same():
    network = build_network(ARCHITECTURES["residual_cnn"].config, (32, 32, 3), 10)
    before = network.get_weights()
    fit_whitening(network, split_of(np.zeros((4, 32, 32, 3), np.uint8)))
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_batch_normalization_has_the_published_momentum():
    """PyTorch's momentum is the weight of the new value: 0.4 in airbench94, 0.1 in airbench96."""
    for name, momentum in (("airbench94", 0.6), ("airbench96", 0.9)):
        layers = build_network(ARCHITECTURES[name].config, (32, 32, 3), 10).layers
        norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
        assert norms and all(norm.momentum == momentum for norm in norms)


@pytest.mark.parametrize(("channels", "filters"), [(3, 5), (5, 3), (4, 4)])
def test_partial_identity_copies_channels(channels, filters):
    layer = keras.layers.Conv2D(
        filters, 3, padding="same", kernel_initializer=PartialIdentity(0), use_bias=False
    )
    images = np.random.default_rng(0).normal(size=(2, 6, 6, channels)).astype(np.float32)
    outputs, copied = layer(images).numpy(), min(channels, filters)
    np.testing.assert_allclose(outputs[..., :copied], images[..., :copied], atol=1e-6)
    others = np.asarray(layer.kernel)[..., copied:]
    limit = 1 / np.sqrt(9 * channels)
    assert (np.abs(others) <= limit).all()
    if others.size:
        assert others.std() == pytest.approx(limit / np.sqrt(3), rel=0.2)


@pytest.mark.parametrize(
    ("name", "parameters", "epochs", "petaflops"),
    # From the table of KellerJordan/airbench; a training step costs three forward passes.
    [("airbench94", 1.97e6, 9.9, 0.36), ("airbench96", 9.9e6, 37, 4.9)],
)
def test_sizes_and_training_flops_are_the_published_ones(name, parameters, epochs, petaflops):
    network = build_network(ARCHITECTURES[name].config, (32, 32, 3), 10)
    assert network.count_params() == pytest.approx(parameters, rel=0.005)
    training = 3 * flops_per_image(network) * 50_000 * epochs
    assert training / 1e15 == pytest.approx(petaflops, rel=0.03)


@pytest.mark.parametrize("shift", [-2, -1, 1, 2])
@pytest.mark.parametrize("flipped", [False, True])
def test_shift_and_flip_equal_those_of_numpy(shift, flipped, images):
    border = abs(shift)
    padded = np.pad(images, ((0, 0), (border, border), (border, border), (0, 0)), "reflect")
    expected = np.roll(padded, (shift, shift), (1, 2))[:, border:-border, border:-border]
    expected = expected[:, :, ::-1] if flipped else expected
    view = shift_and_flip(tf.constant(images), shift, flipped)
    np.testing.assert_array_equal(view, expected)


def test_the_logits_of_views_are_averaged_with_their_weights(images):
    """The logits of this network are the pixels, so the mean over views is known."""
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    pixels = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(inputs))
    network = keras.Model(inputs, pixels)
    assert with_test_time_augmentation(network, 1) is network
    exact = images.astype(np.float64)
    padded = np.pad(exact, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    up_left, down_right = padded[:, 2:, 2:], padded[:, :-2, :-2]

    def mean_with_flipped(images):
        return (images + images[:, :, ::-1]) / 2

    shifted = (mean_with_flipped(up_left) + mean_with_flipped(down_right)) / 2
    six = (mean_with_flipped(exact) + shifted) / 2
    for views, expected in ((2, mean_with_flipped(exact)), (6, six)):
        logits = with_test_time_augmentation(network, views)(images)
        np.testing.assert_allclose(logits, expected.reshape(8, -1), rtol=1e-5)
