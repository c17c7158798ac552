"""Random resized crop and colour jitter against Pillow, and against the rules of torchvision."""

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance
from scipy import stats
from sklearn.datasets import load_sample_image

from cifar_models.augmentation.colour_jitter import apply_colour_jitter
from cifar_models.augmentation.resized_crop import apply_resized_crop, crop_boxes

KEY = tf.constant([3, 4])


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """Return a real photograph, uint8 (64, 96, 3)."""
    image = Image.fromarray(load_sample_image("flower.jpg"))
    return np.asarray(image.resize((96, 64), Image.Resampling.BILINEAR))


def torchvision_boxes(count: int, height: int, width: int, min_area: float) -> np.ndarray:
    """Draw rectangles as torchvision's RandomResizedCrop documents it: (count, 4)."""
    rng, boxes = np.random.default_rng(0), []
    while len(boxes) < count:
        for _ in range(10):
            area = height * width * rng.uniform(min_area, 1)
            ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                boxes.append((rng.integers(height - h + 1), rng.integers(width - w + 1), h, w))
                break
        else:
            boxes.append((0, 0, height, width))
    return np.array(boxes)


@pytest.mark.parametrize(("height", "width", "min_area"), [(32, 32, 0.08), (64, 96, 0.5)])
def test_rectangles_have_the_distribution_of_torchvision(height, width, min_area):
    count = 4000
    ours = crop_boxes(count, (height, width), KEY, min_area).numpy()
    theirs = torchvision_boxes(count, height, width, min_area)
    top, left, h, w = ours.T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + h <= height).all() and (left + w <= width).all()
    for values in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 3] / b[:, 2], lambda b: b[:, 0]):
        assert stats.ks_2samp(values(ours), values(theirs)).pvalue > 0.001


def test_a_rectangle_is_resized_as_pillow_does(photograph):
    batch = np.stack([photograph] * 20)
    cropped = apply_resized_crop(tf.constant(batch), KEY, 0.2).numpy()
    boxes = crop_boxes(20, (64, 96), KEY, 0.2).numpy()
    for image, (top, left, height, width) in zip(cropped, boxes, strict=True):
        part = Image.fromarray(photograph).crop((left, top, left + width, top + height))
        expected = np.asarray(part.resize((96, 64), Image.Resampling.BILINEAR)).astype(int)
        assert abs(image - expected).max() <= 2
        assert abs(image - expected).mean() < 0.5


def test_the_whole_image_is_a_rectangle_too(photograph):
    batch = tf.constant(photograph[None, :64, :64])
    np.testing.assert_array_equal(apply_resized_crop(batch, KEY, 1.0)[0], batch[0])


@pytest.mark.parametrize(
    ("position", "enhance"),
    [(0, ImageEnhance.Brightness), (1, ImageEnhance.Contrast), (2, ImageEnhance.Color)],
)
def test_colours_change_as_pillow_changes_them(photograph, position, enhance):
    """Each image equals Pillow's for one factor, and the factors are uniform from 0.6 to 1.4."""
    strengths = [0.0, 0.0, 0.0]
    strengths[position] = 0.4
    batch = tf.constant(np.stack([photograph] * 60))
    changed = apply_colour_jitter(batch, KEY, tuple(strengths), 0.0).numpy().astype(int)
    candidates = np.linspace(0.6, 1.4, 161)
    enhancer = enhance(Image.fromarray(photograph))
    pillow = np.stack([np.asarray(enhancer.enhance(factor)) for factor in candidates]).astype(int)
    errors = np.abs(changed[:, None] - pillow).mean(axis=(2, 3, 4))  # (60, 161)
    assert errors.min(axis=1).max() < 1.5
    factors = candidates[errors.argmin(axis=1)]
    assert stats.kstest(factors, stats.uniform(0.6, 0.8).cdf).pvalue > 0.001


def test_the_hue_turns_and_keeps_saturation_and_value(photograph):
    batch = tf.constant(np.stack([photograph] * 40))
    changed = apply_colour_jitter(batch, KEY, (0.0, 0.0, 0.0), 0.25).numpy()
    before = np.asarray(Image.fromarray(photograph).convert("HSV")).astype(int)
    shifts = []
    for image in changed:
        after = np.asarray(Image.fromarray(image).convert("HSV")).astype(int)
        assert abs(after[..., 1:] - before[..., 1:]).mean() < 2
        vivid = before[..., 1] > 120  # the hue of a grey pixel is not defined
        turned = (after[..., 0] - before[..., 0] + 128) % 256 - 128
        assert np.std(turned[vivid]) < 6
        shifts.append(np.median(turned[vivid]) / 256)
    assert stats.kstest(shifts, stats.uniform(-0.25, 0.5).cdf).pvalue > 0.001


def test_grey_images_keep_their_single_channel(photograph):
    grey = tf.constant(photograph[None, ..., :1])
    changed = apply_colour_jitter(grey, KEY, (0.4, 0.4, 0.4), 0.1)
    assert changed.shape == grey.shape and changed.dtype == tf.uint8
    assert apply_resized_crop(grey, KEY, 0.3).shape == grey.shape


@pytest.mark.parametrize("function", [apply_resized_crop, apply_colour_jitter])
def test_results_are_a_function_of_the_key_with_and_without_xla(photograph, function):
    batch = tf.constant(np.stack([photograph] * 4))
    options = (0.3,) if function is apply_resized_crop else ((0.4, 0.4, 0.4), 0.1)

    def apply(images, key):
        return function(images, key, *options)

    eager = apply(batch, KEY).numpy()
    compiled = tf.function(apply, jit_compile=True)(batch, KEY).numpy()
    assert abs(eager.astype(int) - compiled).max() <= 1
    assert (apply(batch, KEY).numpy() == eager).all()
    assert (apply(batch, tf.constant([5, 6])).numpy() != eager).any()
