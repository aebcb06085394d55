"""Methods x combinations: each cell over seeds, then average and worst case. Called by results.py.

A collapsed model's score counts like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.protocol.metrics import Metric


@dataclass(frozen=True)
class Summary:
    """One value over seeds, from unrounded values.

    ``mean`` is NaN without a seed, ``std`` (n - 1) is NaN with fewer than two; ``collapsed`` counts
    the seeds whose model collapsed.
    """

    mean: float
    std: float
    seeds: int
    collapsed: int


@dataclass(frozen=True)
class Comparison:
    """Methods x combinations on one split, rows in the study's order and combinations in the
    lattice's.

    ``average`` is the mean over the combinations of each trial, ``worst`` its worst combination in
    the metric's direction; both are then summarised over the ``planned`` seeds that are there.
    ``unseen`` are the combinations that no sample of the split has: they are part of neither.
    """

    metric: Metric
    labels: tuple[str, ...]
    combinations: tuple[str, ...]
    planned: int
    cells: Mapping[tuple[str, str], Summary]
    average: Mapping[str, Summary]
    worst: Mapping[str, Summary]
    unseen: tuple[str, ...] = ()

    def row(self, label: str) -> list[Summary]:
        """A row's cells, then its average and its worst."""
        return [
            *(self.cells[label, name] for name in self.combinations),
            self.average[label],
            self.worst[label],
        ]


def comparison(
    table: pd.DataFrame,
    metric: Metric,
    labels: Sequence[str],
    combinations: Sequence[str],
    planned: int,
    split: str = "test",
) -> Comparison:
    """Summaries over seeds of one split of a long table.

    ``planned`` is how many seeds each row should have.
    """
    chosen = table[(table["split"] == split) & (table["metric"] == metric.name)]
    unseen = unseen_combinations(chosen, combinations)
    cells: dict[tuple[str, str], Summary] = {}
    average, worst = {}, {}
    for label in labels:
        of_row = chosen[chosen["label"] == label]
        values = _by_seed(of_row, "value", combinations)
        flags = _by_seed(of_row, "collapsed", combinations)
        for name in combinations:
            cells[label, name] = _summary(values[name], flags[name])
        # Combinations that no sample has are no part of an average. A seed that lacks another one
        # is no part of it either, also where all seeds of the row lack it.
        whole = values.drop(columns=list(unseen)).dropna(axis=0)
        any_flag = flags.loc[whole.index].eq(True).any(axis=1)
        average[label] = _summary(whole.mean(axis=1), any_flag)
        worst_values = whole.min(axis=1) if metric.higher_is_better else whole.max(axis=1)
        worst[label] = _summary(worst_values, any_flag)
    return Comparison(
        metric=metric,
        labels=tuple(labels),
        combinations=tuple(combinations),
        planned=planned,
        cells=cells,
        average=average,
        worst=worst,
        unseen=unseen,
    )


def _by_seed(of_row: pd.DataFrame, column: str, combinations: Sequence[str]) -> pd.DataFrame:
    """One column of a row's part of the table, as seeds x combinations."""
    # Reindexed, so that a row without any finished trial has its columns too.
    found = of_row.pivot(index="seed", columns="combination", values=column)
    return found.reindex(columns=list(combinations))


def unseen_combinations(table: pd.DataFrame, combinations: Sequence[str]) -> tuple[str, ...]:
    """The combinations that finished trials were asked for, and that no sample has."""
    most = table.groupby("combination")["n"].max()
    return tuple(name for name in combinations if name in most.index and most[name] == 0)


def _summary(values: pd.Series[Any], collapsed: pd.Series[Any]) -> Summary:
    """The summary of one value per seed, and of whether the seed's model collapsed."""
    there = values.dropna().astype(float)
    # Compared, not summed as they are: where a seed is missing there is a NaN instead of a flag.
    flagged = int(collapsed.eq(True).sum())
    return Summary(float(there.mean()), float(there.std(ddof=1)), len(there), flagged)
