"""Which corruptions there are: by kind of sensor, and as the conditions of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from harness.data.raw import Kind, Raw
from harness.robust.definition import SEVERITIES, Corruption
from harness.robust.depth import DEPTH
from harness.robust.pictures import PICTURES
from harness.robust.series import FEATURES, SERIES
from harness.robust.sound import SOUND, SPECTROGRAMS

CORRUPTIONS: Mapping[Kind, tuple[Corruption, ...]] = {
    "picture": PICTURES,
    "depth": DEPTH,
    "sound": SOUND,
    "spectrogram": SPECTROGRAMS,
    "series": SERIES,
    "features": FEATURES,
}


@dataclass(frozen=True)
class Condition:
    """One modality, corrupted in one way at one severity; severity 0 is everything as it is.

    ``level`` is what the severity means for this modality, in the corruption's own unit.
    """

    modality: str
    kind: str
    corruption: str
    severity: int
    level: float


def corruption_of(condition: Condition) -> Corruption | None:
    """The corruption of a condition; None when this version of the harness has no such one."""
    return next(
        (
            corruption
            for kind, corruptions in CORRUPTIONS.items()
            for corruption in corruptions
            if (kind, corruption.name) == (condition.kind, condition.corruption)
        ),
        None,
    )


CLEAN = Condition("", "", "none", 0, 0.0)
"""Nothing is corrupted: raw values make their whole way, and must give the stored evidence."""


def conditions(raws: Mapping[str, Raw], available: Tensor) -> list[Condition]:
    """Every modality x corruption x severity, in this order.

    ``available`` (N, V) bool says which samples have which modality, in the order of ``raws``; the
    first sample that has one decides its size. A modality that no sample has is left out.
    """
    found = []
    for position, (name, raw) in enumerate(raws.items()):
        having = available[:, position].nonzero()
        if not len(having):
            continue
        shape = raw.read(int(having[0])).shape
        for corruption in CORRUPTIONS[raw.kind]:
            for severity in SEVERITIES:
                level = float(corruption.at(severity, shape))
                found.append(Condition(name, raw.kind, corruption.name, severity, level))
    return found
