"""Corruptions of depth maps. Distances are metres; where a map's unit is not known, its range is
taken as 5 m, which the report says.
"""

from __future__ import annotations

import numpy as np

from harness.data.raw import Array
from harness.robust.definition import Corruption, Reading, constant, frozen

ASSUMED_RANGE = 5.0
PATCHES = 16
"""Holes are patches of a sixteenth of each side."""

NGUYEN = "Nguyen, Izadi and Lovell, 3DIMPVT 2012"


def holes(reading: Reading, share: float) -> Array:
    """Patches without a measurement, over about this share of the map."""
    height, width = reading.values.shape[-2:]
    down, across = min(PATCHES, height), min(PATCHES, width)
    lost = reading.noise.random((down, across)) < share
    rows = np.arange(height) * down // height
    columns = np.arange(width) * across // width
    return np.where(lost[rows[:, None], columns[None]], reading.raw.hole, reading.values)


def quantisation(reading: Reading, bits: float) -> Array:
    """Distances in 2 to the power of ``bits`` steps of the range; the middle of each step."""
    low, high = reading.raw.low, reading.raw.high
    step = (high - low) / 2**bits
    steps = np.floor((reading.values.astype(np.float64) - low) / (step or 1.0))
    middle = low + (steps.clip(0, 2**bits - 1) + 0.5) * step
    return _without_holes(reading, middle)


def distance_noise(reading: Reading, times: float) -> Array:
    """Normal noise of ``times`` the deviation 0.0012 + 0.0019 (z - 0.4)^2 of a Kinect, z in m."""
    metres = metres_per_unit(reading)
    z = reading.values.astype(np.float64)
    deviation = 0.0012 + 0.0019 * (metres * z - 0.4) ** 2
    noisy = z + times * deviation / metres * reading.noise.standard_normal(z.shape)
    return _without_holes(reading, noisy.clip(reading.raw.low, reading.raw.high))


DEPTH = (
    Corruption(
        "holes",
        "share of the area without a measurement",
        "ours",
        constant(0.1, 0.2, 0.3, 0.5, 0.7),
        holes,
    ),
    Corruption("quantisation", "bits", "ours", constant(6, 5, 4, 3, 2), quantisation),
    Corruption(
        "distance_noise",
        "times the deviation 0.0012 + 0.0019 (z - 0.4)² m of a Kinect; the range of a map of"
        " unknown unit counts as 5 m",
        NGUYEN,
        constant(1, 2, 4, 8, 16),
        distance_noise,
    ),
    Corruption(
        "frozen",
        "share of samples that show another sample's map",
        "ours",
        constant(0.2, 0.4, 0.6, 0.8, 1.0),
        frozen,
    ),
)


def metres_per_unit(reading: Reading) -> float:
    """What one stored unit is in metres; the range is ``ASSUMED_RANGE`` where that is not known."""
    raw = reading.raw
    return raw.metres or ASSUMED_RANGE / ((raw.high - raw.low) or 1.0)


def _without_holes(reading: Reading, found: Array) -> Array:
    """What was no measurement stays none."""
    return np.where(reading.values == reading.raw.hole, reading.values, found)
