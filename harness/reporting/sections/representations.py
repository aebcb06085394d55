"""The report's sections on what trained models show beyond predictions, and on what the DMRNet
paper says of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.findings import Findings
from harness.paper.findings import PaperFindings
from harness.paper.representations import BINS, DISTANCE, SIGMA2, SPLIT, Array
from harness.reporting.document import (
    Facts,
    Figure,
    Paragraph,
    Section,
    Table,
    bullets,
    section,
    table,
)
from harness.reporting.figures import bars, curves
from harness.reporting.text import ABSENT, columns

MINED = "*"
COARSE = 50
"""Bins of the drawn histogram; a sum of neighbours among those that are kept."""


def representations(findings: Findings, paper: PaperFindings) -> Section:
    """Figure 3: variance of each combination, mined ones marked.

    Figure 1: distances between the channels of two modalities.
    """
    if paper.measured.empty:
        plan = findings.results.plan
        text = (
            f"Not measured: `python -m harness.views {plan.arguments}` does, and `views=true` lets"
            " the study do it when it has run."
        )
        return section("Representations", text)
    notes = [
        (
            f"measured on {SPLIT} with the selected weights, in evaluation mode; means ± standard"
            " deviations over seeds"
        ),
        f"{MINED} mined as hard at the end of training by most of the row's models",
        (
            "distance of m|n: 1 - G / ||G|| over the channels of m's and n's features (Eq. 14-15),"
            " mean over its entries"
        ),
    ]
    return section(
        "Representations",
        _lead(paper),
        _variance_figure(findings, paper),
        _distance_figure(paper.distances),
        _variances(findings, paper),
        _distances(paper),
        bullets(notes),
    )


def claims(findings: Findings, paper: PaperFindings) -> Section:
    """Question, answer and evidence."""
    asked = [
        Facts(f"{claim.question} {claim.answer.capitalize()}.", claim.evidence)
        for claim in paper.claims
    ]
    text = (
        "Answers from this study's own trained models and data; they say nothing about the paper's"
        " data unless these are they."
    )
    reserve = Paragraph(f"Every answer here: {findings.reserve}.") if findings.reserve else None
    return section("The paper's claims, asked here", text, reserve, *asked)


def _lead(paper: PaperFindings) -> str:
    """Between which values each view of the trained models lies."""
    names = {SIGMA2: "mean sigma^2", DISTANCE: "the mean inter-channel distance"}
    parts = []
    for view, name in names.items():
        found = paper.measured[paper.measured["view"] == view]
        means = found.groupby(["label", "of"], sort=False)["value"].mean()
        if len(means):
            parts.append(f"{name} is {means.min():.3f} to {means.max():.3f}")
    said = ", and ".join(parts)
    return f"Over the rows and what is measured of each, {said}."


# ---------------------------------------------------------------------- values


def _variances(findings: Findings, paper: PaperFindings) -> Table | None:
    names = [combination.name for combination in findings.results.plan.combinations]
    found = paper.measured[paper.measured["view"] == SIGMA2]
    rows = [
        [str(label), *_cells(group, names, True)]
        for label, group in found.groupby("label", sort=False)
    ]
    return (
        table(
            ["method", *columns(findings.results), "average"],
            rows,
            "Mean sigma^2 of each combination",
            paper=True,
        )
        if rows
        else None
    )


def _distances(paper: PaperFindings) -> Table | None:
    found = paper.measured[paper.measured["view"] == DISTANCE]
    names = list(dict.fromkeys(found["of"]))
    rows = [
        [str(label), *_cells(group, names, False)]
        for label, group in found.groupby("label", sort=False)
    ]
    caption = "Inter-channel distance between the features of two modalities"
    return table(["method", *names, "average"], rows, caption, paper=True) if rows else None


def _cells(group: pd.DataFrame, names: Sequence[str], marked: bool) -> list[str]:
    """One cell per name, then the mean over the names."""
    by_name = {str(of): cell for of, cell in group.groupby("of")}
    cells = [
        (
            _cell(by_name[name]["value"], marked and _mostly_mined(by_name[name]))
            if name in by_name
            else ABSENT
        )
        for name in names
    ]
    return [*cells, _cell(group.groupby("seed")["value"].mean())]


def _cell(values: pd.Series[Any], mined: bool = False) -> str:
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}{f' {MINED}' if mined else ''}"


def _mostly_mined(group: pd.DataFrame) -> bool:
    hard = [value for value in group["mined"] if value is not None and value == value]
    return bool(hard) and sum(map(bool, hard)) > len(hard) / 2


# ---------------------------------------------------------------------- figures


def _variance_figure(findings: Findings, paper: PaperFindings) -> Figure | None:
    names = [combination.name for combination in findings.results.plan.combinations]
    found = paper.measured[paper.measured["view"] == SIGMA2]
    groups: dict[str, list[tuple[float, bool]]] = {}
    for label, group in found.groupby("label", sort=False):
        by_name = {
            str(of): (float(cell["value"].mean()), _mostly_mined(cell))
            for of, cell in group.groupby("of")
        }
        groups[str(label)] = [by_name.get(name, (0.0, False)) for name in names]
    text = "Mean sigma^2 of each combination; hatched: mined as hard"
    return (
        Figure("variance", bars("variance", names, groups, "mean sigma^2"), text)
        if groups
        else None
    )


def _distance_figure(distances: Mapping[str, Array]) -> Figure | None:
    edges = np.linspace(0, 2, COARSE + 1)
    centres = [float(low + high) / 2 for low, high in pairwise(edges)]
    shares = {
        label: [float(s) for s in 100 * counts.reshape(COARSE, BINS // COARSE).sum(1)]
        for label, counts in distances.items()
    }
    lines = {label: (centres, share) for label, share in shares.items()}
    drawing = curves(
        "distance",
        lines,
        "inter-channel distance",
        f"share of channel pairs (%), {2 / COARSE:g} wide bins",
    )
    return (
        Figure(
            "distance",
            drawing,
            "Distribution of the inter-channel distances, all pairs of modalities",
        )
        if lines
        else None
    )
