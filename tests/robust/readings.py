"""Raw samples for tests of corruptions, and corruptions by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from harness.data.raw import Array, Kind, Raw
from harness.robust.catalogue import CORRUPTIONS
from harness.robust.definition import Corruption, Reading, corrupt


def named(kind: Kind, name: str) -> Corruption:
    """A corruption of a kind of sensor."""
    return next(one for one in CORRUPTIONS[kind] if one.name == name)


def raw_of(kind: Kind, *samples: Array, **facts: Any) -> Raw:
    """A sensor that gave these samples."""
    return Raw(kind, lambda n: samples[n].copy(), lambda x: torch.from_numpy(np.stack(x)), **facts)


def corrupted(raw: Raw, name: str, severity: int, n: int = 0, samples: int = 1) -> Array:
    """A sample of a sensor under a corruption."""
    corruption = named(raw.kind, name)
    level = corruption.at(severity, raw.read(n).shape)
    return corrupt(corruption, level, raw, n, "sensor", range(samples))


def reading(raw: Raw, seed: int = 0) -> Reading:
    """A sample with a stream of its own."""
    return Reading(raw.read(0), raw, np.random.default_rng(seed), lambda: raw.read(0))
