"""What a corruption is, and how it is drawn: per sample, the same for every method and seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.data.raw import Array, Raw
from harness.protocol.seeds import derive

SEVERITIES = (1, 2, 3, 4, 5)
Levels = tuple[float, float, float, float, float]
"""What severities 1 to 5 are, in the unit of the corruption."""

ANY = 0
"""The size whose levels hold for samples of all sizes."""


@dataclass(frozen=True)
class Reading:
    """The raw values of one sample on their way to a model.

    Attributes:
        values: as the sensor gave them.
        raw: what is known of the sensor.
        noise: the sample's own random stream, the same at every severity.
        other: gives the raw values of another sample, drawn from a stream of its own.
    """

    values: Array
    raw: Raw
    noise: np.random.Generator
    other: Callable[[], Array]


@dataclass(frozen=True)
class Corruption:
    """One way in which a kind of sensor goes bad.

    Attributes:
        name: as it stands in tables and in the identity of evidence.
        level: what its levels are, with their unit.
        source: where it was published; ``ours`` where it was not.
        levels: the smaller side of a sample in pixels -> what severities 1 to 5 are there; ``ANY``
            alone where size does not matter. The nearest published size (by ratio) is taken.
        apply: a reading and a level to corrupted values, of any type.
    """

    name: str
    level: str
    source: str
    levels: Mapping[int, Levels]
    apply: Callable[[Reading, float], Array]

    def at(self, severity: int, shape: Sequence[int]) -> float:
        """The level of a severity for raw values of this shape."""
        sizes = list(self.levels)
        size = sizes[0]
        if len(sizes) > 1:
            side = min(shape[-2:])
            size = min(sizes, key=lambda one: abs(np.log(one / side)))
        return self.levels[size][severity - 1]


def constant(*levels: float) -> dict[int, Levels]:
    """The same five levels for samples of all sizes."""
    first, second, third, fourth, fifth = levels
    return {ANY: (first, second, third, fourth, fifth)}


def corrupt(
    corruption: Corruption, level: float, raw: Raw, n: int, modality: str, having: Sequence[int]
) -> Array:
    """The corrupted raw values of sample ``n``, in the type in which the sensor gives them.

    What is drawn depends on modality, corruption and position of the sample alone: not on the
    method, the training seed, the severity, or the order in which samples are asked for. ``having``
    are the samples that have the modality, of which another one may be shown instead.
    """
    values = raw.read(n)

    def stream(purpose: str) -> np.random.Generator:
        seed = derive(0, "corruption", modality, corruption.name, n, purpose)
        return np.random.default_rng(seed)

    def other() -> Array:
        others = [one for one in having if one != n] or [n]
        return raw.read(others[int(stream("other").integers(len(others)))])

    found = corruption.apply(Reading(values, raw, stream("noise"), other), level)
    return as_given(found, values)


def as_given(found: Array, values: Array) -> Array:
    """Corrupted values in the type of ``values``, where those are whole rounded and cut off."""
    if values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        return np.rint(found).clip(limits.min, limits.max).astype(values.dtype)
    return np.asarray(found, dtype=values.dtype)


def frozen(reading: Reading, share: float) -> Array:
    """Another sample's values, for this share of the samples: a sensor that hangs."""
    return reading.other() if reading.noise.random() < share else reading.values
