"""What a report says about the paper: its numbers beside ours, its claims, its figures'
measures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analysis.findings import Findings
from harness.analysis.results import Results
from harness.analysis.statistics import AVERAGE, RowSamples, estimate
from harness.paper.claims import Claim, claims
from harness.paper.published_numbers import (
    Interval,
    PublishedComparison,
    compare_with_published,
    published,
    reservations,
)
from harness.paper.representation_tables import histograms, mean_variances, representation_table
from harness.paper.representations import Array


@dataclass(frozen=True)
class PaperFindings:
    """Of one study.

    Attributes:
        published: cells of the study's published table beside the measured ones.
        reservations: what a reader of that table must know.
        measured: what was measured of representations, see ``representation_table``.
        distances: label -> histogram of distances between channels.
        claims: the paper's qualitative claims, asked of this study.
    """

    published: Sequence[PublishedComparison]
    reservations: Sequence[str]
    measured: pd.DataFrame
    distances: Mapping[str, Array]
    claims: Sequence[Claim]


def paper_findings(findings: Findings) -> PaperFindings:
    """What the paper adds to the findings of a study. Nothing is trained, and no data are read."""
    results = findings.results
    measured = representation_table(results)
    blind = next((row.blind for row in findings.robustness.values()), math.nan)
    return PaperFindings(
        published=_published(results, findings.samples, measured),
        reservations=reservations(results.plan) if results.plan.study.published_table else [],
        measured=measured,
        distances=histograms(results),
        claims=claims(results, measured, findings.differences, blind),
    )


def _published(
    results: Results, samples: Mapping[str, RowSamples], measured: pd.DataFrame
) -> list[PublishedComparison]:
    number = results.plan.study.published_table
    if number is None:
        return []
    cells = published(number, results.plan.spec.name)
    return compare_with_published(
        cells, results.comparison(), _intervals(results, samples), mean_variances(measured)
    )


def _intervals(
    results: Results, samples: Mapping[str, RowSamples]
) -> dict[tuple[str, str], Interval | None]:
    """The 95 % interval of each row's mean, by (label, combination or average)."""
    found: dict[tuple[str, str], Interval | None] = {}
    for label, row in samples.items():
        there = ~np.asarray(np.isnan(row.values).any((1, 2)))
        found[label, AVERAGE] = (
            estimate(row.values[there].mean(0), row.grouping(there)).interval()
            if there.any()
            else None
        )
        for at, combination in enumerate(results.plan.combinations):
            found[label, combination.name] = (
                estimate(row.values[at], row.grouping(np.arange(len(there)) == at)).interval()
                if there[at]
                else None
            )
    return found
