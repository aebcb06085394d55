"""Which row is best as far as can be told, and how sure that is."""

from __future__ import annotations

import math

from harness.analysis.findings import Findings
from harness.analysis.ranking import Ranking
from harness.analysis.statistics import Estimate
from harness.reporting.wording import interval, size, some, with_unit


def best_row(findings: Findings, found: Ranking, over: str) -> str:
    """The best row, or the rows among which it is; ``over``: the metric and what it is a mean of,
    in words.
    """
    if found.leader:
        mean = next(place.mean for place in found.places if place.label == found.leader)
        return (
            f"{found.leader} is the best of {len(found.places)} rows:"
            f" {with_unit(mean, findings.comparison.metric)} {over} (95 % confidence,"
            " each row compared with the best)."
        )
    if len(found.best) in (0, len(found.places)):
        return f"No row is best: by {over}, each of the {len(found.places)} may be."
    return (
        f"No single row is best: by {over}, the best of the {len(found.places)} rows"
        f" is {some(found.best, 'or')} (95 % confidence, each row compared with the best)."
    )


def certainty(findings: Findings, found: Ranking) -> str:
    """By how much the first two rows differ, and which difference would have been found."""
    metric = findings.comparison.metric
    first, second = found.places[0].label, found.places[1].label
    pair = next(one for one in findings.against(second, found.summary) if one.label == first)
    # Of the size that is told: an error that is lower by 0.05 differs by 0.05, not by -0.05.
    low, high = (pair.low, pair.high) if pair.value >= 0 else (-pair.high, -pair.low)
    gap = (
        f"The first two, {first} and {second}, differ by {size(pair.value, metric)} (95 % interval"
        f" {interval(low, high, metric)})"
    )
    needed = ""
    if pair.difference.better_at(pair.difference.p, found.level) is None:
        needed = f", {separation(pair.difference.estimate, found.level)}"
    count = len(found.places) - 1
    comparisons = "one comparison" if count == 1 else f"{count} comparisons"
    power = (
        f"with {_seed_count(findings)} seeds, a row that is {size(found.detectable, metric)} from"
        " the best is told from it in 80 % of such studies (median over pairs, with the correction"
        f" for {comparisons})"
    )
    reserve = f" ({findings.reserve})" if findings.reserve else ""
    return f"{gap}{needed}; {power}{reserve}."


def _seed_count(findings: Findings) -> str:
    """``5``, or ``3 to 8`` where rounds gave some rows more than others."""
    seeds, rounds = findings.seeds, findings.results.plan.rounds
    most = seeds if rounds is None else max(rounds.seeds.values())
    return f"{seeds}" if most == seeds else f"{seeds} to {most}"


def separation(estimate: Estimate, level: float) -> str:
    """What it would take to tell two rows apart at a level, if their difference is what it
    seems.
    """
    if estimate.too_few_groups:
        return "which no number of seeds would separate on test samples of so few groups"
    needed = estimate.seeds_needed(level)
    if math.isnan(needed):
        return "which one seed cannot separate"
    if math.isinf(needed):
        return "which no number of seeds would separate on this test set"
    return f"which about {needed:.0f} seeds would separate if it is the true difference"
