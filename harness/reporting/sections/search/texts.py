"""How the section on the search writes a row, a point and its values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.protocol.metrics import Metric
from harness.reporting.text import ABSENT, number
from harness.search.results import PointResult, SearchResult
from harness.study.rows import short

OWN, BEST = "own", "best"


def title(one: SearchResult, found: Sequence[SearchResult]) -> str:
    """The row's label, behind its study's name where several studies search a row of that label."""
    label = one.subject.row.label
    alone = [other.subject.row.label for other in found].count(label) == 1
    return label if alone else f"{one.search.plan.study.name}: {label}"


def point_value(scored: PointResult | None, metric: Metric) -> str:
    """``78.5 ± 0.4`` on val, over the tuning seeds; ``–`` for no point and for one that failed."""
    if scored is None or scored.evaluated.value is None:
        return ABSENT
    spread = "" if math.isnan(scored.std) else f" ± {number(scored.std, metric)}"
    return number(scored.mean, metric) + spread


def coordinates(one: SearchResult, scored: PointResult) -> list[str]:
    """The searched hyperparameters of a point, in the order of the axes."""
    declared = one.subject.row.method_class.hyperparameters
    return [
        short(scored.point[axis.name], declared[axis.name].log) for axis in one.subject.space.axes
    ]


def assignments(one: SearchResult, scored: PointResult) -> str:
    """``alpha=0.001, beta=0.7``."""
    names = [axis.name for axis in one.subject.space.axes]
    pairs = zip(names, coordinates(one, scored), strict=True)
    return ", ".join(f"{name}={text}" for name, text in pairs)


def marks(one: SearchResult, scored: PointResult) -> list[str]:
    """What is special about a point: the best one, the study's own one, or both."""
    return [mark for mark, other in ((BEST, one.best), (OWN, one.own)) if scored is other]
