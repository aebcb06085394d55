"""Epoch constants of the papers, as fractions of the run's length.

Papers state them for 100 epochs; ``epoch_at`` scales them so that 100 epochs give the published integer.
"""

from __future__ import annotations

from collections.abc import Callable

PUBLISHED_EPOCHS = 100
WARM_UP = 5
MILESTONES = (16, 33, 50)
STEP = 70


def epoch_at(published: int, epochs: int) -> int:
    """The 0-based epoch that stands where ``published`` stands in a run of 100 epochs (rounded half up).

    >>> epoch_at(6, 100), epoch_at(6, 30), epoch_at(33, 10)
    (6, 2, 3)
    """
    return (2 * published * epochs + PUBLISHED_EPOCHS) // (2 * PUBLISHED_EPOCHS)


def _milestone(published: int, epochs: int) -> int:
    # Very short runs must not start at a reduced rate.
    return max(1, epoch_at(published, epochs))


def _paper(epoch: int, epochs: int) -> float:
    warm = epoch_at(WARM_UP, epochs)
    factor = min(1.0, (epoch + 1) / warm) if warm else 1.0
    return float(factor * 0.1 ** sum(epoch >= _milestone(milestone, epochs) for milestone in MILESTONES))


def _released(epoch: int, epochs: int) -> float:
    # Effective rates of the released trainer at 100 epochs: 0 in epochs 0-1, then (e-1)/5 to epoch 5, drops at 22, 39 and 56.
    if epoch < epoch_at(WARM_UP + 1, epochs):
        published = epoch * PUBLISHED_EPOCHS / epochs
        return 0.0 if epoch < epoch_at(2, epochs) else max(0.0, (published - 1) / WARM_UP)
    return float(0.1 ** sum(epoch >= _milestone(milestone + WARM_UP + 1, epochs) for milestone in MILESTONES))


def _cosine(epoch: int, epochs: int) -> float:
    import math

    warm = epoch_at(WARM_UP, epochs)
    if epoch < warm:
        return (epoch + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (epoch - warm) / max(1, epochs - warm)))


SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "paper": _paper,
    "released": _released,
    "step": lambda epoch, epochs: 0.1 if epoch >= _milestone(STEP, epochs) else 1.0,
    "cosine": _cosine,
    "constant": lambda epoch, epochs: 1.0,
}


def learning_rate_factor(schedule: str, epoch: int, epochs: int) -> float:
    """What the base learning rate is multiplied by in ``epoch`` (0-based).

    ``paper``: linear warm-up (e+1)/5, then x0.1 at 16, 33 and 50 counted from epoch 0. ``released``: the effective rates of the
    DMRNet authors' trainer (zero in its first two epochs). ``step``: x0.1 at 70 (OGM-GE). ``cosine``: the same warm-up as
    ``paper``, then a half cosine. ``constant``: 1.
    """
    return SCHEDULES[schedule](epoch, epochs)
