"""The answer in a few sentences, from the statistics; it says what cannot be said, too."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.findings import Findings, RowDifference
from harness.analysis.ranking import Ranking
from harness.analysis.statistics import AVERAGE, WORST
from harness.reporting.answer.best import best_row, certainty
from harness.reporting.answer.presence_profile import in_use
from harness.reporting.answer.seed_rounds import in_rounds
from harness.reporting.text import number
from harness.reporting.wording import some, with_unit

NAMED = 3
"""Findings beside the average that the answer names."""


def answer(findings: Findings) -> tuple[str, ...]:
    """Which row is best as far as can be told, how sure that is, and where else rows are told
    apart: under the presence profile where one is given, then on average.
    """
    return *in_use(findings), *_on_average(findings), *in_rounds(findings)


def _on_average(findings: Findings) -> tuple[str, ...]:
    """What may be said with each combination as likely as any other.

    The cases in which nothing can be claimed come first: no ranking yet, one row, one seed, too few
    groups of test samples.
    """
    results, ranked = findings.results, findings.ranked
    if AVERAGE not in findings.rankings:
        there = f"{len(results.finished)} of {results.plan.size} trials are finished"
        return (
            f"No ranking: {findings.unranked}.",
            f"{there}; the numbers below are preliminary until the table is whole.",
        )
    if len(ranked) < 2:
        return _alone(findings, ranked)
    found = findings.rankings[AVERAGE]
    if findings.seeds == 1:
        return _one_seed(findings, found)
    if findings.dependence.too_few:
        return _too_few_groups(findings, found)
    first = best_row(findings, found, _average(findings))
    return first, certainty(findings, found), *_elsewhere(findings)


# ---------------------------------------------------------------------- where nothing is claimed


def _alone(findings: Findings, ranked: Sequence[str]) -> tuple[str, str]:
    """What is said of one row, or of reference rows alone."""
    if not ranked:
        return (
            "There is nothing to rank: every row is a reference with one model per combination.",
            "The table has their values.",
        )
    label, comparison = ranked[0], findings.comparison
    average = with_unit(comparison.average[label].mean, comparison.metric)
    worst = with_unit(comparison.worst[label].mean, comparison.metric)
    text = f"{label} has {average} {_average(findings)}, {worst} in its worst combination."
    return text, "One row alone is no comparison: nothing can be ranked."


def _one_seed(findings: Findings, found: Ranking) -> tuple[str, str]:
    """What one seed says: only how much the choice of test samples matters."""
    seeds, metric = findings.results.plan.study.seeds, findings.comparison.metric
    top = found.places[0]
    given = f"seed {seeds[0]}" if len(seeds) == 1 else "one seed in common"
    others = [one.label for one in findings.against(top.label) if not one.verdict]
    extreme = "highest" if metric.higher_is_better else "lowest"
    told = "better than every other row on these test samples"
    if others:
        told = f"not told apart from {some(others, 'or')} on these test samples"
    return (
        (
            f"With {given}, {top.label} has the {extreme} {_average(findings)}"
            f" ({with_unit(top.mean, metric)}), {told}."
        ),
        (
            "One seed says nothing about other seeds: whether a method is better than another"
            " cannot be said here, only how much the choice of test samples matters; 3 seeds or"
            " more would tell."
        ),
    )


def _too_few_groups(findings: Findings, found: Ranking) -> tuple[str, str]:
    """Why nothing is claimed about other groups, and what was seen on these."""
    of, top, metric = findings.dependence, found.places[0], findings.comparison.metric
    extreme = "highest" if metric.higher_is_better else "lowest"
    return (
        (
            f"Nothing can be claimed about the rows: the {of.samples} test samples come from"
            f" {of.groups} {of.are}, which are too few, or one of which has nearly all samples, to"
            " say anything about others."
        ),
        (
            f"On these samples {top.label} has the {extreme} {_average(findings)}"
            f" ({with_unit(top.mean, metric)})."
        ),
    )


# ---------------------------------------------------------------------- parts of sentences


def _average(findings: Findings) -> str:
    """The metric, and over how many combinations it is averaged."""
    count, unseen = len(findings.results.plan.combinations), findings.comparison.unseen
    over = f"{findings.comparison.metric.name} averaged over the"
    if unseen:
        return (
            f"{over} {count - len(unseen)} of {count} combinations that test samples have,"
            f" without {some(unseen)}"
        )
    return f"{over} {count} combinations"


def _elsewhere(findings: Findings) -> list[str]:
    """Where rows are told from the baseline although their averages are not."""
    found, other = findings.elsewhere(), findings.baseline
    if not found or other is None:
        return []
    parts = [_told_elsewhere(findings, one) for one in found[:NAMED]]
    if len(found) > NAMED:
        parts.append(f"{len(found) - NAMED} more under Differences")
    return [
        f"Where the average tells nothing from the baseline {other}: {'; '.join(parts)}"
        " (5 % over all of them, Holm's and Bonferroni's corrections)."
    ]


def _told_elsewhere(findings: Findings, one: RowDifference) -> str:
    """Where one row is told from the baseline, with both values."""
    metric, summary = findings.comparison.metric, one.difference.summary
    where = "in the worst case" if summary == WORST else f"with {summary}"
    own, others = (
        number(findings.value(label, summary), metric) for label in (one.label, one.other)
    )
    return f"{one.label} is {one.verdict} {where} ({own} against {others})"
