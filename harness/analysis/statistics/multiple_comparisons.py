"""Many comparisons at once: Holm's correction, groups of ties, and ranks over datasets. R rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from string import ascii_lowercase
from typing import Any

import numpy as np
from scipy import stats

from harness.analysis.statistics.intervals import SIGNIFICANCE_LEVEL


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm, 1979): the i-th smallest of m times m - i + 1, never below an
    earlier one, at most 1.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    count = len(p_values)
    ascending = sorted(range(count), key=lambda position: p_values[position])
    adjusted, largest = [0.0] * count, 0.0
    for smaller, position in enumerate(ascending):
        largest = max(largest, min(1.0, (count - smaller) * p_values[position]))
        adjusted[position] = largest
    return adjusted


def letters(order: Sequence[str], different: Collection[frozenset[str]]) -> dict[str, str]:
    """Compact letter display: two rows share a letter if and only if they are not significantly
    different.

    Insert and absorb (Piepho, 2004): start with one group of all rows; each different pair splits
    the groups that hold both; a group inside another one goes. ``order`` is best first, and so are
    the letters.

    >>> letters(["x", "y", "z"], [frozenset("xz")])
    {'x': 'a', 'y': 'ab', 'z': 'b'}
    """
    groups = [frozenset(order)]
    for pair in different:
        split: list[frozenset[str]] = []
        for group in groups:
            split += [group - {row} for row in pair] if pair <= group else [group]
        groups = [
            group for group in dict.fromkeys(split) if not any(group < other for other in split)
        ]
    place = {row: position for position, row in enumerate(order)}
    groups.sort(key=lambda group: sorted(place[row] for row in group))
    return {
        row: "".join(_letter(i) for i, group in enumerate(groups) if row in group) for row in order
    }


def _letter(position: int) -> str:
    """a ... z, then a1, b1 ..."""
    again, letter = divmod(position, len(ascii_lowercase))
    return ascii_lowercase[letter] + (str(again) if again else "")


def unpaired(rows: Sequence[str], pairs: Collection[tuple[str, str]]) -> list[str]:
    """The pairs of rows that were never compared, which is no tie.

    >>> unpaired(["x", "y", "z"], [("x", "y"), ("x", "z")])
    ['y and z']
    """
    return [
        f"{first} and {second}"
        for first, second in combinations(rows, 2)
        if (first, second) not in pairs
    ]


# ---------------------------------------------------------------------- over datasets


def datasets_needed(rows: int) -> int:
    """The fewest datasets on which an exact signed-rank test of one of all pairs can be
    significant: 2^(1-n) <= 0.05 / pairs.

    >>> datasets_needed(2), datasets_needed(3), datasets_needed(10)
    (6, 7, 11)
    """
    pairs = max(math.comb(rows, 2), 1)
    return math.ceil(1 + math.log2(pairs / SIGNIFICANCE_LEVEL))


def rank_test(values: Mapping[str, Sequence[float]]) -> dict[tuple[str, str], float] | None:
    """Wilcoxon's exact signed-rank test of all pairs of rows over datasets, Holm-adjusted p values.

    Row -> one value per dataset.

    None when there are too few datasets for any difference to be significant (``datasets_needed``
    says how many it takes). The datasets are the units: the combinations of one test set are not
    independent and must not be given as datasets.
    """
    pairs = list(combinations(values, 2))
    if not pairs:
        return None
    datasets = len(next(iter(values.values())))
    if datasets < datasets_needed(len(values)):
        return None
    found = [_signed_rank(np.subtract(values[first], values[second])) for first, second in pairs]
    return dict(zip(pairs, holm(found), strict=True))


def _signed_rank(differences: np.ndarray[Any, Any]) -> float:
    # The test leaves zeros out: nothing would be left to rank.
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, method="auto").pvalue)
