"""Corruptions of series over time (last axis), and of features.

Their unit is the standard deviation of each channel, or of each feature, over the training split.
"""

from __future__ import annotations

import numpy as np

from harness.data.raw import Array
from harness.robust.definition import Corruption, Reading, constant, frozen

STRETCHES = 20
"""A gap is a twentieth of a series."""

DEVIATIONS = "standard deviations of the training split"
NOISE = constant(0.25, 0.5, 1, 2, 4)
LIMITS = constant(2, 1.5, 1, 0.5, 0.25)
SHARES = constant(0.2, 0.4, 0.6, 0.8, 1.0)
LOST = constant(0.1, 0.2, 0.3, 0.5, 0.7)


def noise(reading: Reading, deviations: float) -> Array:
    """Normal noise."""
    x = reading.values
    return x + deviations * reading.raw.std * reading.noise.standard_normal(x.shape)


def drift(reading: Reading, deviations: float) -> Array:
    """A bias that grows evenly from nothing to ``deviations``, up or down in each channel."""
    x = reading.values
    slope = np.linspace(0, 1, x.shape[-1])
    signs = _signs(reading, (*x.shape[:-1], 1))
    return x + deviations * reading.raw.std * signs * slope


def bias(reading: Reading, deviations: float) -> Array:
    """Each feature off by ``deviations``, up or down."""
    x = reading.values
    return x + deviations * reading.raw.std * _signs(reading, x.shape)


def _signs(reading: Reading, shape: tuple[int, ...]) -> Array:
    return np.where(reading.noise.random(shape) < 0.5, -1.0, 1.0)


def saturation(reading: Reading, deviations: float) -> Array:
    """Nothing further from the training mean than this."""
    centre, reach = reading.raw.mean, deviations * np.asarray(reading.raw.std)
    return np.clip(reading.values, centre - reach, centre + reach)


def stuck(reading: Reading, share: float) -> Array:
    """The last share of the series repeats the value before it."""
    x = reading.values.copy()
    steps = x.shape[-1]
    first = max(1, steps - round(share * steps))
    x[..., first:] = x[..., first - 1 : first]
    return x


def gaps(reading: Reading, share: float) -> Array:
    """Stretches are lost, each with this chance, and filled by the training mean."""
    steps = reading.values.shape[-1]
    lost = reading.noise.random(min(STRETCHES, steps)) < share
    stretch = np.arange(steps) * len(lost) // steps  # of each step
    return np.where(lost[stretch], reading.raw.mean, reading.values)


def lost_features(reading: Reading, share: float) -> Array:
    """Features are lost, each with this chance, and filled by their training mean."""
    lost = reading.noise.random(reading.values.shape) < share
    return np.where(lost, reading.raw.mean, reading.values)


SERIES = (
    Corruption("noise", DEVIATIONS, "ours", NOISE, noise),
    Corruption("drift", f"at the end, {DEVIATIONS}", "ours", NOISE, drift),
    Corruption("saturation", f"limit, {DEVIATIONS}", "ours", LIMITS, saturation),
    Corruption("stuck", "share of the time", "ours", SHARES, stuck),
    Corruption("gaps", "chance that a twentieth is lost", "ours", LOST, gaps),
)

FEATURES = (
    Corruption("noise", DEVIATIONS, "ours", NOISE, noise),
    Corruption("bias", DEVIATIONS, "ours", NOISE, bias),
    Corruption("saturation", f"limit, {DEVIATIONS}", "ours", LIMITS, saturation),
    Corruption("stuck", "share of samples with another sample's values", "ours", SHARES, frozen),
    Corruption("gaps", "chance that a feature is lost", "ours", LOST, lost_features),
)
