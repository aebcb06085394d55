"""What a metric is. Its definitions stand by task in the files beside this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
Compute = Callable[[Tensor, Tensor], float]
Influence = Callable[[Tensor, Tensor], Array]
Evidence = Literal["scores", "counts"]


class Undefined(ValueError):
    """The samples do not define the metric: a class has no sample, or no pixel has a class."""


@dataclass(frozen=True)
class Metric:
    """One number from evidence and targets: its definition, and all that others ask about it.

    Attributes:
        name: as users write it.
        task: the task that it belongs to.
        higher_is_better: its direction.
        definition: one phrase for people.
        compute: evidence and targets to the value. Evidence is (n, K) scores with (n,) targets, or
            (n, K, K) integer confusion counts of each image, rows = target, columns = prediction,
            whose targets are not read; of a regression (n, 1) predicted values with (n,) labels.
        influence: evidence and targets to (n,) float64 values, one per sample, whose mean is the
            metric and whose spread is its sampling noise; None where that is not known, and then
            no interval can be given.
        fit: of a metric with a constant that val decides: evidence and targets of val, of the same
            combination, to the metric with that constant. ``compute`` decides the constant on the
            samples that it is given.
        evidence: what it is computed from.
        unit: of its values.
        decimals: with which a value is printed; differences have one more.
    """

    name: str
    task: str
    higher_is_better: bool
    definition: str
    compute: Compute
    influence: Influence | None = None
    fit: Callable[[Tensor, Tensor], Metric] | None = None
    evidence: Evidence = "scores"
    unit: str = "%"
    decimals: int = 1

    @property
    def percent(self) -> bool:
        """Whether its differences are percentage points."""
        return self.unit == "%"

    @property
    def axis(self) -> str:
        """Its name with its unit, as an axis has it."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def fitted(self, val: tuple[Tensor, Tensor] | None) -> Metric:
        """The metric with the constant that val decides, if it has one and val is given."""
        return self if self.fit is None or val is None else self.fit(*val)

    def worst(self, values: Mapping[str, float]) -> float:
        """The worst of several values in this metric's direction."""
        return min(values.values()) if self.higher_is_better else max(values.values())


def class_wise(values: Array, target: Array, weights: Mapping[int, float]) -> Array:
    """sum_k w_k mean_k as a mean over all samples, (n,).

    The total, plus w_k N / N_k times the deviation within the own class: the influence function of
    a ratio. Undefined when a class has no sample.
    """
    members = {label: target == label for label in weights}
    if not all(member.any() for member in members.values()):
        raise Undefined("a class has no sample")
    total = sum(weight * values[members[label]].mean() for label, weight in weights.items())
    influence = np.full(len(values), total, dtype=float)
    for label, weight in weights.items():
        inside = values[members[label]]
        influence[members[label]] += weight * len(values) / len(inside) * (inside - inside.mean())
    return influence
