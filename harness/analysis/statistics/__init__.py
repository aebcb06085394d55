"""What may be claimed: paired differences of rows with their uncertainty, from the store alone.

Every pair of rows is compared on the same seeds and the same test samples, averaged over the
combinations, on each combination, and on each trial's worst combination. Combinations of one test
set are not independent data sets: none of them counts as one.

From evidence to claims: influence.py (values per sample), samples.py (a row's values), groups.py
(samples that belong together), intervals.py and bootstrap.py (an estimate of one pair),
decisions.py (the variance over seeds from all rows), difference.py and pairs.py (all pairs),
multiple_comparisons.py (what many comparisons cost).
"""

from __future__ import annotations

from harness.analysis.statistics.difference import (
    AVERAGE,
    EXPECTED,
    TOO_FEW_GROUPS,
    WORST,
    Difference,
    adjusted,
    difference_of,
    present,
)
from harness.analysis.statistics.influence import sample_values
from harness.analysis.statistics.intervals import (
    SIGNIFICANCE_LEVEL,
    Calibration,
    Estimate,
    calibration,
    coverage,
    estimate,
)
from harness.analysis.statistics.multiple_comparisons import datasets_needed, holm, rank_test
from harness.analysis.statistics.pairs import averaged, differences, paired, weighted
from harness.analysis.statistics.samples import RowSamples, intact, row_samples

__all__ = [
    "AVERAGE",
    "EXPECTED",
    "SIGNIFICANCE_LEVEL",
    "TOO_FEW_GROUPS",
    "WORST",
    "Calibration",
    "Difference",
    "Estimate",
    "RowSamples",
    "adjusted",
    "averaged",
    "calibration",
    "coverage",
    "datasets_needed",
    "difference_of",
    "differences",
    "estimate",
    "holm",
    "intact",
    "paired",
    "present",
    "rank_test",
    "row_samples",
    "sample_values",
    "weighted",
]
