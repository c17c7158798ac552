"""Corruptions against published constants, Pillow, SciPy, and pixels computed by hand."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_sample_image

from cifar_models.evaluation.corruptions import blurs, weather
from cifar_models.evaluation.corruptions.cifar10_c import CORRUPTIONS, corrupt

SEVERITIES = (1, 2, 3, 4, 5)
RANDOM = {
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "glass_blur",
    "motion_blur",
    "snow",
    "frost",
    "fog",
    "elastic_transform",
}


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    """Crops of scikit-learn's two photographs at a quarter of their size: uint8 (30, 32, 32, 3)."""
    crops = []
    for name in ("china.jpg", "flower.jpg"):
        photograph = np.asarray(Image.fromarray(load_sample_image(name)).reduce(4))
        for y, x in np.ndindex(3, 5):
            crops.append(photograph[32 * y : 32 * y + 32, 32 * x : 32 * x + 32])
    return np.stack(crops)


def gray(level: int, count: int = 100, channels: int = 3) -> np.ndarray:
    return np.full((count, 32, 32, channels), level, np.uint8)


def by_severity(*constants: float) -> list[tuple[int, float]]:
    return list(enumerate(constants, start=1))


def test_there_are_fifteen_corruptions():
    assert len(CORRUPTIONS) == len(set(CORRUPTIONS)) == 15


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(3, 32, 32, 3), (3, 32, 32, 1), (2, 8, 8, 1), (2, 20, 41, 3)])
def test_shape_dtype_and_repeatability(name, shape):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    before = images.copy()
    corrupted = corrupt(images, name, severity=5, seed=0)
    assert corrupted.shape == shape and corrupted.dtype == np.uint8
    np.testing.assert_array_equal(corrupt(images, name, severity=5, seed=0), corrupted)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupted_images_do_not_depend_on_later_images(name, photographs):
    many = np.concatenate([photographs] * 3)
    whole = corrupt(many, name, 3, seed=5)
    for count in (7, 55):
        np.testing.assert_array_equal(corrupt(many[:count], name, 3, seed=5), whole[:count])
    is_equal = np.array_equal(corrupt(many, name, 3, seed=6), whole)
    assert is_equal == (name not in RANDOM)
    assert np.array_equal(whole[0], whole[30]) == (name not in RANDOM)  # differs per image


@pytest.mark.parametrize(
    "name", [name for name in CORRUPTIONS if name not in ("frost", "glass_blur", "motion_blur")]
)
def test_the_distance_to_the_images_grows_with_severity(name, photographs):
    distances = [
        np.abs(corrupt(photographs, name, severity, 0) - photographs.astype(float)).mean()
        for severity in SEVERITIES
    ]
    if name == "elastic_transform":  # the affine part shrinks while the field grows
        distances.reverse()
    assert distances[0] > 0 and (np.diff(distances) > 0).all(), distances


@pytest.mark.parametrize("name", ["frost", "glass_blur", "motion_blur"])
def test_the_correlation_with_the_images_falls_with_severity(name, photographs):
    flowers = np.concatenate([photographs[15:]] * 12)  # random numbers differ per image

    def correlation(severity: int) -> float:
        pairs = zip(flowers, corrupt(flowers, name, severity, 0), strict=True)
        return float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]))

    # Severity 4 and 5 of glass_blur have two rounds; 3 and 4 of motion_blur differ only in length.
    steps = {"frost": SEVERITIES, "glass_blur": (1, 4), "motion_blur": (1, 2, 3, 5)}[name]
    assert (np.diff([correlation(severity) for severity in steps]) < 0).all()


@pytest.mark.parametrize(("severity", "deviation"), by_severity(0.04, 0.06, 0.08, 0.09, 0.10))
def test_gaussian_noise_has_the_published_deviation(severity, deviation):
    noisy = corrupt(gray(128), "gaussian_noise", severity, 0).astype(float)
    assert noisy.mean() == pytest.approx(127.5, abs=0.2)  # truncation removes half a level
    assert noisy.std() == pytest.approx(255 * deviation, rel=0.01)
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(("severity", "photons"), by_severity(500, 250, 100, 75, 50))
def test_shot_noise_is_poisson(severity, photons):
    noisy = (corrupt(gray(51), "shot_noise", severity, 0).astype(float) + 0.5) / 255
    assert noisy.mean() == pytest.approx(0.2, abs=0.003)
    # Truncation changes the steps between counts slightly.
    assert noisy.var() == pytest.approx(0.2 / photons, rel=0.1)
    assert not corrupt(gray(0), "shot_noise", severity, 0).any()


@pytest.mark.parametrize(("severity", "fraction"), by_severity(0.01, 0.02, 0.03, 0.05, 0.07))
def test_impulse_noise_changes_the_published_fraction(severity, fraction):
    noisy = corrupt(gray(100), "impulse_noise", severity, 0)
    assert set(np.unique(noisy)) == {0, 100, 255}
    assert (noisy == 0).mean() == pytest.approx(fraction / 2, rel=0.05)
    assert (noisy == 255).mean() == pytest.approx(fraction / 2, rel=0.05)
    assert (np.ptp(noisy, axis=3) > 0).mean() > 2.5 * fraction  # independent channels


def test_contrast_by_hand():
    image = gray(100, 1)
    image[0, :16] = 200  # the mean is 150
    for severity, kept in by_severity(0.75, 0.5, 0.4, 0.3, 0.15):
        corrupted = corrupt(image, "contrast", severity, 0)
        assert (corrupted[0, :16] == int(150 + 50 * kept + 1e-6)).all()
        assert (corrupted[0, 16:] == int(150 - 50 * kept + 1e-6)).all()


def test_brightness_by_hand():
    """The largest channel grows by the constant; the others keep their ratio to it."""
    image = np.zeros((1, 1, 4, 3), np.uint8)
    image[0, 0] = [(100, 50, 0), (250, 125, 10), (0, 0, 0), (60, 60, 60)]
    expected = [(151, 75, 0), (255, 127, 10), (51, 51, 51), (111, 111, 111)]  # + 0.2 * 255
    assert corrupt(image, "brightness", 4, 0)[0, 0].tolist() == [list(row) for row in expected]
    assert (corrupt(gray(60, 1, channels=1), "brightness", 4, 0) == 111).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_and_pixelate_equal_those_of_pillow(channels, photographs):
    photographs = photographs[..., :channels]
    flat = photographs[..., 0] if channels == 1 else photographs
    for severity, quality, side in zip(
        SEVERITIES, [80, 65, 58, 50, 40], [30, 28, 27, 24, 20], strict=True
    ):
        compressed = corrupt(photographs, "jpeg_compression", severity, 0)
        coarse = corrupt(photographs, "pixelate", severity, 0)
        for index, pixels in enumerate(flat):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=quality)
            expected = np.asarray(Image.open(file)).reshape(32, 32, channels)
            np.testing.assert_array_equal(compressed[index], expected)
            small = Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX)
            expected = np.asarray(small.resize((32, 32), Image.Resampling.BOX))
            np.testing.assert_array_equal(coarse[index], expected.reshape(32, 32, channels))


def test_enlargement_equals_the_zoom_of_scipy(photographs):
    pixels = photographs[:2].astype(np.float32)
    for factor in (1.0, 1.06, 1.25, 1.75, 2.25):
        cropped = int(np.ceil(32 / factor))
        top = (32 - cropped) // 2
        middle = pixels[:, top : top + cropped, top : top + cropped]
        whole = ndimage.zoom(middle, (1, factor, factor, 1), order=1)
        top = (whole.shape[1] - 32) // 2
        expected = whole[:, top : top + 32, top : top + 32]
        np.testing.assert_allclose(blurs.enlarge(pixels, factor), expected, atol=1e-3)


def test_zoom_blur_counts_the_image_itself_twice():
    """Of the factors 1 to 1.06, only 1 and 1.01 add no pixel and so keep the last corner."""
    image = gray(0, 1)
    image[0, 31, 31] = 255
    corner = corrupt(image, "zoom_blur", 1, 0)[0, 31, 31]
    # 1.02 and 1.03 enlarge to 33 pixels; the 32nd then has a weight of 1 / 32 on both axes.
    assert (corner == int(255 * (1 + 2 + 2 / 32**2) / 8)).all()


def test_defocus_blur_of_a_point_is_the_published_disk():
    image = gray(0, 1)
    image[0, 16, 16] = 255
    spot = corrupt(image, "defocus_blur", 5, 0)[0, :, :, 0]  # radius 1.5 covers nine pixels
    expected = np.zeros((32, 32), int)
    expected[15:18, 15:18] = 255 // 9
    np.testing.assert_array_equal(spot, expected)


def test_a_smeared_point_is_half_a_gaussian_along_the_direction():
    image = np.zeros((3, 32, 32, 1), np.float32)
    image[:, 16, 16] = 1.0
    half = np.exp(-(np.arange(17) ** 2) / (2 * 2**2))
    half /= half.sum()
    flat, steep, down = blurs.smear(image, 8, 2, np.array([0.0, 45.0, 90.0]))[..., 0]
    np.testing.assert_allclose(flat[16, 16::-1], half, atol=1e-6)
    np.testing.assert_allclose(down[16::-1, 16], half, atol=1e-6)
    diagonal = np.diagonal(steep)
    assert diagonal.sum() == pytest.approx(1, abs=1e-4) and diagonal[16] > diagonal[14] > 0


def test_glass_blur_equals_the_published_loop(photographs):
    """The published code swaps pixels through NumPy views, from the last pixel to the first."""
    shifts = np.random.default_rng(3).integers(-1, 1, (2, 2, 1, 30, 30))

    class GivenShifts:
        rounds = iter(shifts)

        def integers(self, low, high, shape):
            assert (low, high, shape) == (-1, 1, (2, 1, 30, 30))
            return next(self.rounds)

    def blur(pixels: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(pixels, (0.4, 0.4, 0), mode="nearest", truncate=4)

    expected = np.floor(blur(photographs[0].astype(float)) + 1e-3)
    for down, right in shifts[:, :, 0]:
        for y in range(31, 1, -1):
            for x in range(31, 1, -1):
                other = y + down[y - 2, x - 2], x + right[y - 2, x - 2]
                expected[y, x], expected[other] = expected[other], expected[y, x]
    pixels = photographs[:1].astype(np.float32)
    np.testing.assert_allclose(
        blurs.glass_blur(pixels, 0.4, 1, 2, GivenShifts())[0], blur(expected), atol=1e-3
    )


def test_an_elastic_field_without_strength_is_an_affine_map(photographs):
    """Severity 1 has no field, so planes stay planes except for reflections at the edges."""
    plane = np.broadcast_to(np.add.outer(2 * np.arange(32), 3 * np.arange(32)), (20, 32, 32))
    corrupted = corrupt(plane[..., None].astype(np.uint8), "elastic_transform", 1, 0)
    inside = corrupted[:, 10:22, 10:22, 0].astype(float)
    assert np.abs(np.diff(inside, n=2, axis=1)).max() <= 2  # three numbers are rounded
    assert np.abs(np.diff(inside, n=2, axis=2)).max() <= 2
    slopes = np.diff(inside, axis=2).mean(axis=(1, 2))
    assert slopes.mean() == pytest.approx(3, abs=0.3) and slopes.std() > 0.05


def test_fog_by_its_formula():
    black, white = corrupt(gray(0), "fog", 5, 0), corrupt(gray(255), "fog", 5, 0)
    assert not black.any()  # no value exceeds the maximum of the image
    assert white.max() == 255 and white.min() == int(255 / 2.5)
    heights = weather.plasma(50, 32, 32, 1.75, np.random.default_rng(0))
    assert heights.shape == (50, 32, 32, 1)
    assert (heights.min(axis=(1, 2)) == 0).all() and (heights.max(axis=(1, 2)) == 1).all()
    rough, smooth = (
        np.abs(np.diff(weather.plasma(50, 32, 32, decay, np.random.default_rng(0)), axis=1)).mean()
        for decay in (1.75, 3)
    )
    assert rough > 1.2 * smooth


def test_frost_has_the_color_of_the_photographs():
    frozen = corrupt(gray(0, 300), "frost", 5, 0) + 0.5
    np.testing.assert_allclose(
        frozen.mean(axis=(0, 1, 2)), 0.45 * np.array([146, 167, 179]), rtol=0.05
    )
    assert frozen[..., 1].mean(axis=(1, 2)).std() == pytest.approx(0.45 * 36, rel=0.2)
    assert frozen[..., 1].std(axis=(1, 2)).mean() == pytest.approx(0.45 * 15, rel=0.1)


def test_snow_whitens_pixels_without_flakes():
    """At severity 1, most pixels have no flake and become 0.95 x + 0.05 max(x, 1.5 x + 127.5)."""
    snowy = corrupt(gray(40), "snow", 1, 0)
    assert np.median(snowy) == int(0.95 * 40 + 0.05 * (1.5 * 40 + 127.5))
    assert snowy.min() == np.median(snowy) and snowy.max() > 100
    np.testing.assert_array_equal(snowy, snowy[:, ::-1, ::-1])  # symmetric under rotation
