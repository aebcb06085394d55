"""The answer in a few sentences, from the statistics; it says what cannot be said, too."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.analysis.findings import Findings, RowDifference
from harness.analysis.in_use.presence import Expected
from harness.analysis.ranking import Ranking
from harness.analysis.statistics import AVERAGE, WORST, Difference
from harness.protocol.metrics import Metric
from harness.protocol.presence import Presence
from harness.reporting.sections.origins import mixtures
from harness.reporting.text import ABSENT, number
from harness.study.seed_rounds import (
    ABOVE,
    BUDGET,
    CANNOT,
    CLOSED,
    MOST,
    OPEN,
    WITHIN,
    Look,
    Rounds,
)

NAMED = 3
"""Findings beside the average that the answer names."""

MANY = 5
"""Names above which a sentence counts them."""


def answer(findings: Findings) -> tuple[str, ...]:
    """Which row is best as far as can be told, how sure that is, and where else rows are told
    apart: under the presence profile where one is given, then on average.
    """
    return *_in_use(findings), *_on_average(findings), *_in_rounds(findings)


def _on_average(findings: Findings) -> tuple[str, ...]:
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
    first = _best(findings, found, _average(findings))
    return first, _certainty(findings, found), *_elsewhere(findings)


def caveats(findings: Findings, problems: Sequence[str] = ()) -> list[str]:
    """What a reader must know before believing the answer."""
    results, found = findings.results, findings.rankings.get(AVERAGE)
    synthetic = "the data are synthetic: nothing here says anything about real recordings"
    collapsed = [
        label
        for label in findings.comparison.labels
        if findings.comparison.average[label].collapsed
    ]
    stale = sum(done.status == "stale" for done in results.finished)
    notes = [
        *([synthetic] if results.plan.spec.synthetic else []),
        *(
            [
                f"planned trials that are not there: {len(results.holes)} of {results.plan.size}"
                " (Holes)"
            ]
            if results.holes
            else []
        ),
        *([f"damaged trials: {len(problems)} (Damaged trials)"] if problems else []),
        *([f"a model of {listed(collapsed)} collapsed (Collapsed models)"] if collapsed else []),
        *(
            [f"trials made by another version of the code: {stale} of {len(results.finished)}"]
            if stale
            else []
        ),
        *dependence_notes(findings),
        *(f"{line} (Versions and hardware)" for line in mixtures(results)),
        *(found.notes if found is not None else []),
    ]
    return list(dict.fromkeys(notes))


def dependence_notes(findings: Findings) -> list[str]:
    """What must be said of test samples that belong together, or may do so."""
    of = findings.dependence
    if of.groups is None:
        return [
            f"groups of the {of.samples} test samples not recorded: intervals take them as"
            " independent, and may be too narrow"
        ]
    if of.groups == of.samples:
        return []
    said = f"{of.samples} test samples in {of.groups} {of.are}: intervals and ties are of {of.are}"
    if of.effects:
        said += (
            f"; the variance of a difference is {of.effect:.1f} times what it would be if samples"
            f" were independent (design effect, median over {len(of.effects)} pairs, at most"
            f" {max(of.effects):.1f})"
        )
    notes = [said]
    if of.also_in_train:
        notes.append(
            f"{of.also_in_train} of the {of.groups} {of.are} of test are in train too: nothing here"
            f" is about new {of.are}"
        )
    return notes


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names as a sentence has them.

    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def some(names: Sequence[str], last: str = "and") -> str:
    """The same, the fourth and later ones counted where there are many.

    >>> some(["a", "b", "c", "d", "e", "f"], "or")
    'a, b, c or 3 others'
    """
    return listed(names if len(names) <= MANY else [*names[:3], f"{len(names) - 3} others"], last)


def with_unit(value: float, metric: Metric) -> str:
    """A value with its unit where it has one.

    >>> from dataclasses import replace
    >>> from harness.protocol.metrics import METRICS
    >>> with_unit(78.46, METRICS["accuracy"]), with_unit(3.2, replace(METRICS["acer"], unit="px"))
    ('78.5 %', '3.2 px')
    """
    return f"{number(value, metric)} {metric.unit}".rstrip()


def size(value: float, metric: Metric) -> str:
    """The size of a difference, one digit more than values have."""
    if not math.isfinite(value):
        return ABSENT
    return f"{abs(value):.{metric.decimals + 1}f}"


def signed(value: float, metric: Metric) -> str:
    """A difference with its sign; zero has none.

    >>> from harness.protocol.metrics import METRICS
    >>> [signed(value, METRICS["accuracy"]) for value in (-0.456, 0.456, 0.001)]
    ['−0.46', '+0.46', '0.00']
    """
    if math.isinf(value):
        return "+∞" if value > 0 else "−∞"
    text = size(value, metric)
    if math.isnan(value) or float(text) == 0:
        return text
    return f"{'−' if value < 0 else '+'}{text}"


def interval(low: float, high: float, metric: Metric) -> str:
    """``−0.21 to +0.80``."""
    return f"{signed(low, metric)} to {signed(high, metric)}"


def _average(findings: Findings) -> str:
    count, unseen = len(findings.results.plan.combinations), findings.comparison.unseen
    over = f"{findings.comparison.metric.name} averaged over the"
    if unseen:
        return (
            f"{over} {count - len(unseen)} of {count} combinations that test samples have,"
            f" without {some(unseen)}"
        )
    return f"{over} {count} combinations"


def _alone(findings: Findings, ranked: Sequence[str]) -> tuple[str, str]:
    if not ranked:
        return (
            "There is nothing to rank: every row is a reference with one model per combination.",
            "The table has their values.",
        )
    label, metric, comparison = ranked[0], findings.comparison.metric, findings.comparison
    values = comparison.average[label].mean, comparison.worst[label].mean
    text = (
        f"{label} has {with_unit(values[0], metric)} {_average(findings)},"
        f" {with_unit(values[1], metric)} in its worst combination."
    )
    return text, "One row alone is no comparison: nothing can be ranked."


def _one_seed(findings: Findings, found: Ranking) -> tuple[str, str]:
    seeds, metric, top = (
        findings.results.plan.study.seeds,
        findings.comparison.metric,
        found.places[0],
    )
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


def _in_use(findings: Findings) -> list[str]:
    """What may be said under the presence profile; nothing without one."""
    of = findings.expected
    if of is None:
        return []
    if not of.values:
        return [
            f"Nothing can be said under {profile_text(of.profile)}: no test sample has any of its"
            " combinations."
        ]
    metric = findings.comparison.metric
    over = f"{metric.name} expected under {profile_text(of.profile)}"
    last = [f"{_but_for(of)} With each combination as likely as any other:".lstrip()]
    sign = 1 if metric.higher_is_better else -1
    top = max(of.values, key=lambda label: sign * of.values[label].mean)
    value = f"{top} has {with_unit(of.values[top].mean, metric)} {over}"
    if of.ranking is None:
        return [f"{value}; nothing is ranked.", *last]
    if findings.seeds == 1 or findings.dependence.too_few:
        extreme = "highest" if metric.higher_is_better else "lowest"
        return [f"{value}, the {extreme} of {len(of.values)} rows.", *last]
    return [_best(findings, of.ranking, over), _certainty(findings, of.ranking), *last]


def profile_text(profile: Presence) -> str:
    """A presence profile in words.

    >>> from harness.protocol.presence import independent
    >>> profile_text(independent({"a": 0.99, "b": 0.8}))
    'the presence profile (a 99 %, b 80 % of the time, independently)'
    """
    chances = ", ".join(f"{name} {percent(p)}" for name, p in profile.chances.items())
    together = "independently" if profile.independent else "together as given"
    return f"the presence profile ({chances} of the time, {together})"


def percent(probability: float) -> str:
    """``99.5 %``."""
    return f"{100 * probability:.3g} %"


def _but_for(of: Expected) -> str:
    parts = left_out(of)
    return f"Left out: {'; '.join(parts)}." if parts else ""


def left_out(of: Expected) -> list[str]:
    """What of a profile the expected values leave out, in parts of a sentence."""
    parts = []
    if of.profile.nothing > 0:
        parts.append(
            f"nothing at all is present {percent(of.profile.nothing)} of the time, which counts for"
            " no row"
        )
    if of.unseen > 0:
        parts.append(
            f"{percent(of.unseen)} of the profile are combinations that no test sample has"
        )
    return parts


def _best(findings: Findings, found: Ranking, over: str) -> str:
    return (_leader if found.leader else _tie)(findings, found, over)


def _leader(findings: Findings, found: Ranking, over: str) -> str:
    mean = next(place.mean for place in found.places if place.label == found.leader)
    return (
        f"{found.leader} is the best of {len(found.places)} rows:"
        f" {with_unit(mean, findings.comparison.metric)} {over} (95 % confidence,"
        " each row compared with the best)."
    )


def _tie(findings: Findings, found: Ranking, over: str) -> str:
    if len(found.best) in (0, len(found.places)):
        return f"No row is best: by {over}, each of the {len(found.places)} may be."
    return (
        f"No single row is best: by {over}, the best of the {len(found.places)} rows"
        f" is {some(found.best, 'or')} (95 % confidence, each row compared with the best)."
    )


def _in_rounds(findings: Findings) -> list[str]:
    """What rounds of seeds have answered, once one has looked; nothing for a list of seeds."""
    of, metric = findings.results.plan.rounds, findings.comparison.metric
    if of is None or not of.looks or not of.ending or not of.looks[-1].questions:
        return []
    look, trials = of.looks[-1], findings.results.plan
    matters = points(of.settings.difference, metric)
    said = {
        ABOVE: f"{{}} worse than {look.best} by at least {matters}",
        WITHIN: f"{{}} no more than {matters} from {look.best}",
        OPEN: f"it is open whether {{}} at least {matters} behind {look.best}",
    }
    parts = [
        sentence.format(f"{some(labels)} {'is' if len(labels) == 1 else 'are'}")
        for state, sentence in said.items()
        if (labels := look.labels(state))
    ]
    return [
        f"Seeds came in rounds: look {len(of.looks)} of at most {len(of.settings.targets)} was the"
        f" last ({ending(of)}; {trials.size} trials of at most {trials.most_trials})"
        f"{': ' if parts else ''}{'; '.join(parts)}.",
        *_undecidable(findings, look, matters),
    ]


def _undecidable(findings: Findings, look: Look, matters: str) -> list[str]:
    """Which questions no number of seeds would close, and by how much the test set is short."""
    asked = [one for one in look.questions if one.state == CANNOT]
    if not asked:
        return []
    labels, of = [one.label for one in asked], findings.dependence
    grouped = of.groups is not None and of.groups < of.samples
    are, count = (of.are, of.groups) if grouped else ("samples", of.samples)
    short = [one.short for one in asked if one.short is not None]
    lacks = "no larger one would do either with so many seeds"
    if len(short) == len(asked):
        lacks = f"it has {count} {are}, and about {max(short)} more would do"
    return [
        f"Whether {some(labels, 'or')} {'is' if len(labels) == 1 else 'are'} at least {matters}"
        f" behind {look.best} {CANNOT}, with any number of seeds: {lacks} if the differences are"
        " what they seem."
    ]


def ending(of: Rounds) -> str:
    """Why there is no further round, in a part of a sentence."""
    return {
        CLOSED: "every question is closed",
        CANNOT: "more seeds would not close what is open",
        MOST: f"rows in question have all {of.settings.most} seeds",
        BUDGET: f"the budget of {of.settings.budget} trials is used",
        "": "they go on",
    }[of.ending]


def points(difference: float, metric: Metric) -> str:
    """A difference of values as a user gave it.

    >>> from harness.protocol.metrics import METRICS
    >>> points(1.0, METRICS["accuracy"])
    '1 point'
    """
    if not metric.percent:
        return f"{difference:g} {metric.unit}".rstrip()
    return f"{difference:g} {'point' if difference == 1 else 'points'}"


def _too_few_groups(findings: Findings, found: Ranking) -> tuple[str, str]:
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
    metric, summary = findings.comparison.metric, one.difference.summary
    where = "in the worst case" if summary == WORST else f"with {summary}"
    own, others = (
        number(findings.value(label, summary), metric) for label in (one.label, one.other)
    )
    return f"{one.label} is {one.verdict} {where} ({own} against {others})"


def _certainty(findings: Findings, found: Ranking) -> str:
    metric, seeds = findings.comparison.metric, findings.seeds
    first, second = found.places[0].label, found.places[1].label
    pair = next(one for one in findings.against(second, found.summary) if one.label == first)
    span = interval(pair.low, pair.high, metric)
    gap = (
        f"The first two, {first} and {second}, differ by {size(pair.value, metric)} (95 % interval"
        f" {span})"
    )
    needed = (
        ""
        if pair.difference.significant
        else f", {separation(pair.difference, pair.difference.estimate.seeds)}"
    )
    rounds = findings.results.plan.rounds
    most = seeds if rounds is None else max(rounds.seeds.values())
    count = f"{seeds}" if most == seeds else f"{seeds} to {most}"
    power = (
        f"with {count} seeds, a row that is {size(found.detectable, metric)} from the best is told"
        " from it in 80 % of such studies (median over pairs, with the correction for"
        f" {len(found.places) - 1} comparisons)"
    )
    return f"{gap}{needed}; {power}{f' ({findings.reserve})' if findings.reserve else ''}."


def separation(difference: Difference, seeds: int) -> str:
    """What it would take to tell two rows apart, if their difference is what it seems."""
    needed = difference.seeds_needed
    if math.isnan(needed):
        return "which one seed cannot separate"
    if math.isinf(needed):
        return "which no number of seeds would separate on this test set"
    if needed <= seeds:
        return "which only the correction for many pairs keeps from being significant"
    return f"which about {needed:.0f} seeds would separate if it is the true difference"
