"""Calibration error and risk-coverage area of each row, with intervals over seeds and groups of
test samples.

C combinations, S seeds, N samples. Both measures are, to first order, means of values per sample,
so that their intervals are those of every other mean. A calibration error is a sum of absolute
values besides: noise makes it larger, never smaller. By how much depends on the true gap of each
bin between confidence and accuracy, which is not known: at least by what a gap as large as the
found one would gain, and at most, for practical purposes, by what one gains that is a standard
error smaller. The interval allows for both. Simulated coverage: tests/benchmarks/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse, special

from harness.analysis.results import Finished, Results
from harness.analysis.statistics import intact
from harness.analysis.statistics.groups import Groups
from harness.analysis.statistics.intervals import Estimate, estimate
from harness.protocol.calibration import Predictions, Reliability
from harness.protocol.combinations import Combination

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Bounded:
    """A value in percent and its 95 % interval, which may lie below the value where noise alone
    makes it larger.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measures:
    """Calibration error, risk-coverage area and its excess over the best possible order."""

    calibration: Bounded
    area: Bounded
    excess: Bounded


@dataclass(frozen=True)
class RowReliability:
    """One row, means over its seeds.

    ``cells`` and ``calibration`` are by combination; ``mean`` measures over the combinations, of
    the seeds that have all. ``minus_baseline`` are the same of the row less the baseline, on the
    seeds that both have. None where no seed has all combinations.
    """

    cells: Mapping[str, Reliability]
    calibration: Mapping[str, Bounded]
    area: Mapping[str, Bounded]
    mean: Measures | None
    minus_baseline: Measures | None


def reliability(results: Results, split: str = "test") -> dict[str, RowReliability]:
    """The reliability of each row with a finished trial, by label.

    Trials whose evidence is not intact, and combinations without a sample, left out. Nothing of a
    regression, whose predictions have no confidence.
    """
    if results.plan.spec.task == "regression":
        return {}
    trials: dict[str, list[Finished]] = {}
    for done in results.finished:
        if intact(results, done):
            trials.setdefault(done.trial.row.label, []).append(done)
    known = _groups(results, trials, split)
    first = results.baseline
    baseline = _Row.of(results, trials[first], split, known) if first in trials else None
    found = {}
    for label, of_row in trials.items():
        row = baseline if label == first else _Row.of(results, of_row, split, known)
        assert row is not None
        found[label] = row.reliability(None if label == first else baseline)
    return found


def _groups(results: Results, trials: Mapping[str, Sequence[Finished]], split: str) -> Array | None:
    """The number of each sample's group, which trials of an older version did not record."""
    for done in (done for of_row in trials.values() for done in of_row):
        if done.record.get("groups"):
            arrays = results.store.trial(done.trial.id).scores()
            return np.asarray(arrays[f"{split}_groups"]).astype(int)
    return None


# ---------------------------------------------------------------------- one trial


@dataclass(frozen=True)
class _Cell:
    """One combination of one trial.

    Attributes:
        reliability: of all samples together.
        values: (3, N) whose means are calibration error, area and excess.
        gain: what noise adds to the calibration error, at least and at most.
    """

    reliability: Reliability
    values: Array
    gain: Array

    @classmethod
    def of(cls, predictions: Predictions, has: Array, groups: Groups) -> _Cell:
        """``has`` (N,) bool: the samples that the predictions are of."""
        own = np.stack(predictions.sample_values())  # (3, n), of the samples that have it
        mean = own.mean(1, keepdims=True)
        # Samples without it stand at the mean; the n others are stretched by N / n, so that means
        # over N have the uncertainty of means over n.
        values = np.repeat(mean, len(has), 1)
        values[:, has] += len(has) / own.shape[1] * (own - mean)
        gain = _gain(predictions, groups, groups.number[has])
        return cls(predictions.reliability(), values, gain)


def _gain(predictions: Predictions, groups: Groups, number: Array) -> Array:
    """What noise adds to a calibration error in percent, at least and at most: (2,).

    ``number`` is the group of each sample that the predictions are of. The error is the sum of
    absolute gaps over b bins.
    """
    total = predictions.sizes.sum()
    gaps = np.asarray(predictions.gaps.sum(0)) / total  # (b,)
    samples = np.arange(len(number))
    shape = (len(groups.share), len(number))
    member = sparse.csr_array((np.ones(len(number)), (number, samples)), shape)
    sums = (member @ predictions.gaps).tocsr() / total  # (groups, b), mostly zeros
    sizes = (member @ predictions.sizes) / total  # (groups,)
    wide = groups.widening
    # sum over groups of wide * (sums - sizes * gaps)^2, multiplied out: only sums stay sparse.
    variance = (
        wide @ sums.multiply(sums)
        - 2 * gaps * ((wide * sizes) @ sums)
        + gaps**2 * (wide * sizes**2).sum()
    )
    spread = np.sqrt(np.maximum(variance, 0))  # standard error of each gap, (b,)
    found = np.abs(gaps)
    smaller = np.maximum(found - spread, 0)
    return np.array([_folded(found, spread), _folded(smaller, spread)])


def _folded(gaps: Array, spread: Array) -> float:
    """By how much the expected absolute values of normal variables exceed those of their means
    (b,), summed, in percent (Leone et al., Technometrics 3, 1961).
    """
    ratio = np.full_like(gaps, np.inf)
    np.divide(gaps, spread, out=ratio, where=spread > 0)
    density = np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2)
    tail = special.erfc(ratio / np.sqrt(2))
    # E|X| less the mean of X ~ N(gap, spread^2), which is not below 0.
    return float(100 * (spread * density - gaps * tail).sum())


# ---------------------------------------------------------------------- one row


@dataclass(frozen=True)
class _Row:
    """The cells of a row, by seed and the combination's position, and what they rest on."""

    combinations: Sequence[Combination]
    cells: Mapping[int, Mapping[int, _Cell]]
    counted: Array
    groups: Array | None

    @classmethod
    def of(
        cls, results: Results, trials: Sequence[Finished], split: str, known: Array | None
    ) -> _Row:
        combinations = results.plan.combinations
        masks = torch.tensor([combination.mask for combination in combinations])
        cells: dict[int, dict[int, _Cell]] = {}
        row = None
        for done in trials:
            stored = results.store.trial(done.trial.id).scores()
            arrays = {name: torch.from_numpy(array) for name, array in stored.items()}
            if row is None:
                # The same samples in every trial: which they have is read from the first.
                available = arrays[f"{split}_available"]
                counted = torch.stack([available[:, mask].all(1) for mask in masks])
                row = cls(combinations, cells, counted.numpy(), known)
            of_seed = cells.setdefault(done.trial.seed, {})
            for at, combination in enumerate(combinations):
                # A trial of one combination alone has no cell of the others.
                if row.counted[at].any() and done.trial.only in (None, combination.name):
                    of_seed[at] = row.cell(arrays, at, split)
        assert row is not None
        return row

    def cell(self, arrays: Mapping[str, torch.Tensor], at: int, split: str) -> _Cell:
        has = torch.from_numpy(self.counted[at])
        if f"{split}_calibration" in arrays:
            histograms = arrays[f"{split}_calibration"][at][has].numpy()
            predictions = Predictions.of_histograms(histograms)
        else:
            predictions = Predictions.of_scores(
                arrays[split][at][has], arrays[f"{split}_target"][has]
            )
        return _Cell.of(predictions, self.counted[at], self.resting_on([at]))

    def resting_on(self, positions: Sequence[int]) -> Groups:
        """The groups that a mean over some combinations rests on."""
        return Groups.resting_on(self.counted[list(positions)], self.groups)

    @property
    def there(self) -> list[int]:
        """The combinations that some sample has."""
        return np.flatnonzero(self.counted.any(1)).tolist()

    @cached_property
    def means(self) -> dict[int, tuple[Array, Array]]:
        """Values (3, N) and gains (2,) in the mean over the combinations, of each seed that has
        all of them.
        """
        found = {}
        for seed, cells in self.cells.items():
            if len(cells) == len(self.there):
                values = np.mean([cells[at].values for at in self.there], 0)
                gain = np.mean([cells[at].gain for at in self.there], 0)
                found[seed] = values, gain
        return found

    def reliability(self, baseline: _Row | None) -> RowReliability:
        by_name, calibration, area = {}, {}, {}
        for at in self.there:
            cells = [of_seed[at] for of_seed in self.cells.values() if at in of_seed]
            if cells:
                name, groups = self.combinations[at].name, self.resting_on([at])
                by_name[name] = _mean([cell.reliability for cell in cells])
                values = np.stack([cell.values for cell in cells], 1)  # (3, S, N)
                gain = np.mean([cell.gain for cell in cells], 0)
                calibration[name] = _calibration(values[0], gain, groups)
                area[name] = _bounded(estimate(values[1], groups))
        own, groups = self.means, self.resting_on(self.there)
        others = {} if baseline is None else baseline.means
        gaps = [_less(own[seed], others[seed]) for seed in own if seed in others]
        return RowReliability(
            cells=by_name,
            calibration=calibration,
            area=area,
            mean=_measures(list(own.values()), groups) if own else None,
            minus_baseline=_measures(gaps, groups, least=-100.0) if gaps else None,
        )


def _less(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    """A difference: it gains least where the first gains least and the second most."""
    return first[0] - second[0], first[1] - second[1][::-1]


def _measures(
    of_seeds: Sequence[tuple[Array, Array]], groups: Groups, least: float = 0.0
) -> Measures:
    """``least``: what the measures can be at least."""
    values = np.stack([values for values, _ in of_seeds], 1)  # (3, S, N)
    gain = np.mean([gain for _, gain in of_seeds], 0)
    return Measures(
        calibration=_calibration(values[0], gain, groups, least),
        area=_bounded(estimate(values[1], groups), least),
        excess=_bounded(estimate(values[2], groups), least),
    )


def _calibration(values: Array, gain: Array, groups: Groups, least: float = 0.0) -> Bounded:
    """From values (S, N) and what noise adds to their mean, at least and at most."""
    found = estimate(values, groups)
    least_gain, most_gain = gain.tolist()
    # The interval of a value that noise made larger lies lower: its ends are those of both cases.
    low = _bounded(replace(found, bias=most_gain), least).low
    high = _bounded(replace(found, bias=least_gain), least).high
    return Bounded(found.value, low, high)


def _bounded(found: Estimate, least: float = 0.0) -> Bounded:
    low, high = found.interval()
    return Bounded(found.value, max(low, least), min(max(high, least), 100.0))


def _mean(ones: Sequence[Reliability]) -> Reliability:
    table = np.array([[one.calibration_error, one.aurc, one.excess, *one.risk] for one in ones])
    mean = table.mean(0).tolist()
    return Reliability(mean[0], mean[1], mean[2], tuple(mean[3:]))
