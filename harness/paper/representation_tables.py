"""Stored measurements of representations as tables: no data and no models are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.analysis.comparison import Summary
from harness.analysis.results import Finished, Results
from harness.paper.published_numbers import AVERAGE
from harness.paper.representations import (
    DISTANCE,
    SIGMA2,
    Array,
    finished_models,
    stored_statistics,
)
from harness.store import Json

COLUMNS = ("label", "seed", "trial_id", "view", "of", "value", "mined", "mined_variance")


def mined(history: Sequence[Json]) -> dict[str, tuple[bool, float]]:
    """Combination key (``a.b``) -> whether it was hard at the end, and its variance d_j (Eq. 10)
    when hard ones were mined.

    NaN for a combination that was not seen before; empty for methods that do not mine.
    """
    last = history[-1]["values"] if history else {}
    prefix = "method/hard/"
    keys = [name.removeprefix(prefix) for name in last if name.startswith(prefix)]
    return {
        key: (bool(last[f"{prefix}{key}"]), float(last.get(f"method/sigma2/{key}", "nan")))
        for key in keys
    }


def representation_table(results: Results) -> pd.DataFrame:
    """One line per trial, view and combination or pair, from what is stored, with the columns
    ``COLUMNS``; no data needed.
    """
    lines: list[tuple[object, ...]] = []
    for done in finished_models(results):
        lines += _lines(results, done)
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _lines(results: Results, done: Finished) -> list[tuple[object, ...]]:
    trial = results.store.trial(done.trial.id)
    statistics = stored_statistics(trial, done.record)
    if statistics is None:
        return []
    mining = mined(trial.history())
    who = (done.trial.row.label, done.trial.seed, done.trial.id)
    lines: list[tuple[object, ...]] = []
    for combination, value in statistics.variance.items():
        hard, variance = mining.get(combination.replace("+", "."), (None, None))
        lines.append((*who, SIGMA2, combination, value, hard, variance))
    for pair, value in statistics.distance.items():
        lines.append((*who, DISTANCE, pair, value, None, None))
    return lines


def histograms(results: Results) -> dict[str, Array]:
    """Label -> share of the inter-channel distances in each of ``BINS`` bins over [0, 2] (Figure
    1), of all pairs and seeds.
    """
    sums: dict[str, Array] = {}
    for done in finished_models(results):
        statistics = stored_statistics(results.store.trial(done.trial.id), done.record)
        if statistics is None:
            continue
        label = done.trial.row.label
        for counts in statistics.histogram.values():
            sums[label] = sums.get(label, 0) + counts
    return {label: counts / counts.sum() for label, counts in sums.items()}


def mean_variances(table: pd.DataFrame) -> dict[tuple[str, str, str], Summary]:
    """Mean sigma^2 over seeds, by (``sigma2``, label, combination or ``average``).

    From ``representation_table``; one published table has such values.
    """
    chosen = table[table["view"] == SIGMA2]
    cells = {
        (str(label), str(of)): group
        for (label, of), group in chosen.groupby(["label", "of"])["value"]
    }
    average = {
        str(label): group.groupby("seed")["value"].mean()
        for label, group in chosen.groupby("label")
    }
    found = {(SIGMA2, label, of): _summary(values) for (label, of), values in cells.items()}
    return found | {(SIGMA2, label, AVERAGE): _summary(values) for label, values in average.items()}


def _summary(values: pd.Series[Any]) -> Summary:
    return Summary(float(values.mean()), float(values.std(ddof=1)), len(values), 0)
