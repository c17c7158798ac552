"""Each augmentation against numpy, PIL or scipy, its random numbers, and XLA."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage, stats

from cifar_models.augmentation import augment, crop, erase, flip, mix, rand_augment
from cifar_models.augmentation.batch import Batch
from cifar_models.augmentation.stateless_random import split_key, uniform_integers
from cifar_models.config.augmentation import AUGMENTATIONS, AugmentationConfig, AugmentationSpec

KEY = tf.constant([3, 7], tf.int32)
EVERYTHING = AugmentationConfig(
    crop_padding=4,
    horizontal_flip=True,
    cutout_size=5,
    rand_augment_layers=2,
    random_erasing=0.5,
    mixup_alpha=0.8,
    cutmix_alpha=1.0,
)


def test_a_crop_is_a_window_of_the_reflected_image(images):
    cropped = crop.apply_random_crop(tf.constant(images), KEY, 4).numpy()
    offsets = set()
    for image, window in zip(images, cropped, strict=True):
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32, 3))[:, :, 0]
        places = np.argwhere((windows == window).all(axis=(2, 3, 4)))
        assert len(places) == 1
        offsets.add(tuple(places[0]))
    assert len(offsets) > 4  # each image has its own


def test_crop_offsets_are_uniform():
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1).repeat(9000, axis=0)
    cropped = crop.apply_random_crop(tf.constant(image), KEY, 1).numpy()
    _, counts = np.unique(cropped[:, 3, 3, 0], return_counts=True)
    assert len(counts) == 9
    assert stats.chisquare(counts).pvalue > 1e-3


def test_half_of_the_images_are_flipped():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1000, 4, 4, 3), np.uint8)
    result = flip.apply_horizontal_flip(tf.constant(images), KEY).numpy()
    flipped = (result == images[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (result == images).all(axis=(1, 2, 3))
    assert (flipped ^ same).all()
    assert stats.binomtest(int(flipped.sum()), 1000, 0.5).pvalue > 1e-3


def test_cutout_blanks_one_complete_square_anywhere():
    images = tf.zeros((3000, 6, 7, 1), tf.uint8)
    blanked = erase.apply_cutout(images, KEY, 4).numpy()[..., 0]
    assert set(np.unique(blanked)) == {0, 128}
    assert (blanked > 0).sum(axis=(1, 2)).tolist() == [16] * 3000
    corners = [tuple(np.argwhere(mask)[0]) for mask in blanked > 0]
    for mask, (top, left) in zip(blanked[:50], corners, strict=False):
        assert (mask[top : top + 4, left : left + 4] == 128).all()
    places, counts = np.unique(corners, axis=0, return_counts=True)
    assert len(places) == 3 * 4
    assert stats.chisquare(counts).pvalue > 1e-3


def erased_rectangles(height: int, width: int, count: int) -> np.ndarray:
    """Return top, left, height and width of erased rectangles, (N, 4); each was checked."""
    images = tf.zeros((count, height, width, 3), tf.uint8)
    erased = erase.apply_random_erasing(images, KEY, probability=1.0).numpy().any(axis=-1)
    rectangles = []
    for mask in erased:  # noise of three channels is 0 in one pixel of 16 million
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        rectangles.append((rows[0], columns[0], np.ptp(rows) + 1, np.ptp(columns) + 1))
        assert mask.sum() == rectangles[-1][2] * rectangles[-1][3]
    return np.array(rectangles)


def rectangles_by_hand(height: int, width: int, count: int) -> np.ndarray:
    """Return the sides of rectangles, (N, 2), by the rule of torchvision and timm."""
    rng, sides = np.random.default_rng(1), []
    while len(sides) < count:
        area = height * width * rng.uniform(0.02, 1 / 3)
        aspect = np.exp(rng.uniform(np.log(0.3), np.log(3.3)))
        tried = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if tried[0] < height and tried[1] < width:
            sides.append(tried)
    return np.array(sides)


@pytest.mark.parametrize(("height", "width", "mean_area"), [(32, 32, 0.1757), (12, 32, 0.1574)])
def test_erased_rectangles_are_drawn_until_they_fit(height, width, mean_area):
    """In images of 12x32 pixels, every fifth try is too high. The mean areas are numpy's."""
    ours, theirs = (erased_rectangles(height, width, 4000), rectangles_by_hand(height, width, 4000))
    areas, expected = (sides.prod(axis=1) / height / width for sides in (ours[:, 2:], theirs))
    assert stats.ks_2samp(areas, expected).pvalue > 1e-3
    for side in (0, 1):
        assert stats.ks_2samp(ours[:, 2 + side], theirs[:, side]).pvalue > 1e-3
    assert areas.mean() == pytest.approx(mean_area, abs=0.005)
    assert areas.min() > 0.014  # 2 % before the sides are rounded


def test_erased_rectangles_are_at_every_place_where_they_fit():
    rectangles = erased_rectangles(16, 16, 4000)
    for side in (0, 1):
        for size in (4, 7):
            corners = rectangles[rectangles[:, 2 + side] == size, side]
            places, counts = np.unique(corners, return_counts=True)
            assert places.tolist() == list(range(16 - size + 1))
            assert stats.chisquare(counts).pvalue > 1e-3


def test_an_image_in_which_no_rectangle_fits_stays_as_it_is():
    """Every rectangle of an image of one row has at least one row, so none is smaller."""
    images = tf.zeros((50, 1, 40, 3), tf.uint8)
    assert not erase.apply_random_erasing(images, KEY, probability=1.0).numpy().any()


def test_images_are_erased_with_their_probability():
    images = tf.zeros((2000, 16, 16, 3), tf.uint8)
    erased = erase.apply_random_erasing(images, KEY, probability=0.3).numpy().any(axis=(1, 2, 3))
    assert stats.binomtest(int(erased.sum()), 2000, 0.3).pvalue > 1e-3


def test_mixed_targets_are_the_fractions_of_both_images():
    """If white and black images are mixed, the mean brightness is the fraction of the white one."""
    white_and_black = np.concatenate(
        [np.full((500, 16, 16, 1), 255, np.uint8), np.zeros((500, 16, 16, 1), np.uint8)]
    )
    targets = np.repeat(np.eye(2, dtype=np.float32), 500, axis=0)
    for mixup, cutmix in ((0.8, 0.0), (0.0, 1.0), (0.8, 1.0)):
        mixed, mixed_targets = mix.apply_mix(
            tf.constant(white_and_black), tf.constant(targets), KEY, mixup, cutmix, 1.0
        )
        brightness = mixed.numpy().mean(axis=(1, 2, 3)) / 255
        np.testing.assert_allclose(brightness, mixed_targets[:, 0], atol=0.5 / 255 + 1e-6)
        np.testing.assert_allclose(np.sum(mixed_targets, axis=1), 1, atol=1e-6)
        is_box = np.isin(mixed.numpy(), (0, 255)).all(axis=(1, 2, 3))
        expected = {(0.8, 0.0): 0, (0.0, 1.0): 1, (0.8, 1.0): 0.5}[mixup, cutmix]
        assert abs(is_box.mean() - expected) < 0.1


def test_mixing_ends_after_its_fraction_of_the_run(images):
    recipe = AugmentationConfig(cutmix_alpha=1.0, mix_until_fraction=0.5)
    targets = tf.eye(8)
    for progress, changes in ((0.49, True), (0.5, False), (0.9, False)):
        mixed, mixed_targets, _ = augment.augment_batch(
            recipe, Batch(tf.constant(images), targets, tf.constant(progress)), KEY
        )
        assert (np.array_equal(mixed, images), np.array_equal(mixed_targets, targets)) == (
            not changes,
            not changes,
        )


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 3.0])
def test_beta_numbers_are_beta_distributed(alpha):
    numbers = mix.random_beta(KEY, 5000, alpha).numpy()
    assert stats.kstest(numbers, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_the_default_recipe_changes_nothing(images):
    targets = tf.eye(8)
    same_images, same_targets, _ = augment.augment_batch(
        AugmentationConfig(), Batch(tf.constant(images), targets, tf.constant(0.0)), KEY
    )
    np.testing.assert_array_equal(same_images, images)
    np.testing.assert_array_equal(same_targets, targets)


def test_the_result_is_a_function_of_the_key(images):
    def augmented(key):
        return augment.augment_batch(
            EVERYTHING, Batch(tf.constant(images), tf.eye(8), tf.constant(0.0)), key
        )[0].numpy()

    np.testing.assert_array_equal(augmented(KEY), augmented(KEY))
    assert not np.array_equal(augmented(KEY), augmented(KEY + 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.slow
def test_xla_computes_the_same(channels):
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (16, 32, 32, channels), np.uint8))

    def augmented(images):
        return augment.augment_batch(EVERYTHING, Batch(images, tf.eye(16), tf.constant(0.0)), KEY)

    plain, plain_targets, _ = tf.function(augmented)(images)
    compiled, compiled_targets, _ = tf.function(augmented, jit_compile=True)(images)
    assert plain.dtype == tf.uint8
    difference = np.abs(plain.numpy().astype(int) - compiled.numpy().astype(int))
    # Both round at the end, and their floats may differ in the last bit.
    assert (difference > 1).mean() < 1e-3
    np.testing.assert_allclose(plain_targets, compiled_targets, atol=1e-5)


NAMES = (*rand_augment.GEOMETRIC, *rand_augment.COLOUR)
STRENGTH = 0.7


def transformed(images: np.ndarray, name: str, strength: float) -> np.ndarray:
    which = tf.fill((len(images),), NAMES.index(name))
    pixels = rand_augment.apply_transformations(
        tf.constant(images, tf.float32), which, tf.fill((len(images),), strength)
    )
    return pixels.numpy()


def enhance(kind):
    return lambda image: kind(image).enhance(1 + 0.9 * STRENGTH)


PIL_COUNTERPARTS = {
    "auto_contrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "solarize": lambda image: ImageOps.solarize(image, round(256 * (1 - STRENGTH) + 0.5)),
    "posterize": lambda image: ImageOps.posterize(image, 8 - round(4 * STRENGTH)),
    "color": enhance(ImageEnhance.Color),
    "contrast": enhance(ImageEnhance.Contrast),
    "brightness": enhance(ImageEnhance.Brightness),
    "sharpness": enhance(ImageEnhance.Sharpness),
    "identity": lambda image: image,
}


@pytest.mark.parametrize("name", rand_augment.COLOUR)
def test_colour_transformations_equal_those_of_pil(name):
    rng = np.random.default_rng(1)
    smooth = np.clip(rng.normal(110, 40, (4, 32, 32, 3)), 5, 240).astype(np.uint8)
    ours = transformed(smooth, name, STRENGTH)
    for image, result in zip(smooth, ours, strict=True):
        theirs = np.asarray(PIL_COUNTERPARTS[name](Image.fromarray(image)), np.float32)
        # PIL rounds intermediate results; ours are floats.
        assert np.abs(result - theirs).max() <= (2 if name != "sharpness" else 3)


@pytest.mark.parametrize("name", rand_augment.GEOMETRIC)
@pytest.mark.parametrize("strength", [0.7, -0.4])
def test_geometric_transformations_equal_those_of_pil(name, strength):
    y, x = np.mgrid[0:32, 0:32]
    smooth = np.stack([4 * x + 60, 4 * y + 60, 2 * (x + y) + 60], axis=-1).astype(np.uint8)
    ours = transformed(smooth[np.newaxis], name, strength)[0]
    centre = 15.5 + 0.5  # PIL counts from the corner of a pixel
    shear, shift = 0.3 * strength, 0.45 * 32 * strength
    angle = np.deg2rad(30 * strength)
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = {  # x of the source, then y, as PIL's AFFINE takes them
        "rotate": (cosine, -sine, 0, sine, cosine, 0),
        "shear_x": (1, 0, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, 0, 1, 0),
        "translate_x": (1, 0, shift, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, shift),
    }[name]
    a, b, c, d, e, f = matrix
    if name == "shear_x":
        b = shear
    if name == "shear_y":
        d = shear
    c += centre - a * centre - b * centre
    f += centre - d * centre - e * centre
    theirs = Image.fromarray(smooth).transform(
        (32, 32), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
    )
    theirs = np.asarray(theirs, np.float32)
    inside = theirs.min(axis=-1) > 40  # PIL fills with black and ours with grey;
    inside = ndimage.binary_erosion(inside, iterations=2)  # the border is blended over one pixel
    assert inside.mean() > 0.3
    assert np.abs(ours - theirs)[inside].max() <= 2


def test_every_image_draws_its_own_transformation():
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    images = tf.constant(image.repeat(64, axis=0))
    results = rand_augment.apply_rand_augment(images, KEY, num_layers=1, magnitude=9).numpy()
    assert len({result.tobytes() for result in results}) >= 14


def test_each_augmentation_keeps_its_stream_of_random_numbers(images, monkeypatch):
    """Six keys were split from the key of a step, in this order, since the first recipe."""
    crop_key, flip_key, layers_key, erase_key, mix_key, cutout_key = split_key(KEY, 6)
    expected = crop.apply_random_crop(tf.constant(images), crop_key, 4)
    expected = flip.apply_horizontal_flip(expected, flip_key)
    expected = erase.apply_cutout(expected, cutout_key, 6)
    expected = rand_augment.apply_rand_augment(expected, layers_key, 2, 9.0)
    expected = erase.apply_random_erasing(expected, erase_key, 0.5)
    expected, targets = mix.apply_mix(expected, tf.eye(8), mix_key, 0.8, 1.0, 1.0)
    config = dataclasses.replace(EVERYTHING, cutout_size=6)
    batch = Batch(tf.constant(images), tf.eye(8), tf.constant(0.0))
    for stream in (None, 9, 100):  # without an addition, and with one of this stream
        if stream:
            spec = AugmentationSpec("none:none", ("not_there",), stream, "off")
            monkeypatch.setitem(AUGMENTATIONS, "other", spec)
        result = augment.augment_batch(config, batch, KEY)
        np.testing.assert_array_equal(result.images, expected)
        np.testing.assert_array_equal(result.targets, targets)


def test_two_augmentations_with_one_stream_are_refused(images, monkeypatch):
    spec = AugmentationSpec("none:none", ("not_there",), AUGMENTATIONS["cutout"].stream, "off")
    monkeypatch.setitem(AUGMENTATIONS, "other", spec)
    batch = Batch(tf.constant(images), tf.eye(8), tf.constant(0.0))
    with pytest.raises(ValueError, match="same stream"):
        augment.augment_batch(EVERYTHING, batch, KEY)


def test_the_crop_and_the_flip_use_the_published_bits(images):
    """The key, the offsets and the mask are computed here by the formula of the first version."""
    config = AugmentationConfig(crop_padding=4, horizontal_flip=True)
    batch = Batch(tf.constant(images), tf.eye(8), tf.constant(0.0))
    result = augment.augment_batch(config, batch, KEY).images

    def bits(key, *shape, dtype=tf.uint32) -> np.ndarray:
        options = {"minval": None, "maxval": None, "dtype": dtype, "alg": "philox"}
        return tf.random.stateless_uniform(shape, key, **options).numpy()

    crop_key, flip_key, *_ = bits(KEY, 6, 2, dtype=tf.int32)
    offsets = np.floor((bits(crop_key, 8, 2) >> 8) / 2**24 * 9).astype(int)
    flips = (bits(flip_key, 8, 1, 1, 1).ravel() >> 8) / 2**24 < 0.5
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    for i, (y, x) in enumerate(offsets):
        expected = padded[i, y : y + 32, x : x + 32]
        np.testing.assert_array_equal(result[i], expected[:, ::-1] if flips[i] else expected)


def noise(batch: Batch, key: tf.Tensor, config: AugmentationConfig) -> Batch:
    """Replace the images by random bits, as an added augmentation that shows its random numbers."""
    bits = uniform_integers(batch.images.shape, key, 256)
    return batch._replace(images=tf.cast(bits, tf.uint8))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.slow
def test_every_stream_has_its_own_random_numbers(images, monkeypatch, jit_compile):
    batch = Batch(tf.constant(images), tf.eye(8), tf.constant(0.0))
    config = AugmentationConfig(cutout_size=1)
    for name, spec in AUGMENTATIONS.items():  # out of the way
        monkeypatch.setitem(AUGMENTATIONS, name, dataclasses.replace(spec, stream=-1 - spec.stream))
    drawn = set()
    for stream in (*range(5), 6, 7, 100):
        spec = AugmentationSpec(f"{__name__}:noise", ("cutout_size",), stream, "noise")
        monkeypatch.setitem(AUGMENTATIONS, "noise", spec)
        step = tf.function(
            lambda batch: augment.augment_batch(config, batch, KEY), jit_compile=jit_compile
        )
        drawn.add(step(batch).images.numpy().tobytes())
    assert len(drawn) == 8
