"""From evidence to values: the metric of each combination, over the samples that have it.

Training calls it on val, evaluation on the selected weights, analysis again on what is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.errors import TrialFailure
from harness.protocol.combinations import Combination
from harness.protocol.metrics import Metric, Undefined, collapsed


class Labelled(Protocol):
    """What of a split values depend on: targets, and which modalities each sample has."""

    @property
    def target(self) -> Tensor:
        """(N,) classes, or label maps, which are not read here."""

    @property
    def available(self) -> Tensor:
        """(N, V) bool."""


@dataclass(frozen=True)
class Cell:
    """One metric of one combination: its value, on how many samples, and whether one class, or one
    number, was predicted for all of them.
    """

    value: float
    n: int
    collapsed: bool


def score_cells(
    metric: Metric,
    scores: Tensor,
    split: Labelled,
    combinations: Sequence[Combination],
    val: tuple[Tensor, Labelled] | None = None,
    strict: bool = True,
) -> dict[str, Cell]:
    """The metric of each combination over the samples that have all its modalities.

    Combination name -> cell.

    Args:
        metric: what is computed.
        scores: the evidence.
        split: its targets and what each sample has; inputs are not read.
        combinations: in the order of the evidence.
        val: evidence and split of val, which decide the constant of a metric that has one
            (``Metric.fit``).
        strict: raise TrialFailure where the samples do not define the metric; the cell's value is
            NaN otherwise.
    """
    cells = {}
    for position, combination in enumerate(combinations):
        chosen, target = _having(metric, combination, scores[position], split)
        tuning = None
        if val is not None:
            tuning = _having(metric, combination, val[0][position], val[1])
        try:
            value = _value(metric, chosen, target, tuning)
        except Undefined as error:
            if strict:
                raise TrialFailure(
                    f"{metric.name} is not defined for {combination.name}: {error}"
                ) from error
            value = float("nan")
        cells[combination.name] = Cell(value, len(chosen), collapsed(chosen))
    return cells


def _having(
    metric: Metric, combination: Combination, scores: Tensor, split: Labelled
) -> tuple[Tensor, Tensor]:
    """Evidence and targets of the samples that have all modalities of a combination.

    Confusion counts hold their targets already: none are handed on with them.
    """
    has = split.available[:, torch.tensor(combination.mask)].all(1)
    target = split.target.cpu()[has] if metric.evidence == "scores" else torch.empty(0)
    return scores[has], target


def _value(
    metric: Metric, scores: Tensor, target: Tensor, tuning: tuple[Tensor, Tensor] | None
) -> float:
    if not len(scores):
        return float("nan")
    return metric.fitted(tuning).compute(scores, target)


def mean_value(cells: Mapping[str, Cell]) -> float:
    """Plain mean over the combinations that a sample has, from unrounded values."""
    values = [cell.value for cell in cells.values() if cell.n]
    return sum(values) / len(values)


def as_json(cells: Mapping[str, Cell]) -> dict[str, dict[str, Any]]:
    """The cells as plain data; the value of a combination that no sample has is None."""
    return {
        name: asdict(cell) | ({} if cell.n else {"value": None}) for name, cell in cells.items()
    }
