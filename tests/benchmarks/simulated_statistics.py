"""What the intervals cover and what the decisions find, by simulation: the tables of README.md.

    python -m tests.benchmarks.simulated_statistics [RUNS]

G groups of samples, S seeds, R rows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import stats

from harness.analysis import ranking, statistics
from harness.analysis.statistics import AVERAGE, RowSamples
from harness.analysis.statistics.groups import Groups
from harness.analysis.statistics.intervals import estimate
from harness.protocol.combinations import lattice

Array = np.ndarray[Any, np.dtype[Any]]

SIZES = ("equal", "unequal", "one half")
NOISE = {
    "groups": (0.1, 1.0, 0.5, 0.5),
    "seeds": (1.0, 0.3, 0.5, 0.5),
    "both": (0.4, 1.0, 1.0, 2.0),
    "samples": (0.02, 0.03, 1.0, 1.0),
}
"""Standard deviations of what a seed, a group, a sample, and a sample in one seed adds."""

SPREADS = ("equal", "one x 3", "one x 10", "lognormal 0.5")


def sizes(groups: int, kind: str, each: int = 12) -> Array:
    """Samples of each group: equal, lognormal (sd 1), or one group with half of all."""
    if kind == "unequal":
        places = stats.norm.ppf((np.arange(groups) + 0.5) / groups)
        return np.maximum(1, np.round(each * np.exp(places))).astype(int)
    found = np.full(groups, each)
    if kind == "one half":
        found[0] = each * (groups - 1)
    return found


def coverage(groups: int, kind: str, seeds: int, source: str, runs: int, noise: Any) -> float:
    """The percentage of 95 % intervals that hold the truth."""
    number = np.repeat(np.arange(groups), sizes(groups, kind))
    of, hits = Groups.of(number), 0
    of_seed, of_group, of_sample, rest = NOISE[source]
    for _ in range(runs):
        shared = of_group * noise.normal(size=groups)[number]
        shared += of_sample * noise.normal(size=len(number))
        values = shared + rest * noise.normal(size=(seeds, len(number)))
        if seeds > 1:
            values += of_seed * noise.normal(size=(seeds, 1))
        low, high = estimate(values, of).interval()
        hits += low <= 0 <= high
    return 100 * hits / runs


def spreads(rows: int, kind: str) -> Array:
    """The standard deviation over seeds of each row."""
    found = np.ones(rows)
    if kind.startswith("one x"):
        found[-1] = float(kind.removeprefix("one x"))
    if kind == "lognormal 0.5":
        found = np.exp(0.5 * stats.norm.ppf((np.arange(rows) + 0.5) / rows))
    return found


def decisions(true: Array, spread: Array, seeds: int, runs: int, noise: Any) -> Iterator[str]:
    """How often the first row is told from the last, or anything where all rows are equal, in %:
    among all pairs, against the baseline, as the best.
    """
    counts = np.zeros(3)
    last = f"r{len(true) - 1}"
    for _ in range(runs):
        drawn = true[:, None] + spread[:, None] * noise.normal(size=(len(true), seeds))
        rows = [
            RowSamples(f"r{i}", tuple(range(seeds)), np.repeat(x[None, :, None], 3, 2))
            for i, x in enumerate(drawn)
        ]
        found = [
            one
            for one in statistics.paired(rows, lattice("a"), True, last)
            if one.summary == AVERAGE
        ]
        asked = found
        if true.any():
            asked = [one for one in found if (one.first, one.second) == ("r0", last)]
        means = {row.label: float(row.values.mean()) for row in rows}
        leader = ranking.ranked(means, found, AVERAGE, True).leader
        counts += [
            any(one.p_adjusted < 0.05 for one in asked),
            any(one.p_baseline < 0.05 for one in asked),
            leader is not None if not true.any() else leader == "r0",
        ]
    return (f"{100 * count / runs:.0f}" for count in counts)


def main(runs: int) -> None:
    """Print both tables."""
    noise = np.random.default_rng(0)
    print("| groups | sizes | 1 seed | 3 seeds | 5 seeds |\n|---|---|---|---|---|")
    for groups in (2, 3, 4, 5, 10, 30, 200):
        for kind in SIZES:
            cells = []
            for seeds in (1, 3, 5):
                found = [coverage(groups, kind, seeds, x, runs, noise) for x in NOISE]
                cells.append(f"{min(found):.0f}–{max(found):.0f}")
            print(f"| {groups} | {kind} | {' | '.join(cells)} |", flush=True)
    print("\n| rows | seeds | spread of the rows | all pairs | baseline | best |")
    print("|---|---|---|---|---|---|")
    for rows in (3, 8, 15):
        for seeds in (3, 5):
            for kind in SPREADS:
                cells = list(decisions(np.zeros(rows), spreads(rows, kind), seeds, runs, noise))
                print(f"| {rows} | {seeds} | {kind} | {' | '.join(cells)} |", flush=True)
            true = np.zeros(rows)
            true[0] = 4.0
            cells = list(decisions(true, np.ones(rows), seeds, runs, noise))
            print(f"| {rows} | {seeds} | power, 4 sd ahead | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
