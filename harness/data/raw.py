"""What a sensor gave, one sample at a time, before anything is normalised.

Corruptions act on it (harness/robust). Datasets give it by ``Dataset.raw``; the default is
what they store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]

Kind = Literal["picture", "depth", "sound", "spectrogram", "series", "features"]
KINDS: tuple[Kind, ...] = ("picture", "depth", "sound", "spectrogram", "series", "features")
"""``sound`` is a waveform; ``spectrogram`` the logarithm of one, where there is no waveform;
``series`` runs over time along its last axis; ``features`` is everything else.
"""


@dataclass(frozen=True)
class Raw:
    """The raw values of one modality of one split, and how they become what encoders receive.

    Attributes:
        kind: which corruptions there are for it.
        read: the position of a sample in the split -> its raw values: (C, H, W) of a picture, a
            depth map, a spectrogram; (samples,) of a sound; (C, ..., time) of a series; any shape
            of features.
        receive: raw values of B samples -> (B, C, H, W) float32 on the CPU, as encoders receive
            them. Of what ``read`` returns it is what ``Split.batch`` gives, bit for bit.
        low: the least value that the sensor can give; of a picture, black.
        high: the largest one; of a picture, white.
        mean: of the training split, for series and features; broadcast to a sample.
        std: likewise.
        hole: what a depth map has where nothing was measured.
        metres: metres per unit of a depth map; None where that is not known.
        rate: samples of a sound per second.
        note: what a reader must know of where corruptions act; empty where they act on what the
            sensor gave.
    """

    kind: Kind
    read: Callable[[int], Array]
    receive: Callable[[Sequence[Array]], Tensor]
    low: float = 0.0
    high: float = 1.0
    mean: Array | float = 0.0
    std: Array | float = 1.0
    hole: float = 0.0
    metres: float | None = None
    rate: int = 0
    note: str = ""
