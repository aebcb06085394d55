"""Corruptions of pictures against their published formulas, tables and closed forms."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm

from harness.data.raw import Array
from harness.robust.definition import SEVERITIES
from tests.robust.readings import corrupted, named, raw_of

# Hendrycks and Dietterich's published scripts: make_imagenet_c, make_tinyimagenet_c, make_cifar_c.
PUBLISHED = {
    "gaussian_noise": {
        224: [0.08, 0.12, 0.18, 0.26, 0.38],
        64: [0.04, 0.08, 0.12, 0.15, 0.18],
        32: [0.04, 0.06, 0.08, 0.09, 0.10],
    },
    "shot_noise": {
        224: [60, 25, 12, 5, 3],
        64: [250, 100, 50, 30, 15],
        32: [500, 250, 100, 75, 50],
    },
    "blur": {
        224: [1, 2, 3, 4, 6],
        64: [0.5, 0.75, 1, 1.25, 1.5],
        32: [0.4, 0.6, 0.7, 0.8, 1],
    },
    "jpeg": {224: [25, 18, 15, 10, 7], 64: [65, 58, 50, 40, 25], 32: [80, 65, 58, 50, 40]},
}
SIDES = {8: 32, 32: 32, 44: 32, 48: 64, 64: 64, 112: 64, 130: 224, 224: 224, 480: 224}
"""Side of a picture -> the published size that is nearest by ratio."""


def grey(value: int, side: int = 224, channels: int = 1) -> Array:
    return np.full((channels, side, side), value, dtype=np.uint8)


def photo(side: int = 64, channels: int = 3) -> Array:
    """Smooth colours with an edge."""
    x = np.linspace(0, 1, side)
    waves = [np.sin(3 * x[:, None] + k) * np.cos(5 * x[None] - k) for k in range(channels)]
    found = 127.5 * (1 + np.stack(waves))
    found[:, side // 3 : side // 2, side // 4 :] = 30
    return found.astype(np.uint8)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("side", SIDES)
def test_severities_are_those_published_for_the_nearest_size(name: str, side: int) -> None:
    found = [named("picture", name).at(severity, (3, side, side + 9)) for severity in SEVERITIES]
    assert found == PUBLISHED[name][SIDES[side]]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_noise_has_the_moments_of_a_normal_cut_off_at_black_and_white(
    severity: int,
) -> None:
    sigma, mean = PUBLISHED["gaussian_noise"][224][severity - 1], 128 / 255
    found = corrupted(raw_of("picture", grey(128), high=255.0), "gaussian_noise", severity) / 255
    low, high = norm.cdf(-mean / sigma), norm.sf((1 - mean) / sigma)
    inside = norm(mean, sigma).expect(lambda x: x, 0, 1)
    square = norm(mean, sigma).expect(lambda x: x * x, 0, 1)
    expected = inside + high
    variance = square + high - expected**2
    assert (found == 0).mean() == pytest.approx(low, abs=0.01)
    assert found.mean() == pytest.approx(expected, abs=0.005)
    assert found.var() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_shot_noise_has_the_variance_of_photons(severity: int) -> None:
    photons, value = PUBLISHED["shot_noise"][224][severity - 1], 51 / 255
    found = corrupted(raw_of("picture", grey(51), high=255.0), "shot_noise", severity) / 255
    assert found.mean() == pytest.approx(value, abs=0.01)
    # Brighter than white is cut off, which hardly happens at a fifth of it but with 3 photons.
    assert found.var() == pytest.approx(value / photons, rel=0.05 if photons > 3 else 0.1)
    steps = np.unique(np.rint(found * photons * 100) / 100)
    assert np.abs(steps - np.rint(steps)).max() < 0.02 * photons


@pytest.mark.parametrize("severity", SEVERITIES)
def test_blur_spreads_a_point_as_a_normal_density(severity: int) -> None:
    point = np.zeros((1, 64, 64))
    point[0, 32, 32] = 1.0
    found = corrupted(raw_of("picture", point), "blur", severity)
    sigma = PUBLISHED["blur"][64][severity - 1]
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    expected = np.zeros((64, 64))
    near = slice(32 - reach, 33 + reach)
    expected[near, near] = weights[:, None] * weights[None]
    np.testing.assert_allclose(found[0], expected, atol=1e-12)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_low_light_squares_and_dims(severity: int) -> None:
    picture = np.zeros((1, 200, 300), dtype=np.uint8)
    picture[:, :, 100:200], picture[:, :, 200:] = 100, 200
    found = corrupted(raw_of("picture", picture, high=255.0), "low_light", severity) / 255
    brightest = [0.6, 0.5, 0.4, 0.3, 0.2][severity - 1]
    for columns, share in ((slice(100, 200), 0.5), (slice(200, 300), 1.0)):
        assert found[..., columns].mean() == pytest.approx(brightest * share**2, abs=0.01)
    # Photons of the dark picture, and 0.018 of the readout.
    variance = brightest / 120 + 0.018**2
    assert found[..., 200:].var() == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_is_what_pillow_makes_of_it(severity: int, channels: int) -> None:
    picture = photo(channels=channels)
    found = corrupted(raw_of("picture", picture, high=255.0), "jpeg", severity)
    stream = io.BytesIO()
    plain = picture[0] if channels == 1 else picture.transpose(1, 2, 0)
    quality = int(PUBLISHED["jpeg"][64][severity - 1])
    Image.fromarray(plain).save(stream, "JPEG", quality=quality)
    expected = np.asarray(Image.open(stream))
    assert found.dtype == np.uint8 and (found != picture).any()
    np.testing.assert_array_equal(
        found, expected[None] if channels == 1 else expected.transpose(2, 0, 1)
    )


@pytest.mark.parametrize("severity", SEVERITIES)
def test_occlusion_blackens_one_rectangle_of_its_share(severity: int) -> None:
    found = corrupted(raw_of("picture", grey(200, 100, 3), high=255.0), "occlusion", severity)
    rows, columns = (found[0] == 0).any(1).nonzero()[0], (found[0] == 0).any(0).nonzero()[0]
    inside = found[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (inside == 0).all() and (found == 0).sum() == inside.size
    assert (found[0] == 0).mean() == pytest.approx(0.1 * severity, abs=0.011)
    assert (found[found != 0] == 200).all()


def test_frozen_shows_another_samples_picture_for_a_growing_share_of_samples() -> None:
    count = 400
    raw = raw_of("picture", *(np.full((1, 2, 2), n, dtype=np.int64) for n in range(count)))
    before: set[int] = set()
    for severity in SEVERITIES:
        shown = [int(corrupted(raw, "frozen", severity, n, count)[0, 0, 0]) for n in range(count)]
        changed = {n for n, value in enumerate(shown) if value != n}
        assert len(changed) / count == pytest.approx(0.2 * severity, abs=0.08)
        assert before <= changed
        before = changed
    assert len(before) == count


def test_white_and_black_are_the_sensors_own() -> None:
    deep = np.full((1, 300, 300), 2000, dtype=np.uint16)
    found = corrupted(raw_of("picture", deep, low=1000.0, high=3000.0), "gaussian_noise", 1)
    assert found.dtype == np.uint16
    assert found.astype(float).std() == pytest.approx(0.08 * 2000, rel=0.03)
    assert found.min() >= 1000 and found.max() <= 3000


def test_what_is_drawn_depends_on_sample_modality_and_corruption_alone() -> None:
    raw = raw_of("picture", grey(128, 32), grey(128, 32), high=255.0)
    first = corrupted(raw, "gaussian_noise", 5)
    np.testing.assert_array_equal(first, corrupted(raw, "gaussian_noise", 5))
    assert (first != corrupted(raw, "gaussian_noise", 5, n=1)).any()
    # The same noise at every severity: 0.10 against 0.04, but for rounding to whole numbers.
    mild = corrupted(raw, "gaussian_noise", 1).astype(float) - 128
    np.testing.assert_allclose(first.astype(float) - 128, mild * 2.5, atol=2)
