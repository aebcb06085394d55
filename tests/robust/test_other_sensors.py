"""Corruptions of depth maps, sound, series and features against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from harness.robust.definition import SEVERITIES
from tests.robust.readings import corrupted, raw_of

GENERATOR = np.random.default_rng(7)

# ---------------------------------------------------------------------- depth


def millimetres(value: float, side: int = 160) -> np.ndarray:
    return np.full((1, side, side), value, dtype=np.int16)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_holes_cover_their_share_in_patches(severity: int) -> None:
    raw = raw_of("depth", millimetres(2000), high=10_000.0, hole=5.0)
    found = corrupted(raw, "holes", severity)[0]
    lost = found == 5
    assert ((found == 2000) | lost).all()
    # 256 patches of 10 x 10: their share is off by at most three standard deviations.
    share = [0.1, 0.2, 0.3, 0.5, 0.7][severity - 1]
    assert abs(lost.mean() - share) < 3 * np.sqrt(share * (1 - share) / 256)
    patches = lost.reshape(16, 10, 16, 10).mean((1, 3))
    assert set(np.unique(patches).tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("severity", SEVERITIES)
def test_quantisation_leaves_as_many_distances_as_bits_allow(severity: int) -> None:
    ramp = np.linspace(0, 8000, 160 * 160).reshape(1, 160, 160).astype(np.float32)
    bits = 7 - severity
    found = corrupted(raw_of("depth", ramp, high=8000.0), "quantisation", severity)
    assert len(np.unique(found[ramp > 0])) == 2**bits
    assert np.abs(found - ramp).max() <= 8000 / 2**bits / 2 + 1e-2
    assert found[0, 0, 0] == 0  # no measurement stays none


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("distance", [1.0, 4.0])
def test_depth_noise_grows_with_distance_as_published(severity: int, distance: float) -> None:
    far = millimetres(1000 * distance)
    far[0, 0] = 0
    raw = raw_of("depth", far, high=12_000.0, metres=0.001)
    found = corrupted(raw, "distance_noise", severity)[0].astype(float)
    times = 2 ** (severity - 1)
    deviation = 1000 * times * (0.0012 + 0.0019 * (distance - 0.4) ** 2)
    # Whole millimetres add a twelfth to the variance.
    assert found[1:].std() == pytest.approx(np.sqrt(deviation**2 + 1 / 12), rel=0.03)
    assert found[1:].mean() == pytest.approx(1000 * distance, abs=0.05 * deviation + 0.1)
    assert (found[0] == 0).all()


def test_grey_levels_of_unknown_unit_are_five_metres() -> None:
    grey = np.full((3, 100, 100), 204, dtype=np.uint8)  # 4 m
    found = corrupted(raw_of("depth", grey, high=255.0), "distance_noise", 5).astype(float)
    metres = 16 * (0.0012 + 0.0019 * (4.0 - 0.4) ** 2)
    assert (found / 255 * 5).std() == pytest.approx(metres, rel=0.1)


# ---------------------------------------------------------------------- sound


def tone(seconds: float = 2.0, rate: int = 16_000) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_ratio_that_it_says(severity: int) -> None:
    x = tone()
    noise = corrupted(raw_of("sound", x, rate=16_000), "noise", severity) - x
    ratio = 10 * np.log10(np.mean(x**2) / np.mean(noise**2))
    assert ratio == pytest.approx([20, 15, 10, 5, 0][severity - 1], abs=0.2)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_clipping_cuts_off_at_a_share_of_the_peak(severity: int) -> None:
    x = tone()
    found = corrupted(raw_of("sound", x, rate=16_000), "clipping", severity)
    limit = [0.5, 0.25, 0.1, 0.05, 0.02][severity - 1] * np.abs(x).max()
    assert np.abs(found).max() == pytest.approx(limit, rel=1e-5)
    quiet = np.abs(x) < limit * 0.999
    np.testing.assert_array_equal(found[quiet], x[quiet])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaps_are_silent_packets(severity: int) -> None:
    x = np.ones(16_000 * 20, dtype=np.float32)
    found = corrupted(raw_of("sound", x, rate=16_000), "gaps", severity)
    packets = found.reshape(-1, 320)
    assert set(packets.mean(1).tolist()) == {0.0, 1.0}
    share = 0.1 * severity
    assert abs((packets[:, 0] == 0).mean() - share) < 3 * np.sqrt(share * (1 - share) / 1000)


def test_silence_stays_silence() -> None:
    raw = raw_of("sound", np.zeros(1000, dtype=np.float32), rate=16_000)
    for name in ("noise", "clipping", "gaps"):
        assert (corrupted(raw, name, 5) == 0).all()


def test_noise_on_a_spectrogram_adds_its_power_to_each_bin() -> None:
    x = np.log(GENERATOR.random((1, 129, 400)) + 0.1).astype(np.float64)
    for severity, decibels in zip(SEVERITIES, (20, 15, 10, 5, 0), strict=True):
        found = corrupted(raw_of("spectrogram", x), "noise", severity)
        added = np.exp(found) - np.exp(x)
        assert added.min() >= -1e-12
        assert added.mean() == pytest.approx(np.exp(x).mean() / 10 ** (decibels / 10), rel=0.05)


# ---------------------------------------------------------------------- series and features

MEAN, STD = np.array([10.0, -3.0])[:, None, None], np.array([2.0, 0.5])[:, None, None]


def series(steps: int = 4000) -> np.ndarray:
    return MEAN + STD * GENERATOR.standard_normal((2, 1, steps))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_of_a_series_is_in_its_own_deviations(severity: int) -> None:
    x = series()
    noise = corrupted(raw_of("series", x, mean=MEAN, std=STD), "noise", severity) - x
    level = [0.25, 0.5, 1, 2, 4][severity - 1]
    np.testing.assert_allclose(noise.std(-1), level * STD[..., 0], rtol=0.05)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_drift_is_a_line_from_nothing_to_its_level(severity: int) -> None:
    x = series()
    added = corrupted(raw_of("series", x, mean=MEAN, std=STD), "drift", severity) - x
    level = [0.25, 0.5, 1, 2, 4][severity - 1]
    np.testing.assert_allclose(added[..., 0], 0, atol=1e-12)
    np.testing.assert_allclose(np.abs(added[..., -1]), level * STD[..., 0])
    np.testing.assert_allclose(np.diff(added, 2), 0, atol=1e-9)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_saturation_ends_at_its_limit(severity: int) -> None:
    x = series()
    found = corrupted(raw_of("series", x, mean=MEAN, std=STD), "saturation", severity)
    limit = [2, 1.5, 1, 0.5, 0.25][severity - 1]
    away = np.abs((found - MEAN) / STD)
    assert away.max() == pytest.approx(limit)
    inside = np.abs((x - MEAN) / STD) < limit
    np.testing.assert_array_equal(found[inside], x[inside])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_stuck_sensor_repeats_its_last_value(severity: int) -> None:
    x = series(100)
    found = corrupted(raw_of("series", x, mean=MEAN, std=STD), "stuck", severity)
    first = max(1, 100 - 20 * severity)
    np.testing.assert_array_equal(found[..., :first], x[..., :first])
    assert (found[..., first:] == x[..., first - 1 : first]).all()


def test_gaps_of_a_series_are_filled_by_the_training_mean() -> None:
    x = series(200)
    found = corrupted(raw_of("series", x, mean=MEAN, std=STD), "gaps", 4)
    lost = (found == MEAN).all((0, 1)).reshape(20, 10)
    assert set(lost.mean(1).tolist()) == {0.0, 1.0}
    kept = np.repeat(~lost[:, 0], 10)
    np.testing.assert_array_equal(found[..., kept], x[..., kept])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_features_are_off_by_their_bias_and_lost_one_by_one(severity: int) -> None:
    mean, std = np.full((400, 1, 1), 5.0), np.full((400, 1, 1), 3.0)
    x = mean + std * GENERATOR.standard_normal((400, 1, 1))
    raw = raw_of("features", x, mean=mean, std=std)
    added = corrupted(raw, "bias", severity) - x
    level = [0.25, 0.5, 1, 2, 4][severity - 1]
    np.testing.assert_allclose(np.abs(added), 3 * level)
    assert 0.35 < (added > 0).mean() < 0.65
    lost = corrupted(raw, "gaps", severity) == 5.0
    share = [0.1, 0.2, 0.3, 0.5, 0.7][severity - 1]
    assert abs(lost.mean() - share) < 3 * np.sqrt(share * (1 - share) / 400)
