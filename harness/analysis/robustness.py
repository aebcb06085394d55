"""How a row behaves as modalities go missing, from the table alone.

S seeds, C = 2^V - 1 combinations, V modalities.

Values are those of the primary metric, (S, C) in the order of the combinations; a combination that
no sample has is NaN, is part of no average, and leaves what needs all combinations undefined (NaN).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.analysis.evidence import Evidence, stored_evidence
from harness.analysis.results import Results
from harness.analysis.statistics import (
    Difference,
    Estimate,
    RowSamples,
    adjusted,
    difference_of,
    estimate,
    intact,
)
from harness.protocol.combinations import Combination
from harness.protocol.metrics import Metric, Undefined

__all__ = [
    "PROBABILITIES",
    "RowRobustness",
    "Step",
    "blind_value",
    "by_present",
    "expectation",
    "hurting",
    "pareto",
    "row_robustness",
    "shapley",
    "shapley_estimates",
    "steps",
]

Array = np.ndarray[Any, np.dtype[Any]]

PROBABILITIES = np.round(np.arange(0.05, 1.001, 0.05), 2)
"""Where the curve of the Bernoulli expectation is given: the probability that a modality is
present.
"""


@dataclass(frozen=True)
class Step:
    """One modality added to a combination: what is gained in the metric's unit, positive when
    better, in the mean over seeds.

    It is a violation of monotonicity when the mean gain is negative; ``hurt`` counts the seeds in
    which adding made it worse.
    """

    smaller: str
    larger: str
    modality: str
    gain: float
    hurt: int
    seeds: int

    @property
    def violation(self) -> bool:
        """Whether adding the modality hurts in the mean over seeds."""
        return self.gain < 0


@dataclass(frozen=True)
class RowRobustness:
    """One row, means over its seeds.

    ``expectation`` has a value for each of ``PROBABILITIES``; ``shapley`` one per modality.
    """

    label: str
    seeds: int
    mean: float
    worst: float
    by_present: dict[int, float]
    expectation: tuple[float, ...]
    steps: tuple[Step, ...]
    shapley: dict[str, float]
    blind: float

    @property
    def violations(self) -> list[Step]:
        """The steps that hurt in the mean over seeds, the worst first."""
        return sorted((step for step in self.steps if step.violation), key=lambda step: step.gain)

    @property
    def hurt_share(self) -> float:
        """In which share of all steps of all seeds adding a modality made it worse.

        NaN where there is no step.
        """
        taken = sum(step.seeds for step in self.steps)
        return sum(step.hurt for step in self.steps) / taken if taken else math.nan


def row_robustness(results: Results, split: str = "test") -> dict[str, RowRobustness]:
    """The view of every row with a seed for which all its trials are there, by label."""
    table, metric = results.table, results.metric
    combinations, blind = results.plan.combinations, _blind(results, split)
    names = [combination.name for combination in combinations]
    unseen = list(results.unseen(split))
    found = {}
    for row in results.plan.rows:
        chosen = table[(table["split"] == split) & (table["label"] == row.label)]
        by_seed = chosen.pivot(index="seed", columns="combination", values="value")
        values = by_seed.reindex(columns=names).astype(float)
        # Combinations that no sample has do not make a seed incomplete; a missing trial does.
        whole = values.drop(columns=unseen).dropna(axis=0).index
        if len(whole):
            of_row = values.loc[whole].to_numpy()
            found[row.label] = _view(row.label, of_row, combinations, metric, blind)
    return found


def _view(
    label: str, values: Array, combinations: Sequence[Combination], metric: Metric, blind: float
) -> RowRobustness:
    """What is said of one row, from its values (S, C)."""
    there = values[:, ~np.isnan(values).any(0)]
    worst = there.min(1) if metric.higher_is_better else there.max(1)
    mean = values.mean(0)
    return RowRobustness(
        label=label,
        seeds=len(values),
        mean=float(there.mean()),
        worst=float(worst.mean()),
        by_present=by_present(mean, combinations),
        expectation=tuple(expectation(mean, combinations, p) for p in PROBABILITIES.tolist()),
        steps=tuple(steps(values, combinations, metric.higher_is_better)),
        shapley=shapley(mean, combinations, blind),
        blind=blind,
    )


# ---------------------------------------------------------------------- from values (C,) or (S, C)


def by_present(values: Array, combinations: Sequence[Combination]) -> dict[int, float]:
    """The mean (C,) -> over the combinations of each number of present modalities."""
    sizes = np.array([combination.size for combination in combinations])
    there = ~np.isnan(values)
    return {
        int(size): float(values[there & (sizes == size)].mean()) for size in np.unique(sizes[there])
    }


def expectation(values: Array, combinations: Sequence[Combination], present: float) -> float:
    """The expected value when each modality is present with this probability, independently, given
    that at least one is.

    sum_C p^|C| (1 - p)^(V - |C|) v_C / (1 - (1 - p)^V): 1 gives the value of all modalities, and p
    -> 0 the mean over the single ones. Combinations that no sample has are conditioned away
    likewise. ValueError unless 0 < p <= 1.
    """
    if not 0 < present <= 1:
        raise ValueError(
            f"a probability of presence must be above 0 and at most 1, and it is {present}"
        )
    every = len(combinations[0].mask)  # V
    sizes = [combination.size for combination in combinations]
    weights = np.array([present**size * (1 - present) ** (every - size) for size in sizes])
    # Without weights of 0 too, so that what remains has a sum above 0 or is nothing.
    there = ~np.isnan(values) & (weights > 0)
    if not there.any():
        return math.nan
    return float(np.average(values[there], weights=weights[there]))


def steps(values: Array, combinations: Sequence[Combination], higher_is_better: bool) -> list[Step]:
    """All pairs of a combination and the one with one modality more, of values (S, C).

    Those with undefined values left out.
    """
    sign = 1.0 if higher_is_better else -1.0
    found = []
    for small, large, modality in _neighbours(combinations):
        gains = sign * (values[:, large] - values[:, small])
        if np.isnan(gains).any():
            continue
        found.append(
            Step(
                smaller=combinations[small].name,
                larger=combinations[large].name,
                modality=modality,
                gain=float(gains.mean()),
                hurt=int((gains < 0).sum()),
                seeds=len(gains),
            )
        )
    return found


def _neighbours(combinations: Sequence[Combination]) -> list[tuple[int, int, str]]:
    """Positions of a combination and of the one with one modality more, and that modality."""
    found = []
    for i, small in enumerate(combinations):
        for j, large in enumerate(combinations):
            added = [member for member in large.members if member not in small.members]
            if len(added) == 1 and large.size == small.size + 1:
                found.append((i, j, added[0]))
    return found


def shapley(values: Array, combinations: Sequence[Combination], blind: float) -> dict[str, float]:
    """The exact Shapley value of each modality (Shapley, 1953), in the metric's unit and direction,
    from values (C,).

    phi_m = sum over C without m of |C|! (V - |C| - 1)! / V! (v(C + m) - v(C)). ``blind`` is v of
    the empty set. They add up to v(all) - blind, and another ``blind`` moves all of them by the
    same amount: their order does not depend on it.
    """
    modalities = combinations[-1].members
    worth: dict[tuple[str, ...], float] = {(): blind}
    for combination, value in zip(combinations, values, strict=True):
        worth[combination.members] = float(value)
    count = len(modalities)
    weight = [
        math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
        for size in range(count)
    ]
    found = {}
    for modality in modalities:
        gains = []
        # The empty set comes last: the order of the sum decides its last digit.
        for without in [*(combination.members for combination in combinations), ()]:
            if modality in without:
                continue
            # In the dataset's order, as combinations have their members.
            joined = tuple(name for name in modalities if name in without or name == modality)
            gains.append(weight[len(without)] * (worth[joined] - worth[without]))
        found[modality] = sum(gains)
    return found


def shapley_estimates(
    row: RowSamples, combinations: Sequence[Combination], blind: float
) -> dict[str, Estimate]:
    """Each modality's Shapley value with its uncertainty over seeds and groups of test samples.

    Shapley values are weighted sums of the combinations' values, and so of each sample's; ``blind``
    is taken as known. Empty where a combination has no sample.
    """
    if np.isnan(row.values).any():
        return {}
    # They are linear: the weight of a combination is what they are where that one is worth 1 and
    # all others 0.
    weights = [shapley(unit, combinations, 0.0) for unit in np.eye(len(combinations))]
    of_blind = shapley(np.zeros(len(combinations)), combinations, blind)
    groups = row.grouping(np.ones(len(combinations), dtype=bool))
    found = {}
    for name in combinations[-1].members:
        of_samples = np.tensordot([weight[name] for weight in weights], row.values, 1)
        found[name] = estimate(of_samples + of_blind[name], groups)
    return found


def hurting(
    row: RowSamples, combinations: Sequence[Combination], higher_is_better: bool
) -> list[Difference]:
    """The steps of one row as differences larger minus smaller, with Holm's correction over the
    row's steps.
    """
    places, found = np.arange(len(combinations)), []
    for small, large, modality in _neighbours(combinations):
        # Undefined where no sample has the combination.
        if np.isnan(row.values[[small, large]]).any():
            continue
        gap = row.values[large] - row.values[small]
        groups = row.grouping(np.isin(places, [small, large]))
        larger, smaller = combinations[large].name, combinations[small].name
        of_step = estimate(gap, groups)
        found.append(difference_of(larger, smaller, f"+{modality}", of_step, higher_is_better))
    return adjusted(found)


def pareto(points: Mapping[str, tuple[float, float]], higher_is_better: bool) -> list[str]:
    """Of (cost, value) by label, those that no other one beats: none costs at most as much and is
    at least as good, and differs.

    Cheapest first.

    >>> pareto({"a": (1, 70), "b": (2, 60), "c": (3, 80)}, higher_is_better=True)
    ['a', 'c']
    """
    sign = 1 if higher_is_better else -1
    # Both to be small.
    costs = {label: (cost, -sign * value) for label, (cost, value) in points.items()}

    def beaten(own: tuple[float, float]) -> bool:
        cost, value = own
        return any(
            other != own and other[0] <= cost and other[1] <= value for other in costs.values()
        )

    front = [label for label, own in costs.items() if not beaten(own)]
    return sorted(front, key=lambda label: costs[label])


# ---------------------------------------------------------------------- from the evidence


def blind_value(metric: Metric, evidence: Evidence, split: str = "test") -> float:
    """What a model that sees nothing scores: the empty set of modalities.

    It predicts one class for everything, the most frequent one of val: accuracy then is that
    class's share of the split, ACER is 50, and the mean IoU is the class's share of the pixels over
    the number of classes there. Of a regression it predicts the median label of val; NaN for a
    metric that constants do not define.
    """
    # Segmentation: (C, N, K, K) counts of pixels; the true classes are the same in all C.
    if evidence.scores[split].dim() == 4:
        counts = evidence.scores[split][0]
        answer = int(evidence.scores["val"][0].sum((0, 2)).argmax())
        constant = torch.zeros_like(counts)
        constant[:, :, answer] = counts.sum(2)
        return metric.compute(constant, torch.empty(0))
    target, classes = evidence.splits[split].target, evidence.scores[split].shape[2]
    if target.is_floating_point():
        median = evidence.splits["val"].target.median()
        try:
            return metric.compute(median.expand(len(target), 1), target)
        except Undefined:
            return math.nan
    answer = int(torch.bincount(evidence.splits["val"].target, minlength=classes).argmax())
    scores = torch.zeros(len(target), classes)
    scores[:, answer] = 1.0
    return metric.compute(scores, target)


def _blind(results: Results, split: str) -> float:
    """The same for every trial of a dataset; NaN when no trial's evidence is intact."""
    for done in results.finished:
        if intact(results, done):
            evidence = stored_evidence(results.store.trial(done.trial.id))
            return blind_value(results.metric, evidence, split)
    return math.nan
