"""Epoch constants of the papers, as fractions of the run's length.

Papers state them for 100 epochs; ``epoch_at`` scales them so that 100 epochs give the published
integer.
"""

from __future__ import annotations

import math
from collections.abc import Callable

PUBLISHED_EPOCHS = 100
WARM_UP = 5
MILESTONES = (16, 33, 50)
STEP = 70
RISING = 0.1
"""Share of a one-cycle run in which the rate rises."""

LOWEST = (1 / 25, 1e-4 / 25)
"""One-cycle factors of the first and of the last epoch."""

MOMENTA = (0.95, 0.85)
"""One-cycle momentum at the lowest and at the highest rate."""


def epoch_at(published: int, epochs: int) -> int:
    """The 0-based epoch that stands where ``published`` stands in a run of 100 epochs (rounded half
    up).

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
    return float(
        factor * 0.1 ** sum(epoch >= _milestone(milestone, epochs) for milestone in MILESTONES)
    )


def _released(epoch: int, epochs: int) -> float:
    # Effective rates of the released trainer at 100 epochs: 0 in epochs 0-1, then (e-1)/5 to epoch
    # 5, drops at 22, 39 and 56.
    if epoch < epoch_at(WARM_UP + 1, epochs):
        published = epoch * PUBLISHED_EPOCHS / epochs
        return 0.0 if epoch < epoch_at(2, epochs) else max(0.0, (published - 1) / WARM_UP)
    return float(
        0.1 ** sum(epoch >= _milestone(milestone + WARM_UP + 1, epochs) for milestone in MILESTONES)
    )


def _cosine(epoch: int, epochs: int) -> float:
    warm = epoch_at(WARM_UP, epochs)
    if epoch < warm:
        return (epoch + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (epoch - warm) / max(1, epochs - warm)))


def _cycle(start: float, peak: float, end: float, epoch: int, epochs: int) -> float:
    """Half a cosine from ``start`` to ``peak``, reached after a tenth of the epochs, then half a
    cosine to ``end``.
    """
    # One step before a tenth of the epochs, as in torch's OneCycleLR; it need be no whole epoch.
    top, last = max(0.0, RISING * epochs - 1), epochs - 1
    if epoch < top:
        return peak + (start - peak) * 0.5 * (1.0 + math.cos(math.pi * epoch / top))
    return end + (peak - end) * 0.5 * (
        1.0 + math.cos(math.pi * (epoch - top) / max(1.0, last - top))
    )


def _onecycle(epoch: int, epochs: int) -> float:
    return _cycle(LOWEST[0], 1.0, LOWEST[1], epoch, epochs)


SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "paper": _paper,
    "released": _released,
    "step": lambda epoch, epochs: 0.1 if epoch >= _milestone(STEP, epochs) else 1.0,
    "cosine": _cosine,
    "onecycle": _onecycle,
    "constant": lambda epoch, epochs: 1.0,
}


RULES = {
    "paper": (
        "linear warm-up, then steps of x0.1 at 16, 33 and 50 of 100 epochs; that is a reading: the"
        ' paper that it is named after prints "divided by 16 at 33 and 50", and its released'
        " trainer does something else (schedule=released)"
    ),
    "released": (
        "what the released trainer of that paper does: no rate in its first two of 100 epochs,"
        " linear warm-up, then steps of x0.1 at 22, 39 and 56"
    ),
    "step": "a step of x0.1 at 70 of 100 epochs",
    "cosine": "linear warm-up over 5 of 100 epochs, then half a cosine to zero",
    "onecycle": (
        "half a cosine up from 1/25 in a tenth of the epochs, then half a cosine down to 1/250000;"
        " the momentum goes against it, 0.95, 0.85, 0.95"
    ),
    "constant": "the same in every epoch",
}
"""What each schedule does, for readers of a report."""

STEPPED = ("paper", "released", "step")


def schedule_sentence(schedule: str, epochs: int) -> str:
    """What a schedule does, and in which epochs (0-based) of a run its steps are."""
    sentence = f"schedule={schedule}: {RULES[schedule]}"
    if schedule not in STEPPED:
        return sentence
    factors = [SCHEDULES[schedule](epoch, epochs) for epoch in range(epochs)]
    steps = [str(e) for e in range(1, epochs) if factors[e] < 0.5 * factors[e - 1]]
    full = factors.index(max(factors))
    return f"{sentence}; here in full from epoch {full} on, and {_stepped(steps, epochs)}"


def _stepped(steps: list[str], epochs: int) -> str:
    if not steps:
        return f"without a step in {epochs} epochs"
    return f"less from {', '.join(steps)} on (of {epochs}, counted from 0)"


def learning_rate_factor(schedule: str, epoch: int, epochs: int) -> float:
    """What the base learning rate is multiplied by in ``epoch`` (0-based).

    ``paper``: linear warm-up (e+1)/5, then x0.1 at 16, 33 and 50 counted from epoch 0.
    ``released``: the effective rates of the DMRNet authors' trainer (zero in its first two epochs).
    ``step``: x0.1 at 70 (OGM-GE). ``cosine``: the same warm-up as ``paper``, then half a cosine.
    ``onecycle``: ESANet's recipe, half a cosine up from 1/25 in a tenth of the epochs and half a
    cosine down to 1/250000. ``constant``: 1.
    """
    return SCHEDULES[schedule](epoch, epochs)


def momentum_in(schedule: str, epoch: int, epochs: int, momentum: float) -> float:
    """The momentum in ``epoch`` (0-based): ``momentum``, but for ``onecycle``, which goes against
    the rate: 0.95, 0.85, 0.95.
    """
    if schedule != "onecycle":
        return momentum
    low, high = MOMENTA
    return _cycle(low, high, low, epoch, epochs)
