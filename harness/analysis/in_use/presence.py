"""What rows are worth where modalities are present as often as a profile says.

C combinations, S seeds. The expected metric of a row is the mean of its combinations' values,
weighted by how likely they are, given that at least one modality is present. It is a mean over the
same seeds and groups of test samples as the plain average, and is compared in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis.comparison import Comparison, Summary
from harness.analysis.ranking import Ranking, ranked
from harness.analysis.results import Results
from harness.analysis.statistics import EXPECTED, Difference, RowSamples, weighted
from harness.protocol.presence import Presence

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Expected:
    """The rows under a presence profile.

    Attributes:
        profile: what was given.
        unseen: the probability of combinations that no test sample has; values are conditional on
            the others.
        values: each row's expected metric over its seeds.
        differences: all pairs of rows.
        ranking: None where the average is not ranked either, or nothing can be said.
    """

    profile: Presence
    unseen: float
    values: Mapping[str, Summary]
    differences: Sequence[Difference]
    ranking: Ranking | None


def expected(
    results: Results, samples: Mapping[str, RowSamples], comparison: Comparison, whole: bool
) -> Expected | None:
    """The rows under the study's profile; None where it gives none.

    ``whole``: whether the table has no holes, so that rows may be ranked.
    """
    profile = results.plan.presence
    if profile is None:
        return None
    probabilities, rows = np.array(profile.probabilities), list(samples.values())
    unseen = np.zeros(len(probabilities), dtype=bool)  # (C,)
    for row in rows:
        unseen |= np.isnan(row.values).any((1, 2))
    weights = np.where(unseen, 0.0, probabilities)
    of_unseen = float(probabilities[unseen].sum())
    if not rows or not weights.any():
        return Expected(profile, of_unseen, {}, (), None)
    values = {
        label: _summary(row, weights, comparison.average[label].collapsed)
        for label, row in samples.items()
    }
    higher = results.metric.higher_is_better
    pairs = weighted(rows, weights, EXPECTED, higher, results.baseline, results.plan.share)
    ranking = None
    if whole and len(rows) > 1:
        means = {label: value.mean for label, value in values.items()}
        ranking = ranked(means, pairs, EXPECTED, higher)
    return Expected(profile, of_unseen, values, pairs, ranking)


def _summary(row: RowSamples, weights: Array, collapsed: int) -> Summary:
    # Without the others, which may be NaN: NaN times 0 is NaN.
    there = weights > 0
    cells = row.values[there].mean(2)  # the metric of each combination and seed, (C, S)
    of_seeds = np.average(cells, axis=0, weights=weights[there])
    spread = float(of_seeds.std(ddof=1)) if len(of_seeds) > 1 else float("nan")
    return Summary(float(of_seeds.mean()), spread, len(of_seeds), collapsed)
