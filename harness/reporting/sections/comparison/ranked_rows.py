"""The report's section on the ranking: places with their ties, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.findings import Findings
from harness.analysis.ranking import Place, Ranking
from harness.analysis.statistics import AVERAGE, WORST
from harness.reporting.document import Section, Strong, bullets, section, table
from harness.reporting.sections.comparison.pairs import forest_figure
from harness.reporting.text import marked, number, shown
from harness.reporting.wording import MANY, listed, size


def ranking(findings: Findings) -> Section:
    """Rows by average with tie groups, and what they are worth.

    Why not, where nothing is ranked.
    """
    if AVERAGE not in findings.rankings:
        return section("Ranking", f"Not ranked: {findings.unranked}.")
    by_worst = {place.label: place for place in findings.rankings[WORST].places}
    header = [
        "method",
        "rank",
        "average",
        "ties",
        "worst case",
        "ties of the worst case",
        "rank by the worst case",
    ]
    places = findings.rankings[AVERAGE].places
    rows = [_place(findings, place, by_worst[place.label]) for place in places]
    caption = f"Ranking by {findings.comparison.metric.name} averaged over the combinations"
    return section(
        "Ranking",
        _lead(findings, places),
        None if findings.best is None else forest_figure("ranking", findings, findings.best),
        table(header, rows, caption, paper=True),
        bullets(ranking_notes(findings)),
    )


def _lead(findings: Findings, places: Sequence[Place]) -> str:
    """The first row, and those that are tied with it."""
    first, *others = places
    value = f"{number(first.mean, findings.comparison.metric)} on average"
    if not others:
        return f"{first.label} is the only row that is ranked, with {value}."
    tied = [one.label for one in others if set(one.letters) & set(first.letters)]
    if not tied:
        return f"{first.label} comes first with {value}, and every other row is told apart from it."
    said = f"{listed(tied)} are"
    if len(tied) == 1:
        said = f"{tied[0]} is"
    elif len(tied) > MANY:
        said = f"{len(tied)} of the other {len(others)} rows are"
    return f"{first.label} comes first with {value}, and {said} not told apart from it."


def _place(findings: Findings, place: Place, worst: Place) -> list[str]:
    """A row's cells; ``place`` is by the average, ``worst`` by the worst case."""
    comparison, planned = findings.comparison, findings.comparison.planned
    average = str(shown(comparison.average[place.label], planned, comparison.metric))
    worst_case = str(shown(comparison.worst[place.label], planned, comparison.metric))
    name = marked(findings.results, place.label)
    if place.label == findings.leader:
        name, average = Strong(name), Strong(average)
    return [name, ranks(place), average, place.letters, worst_case, worst.letters, ranks(worst)]


def ranks(place: Place) -> str:
    """The ranks that a row may have: ``1`` or ``1–3``."""
    return str(place.first) if place.first == place.last else f"{place.first}–{place.last}"


def ranking_notes(findings: Findings) -> list[str]:
    """How to read the ranking, what could have been found, and where it is not calibrated."""
    found, worst = findings.rankings[AVERAGE], findings.rankings[WORST]
    share = findings.results.plan.share
    notes = [
        "rows that share a letter are a tie: they are not significantly different at 5 %"
        " (paired over seeds and test samples, Holm's correction over all pairs); a rank a–b"
        " may be any from a to b"
    ]
    if share < 1:
        notes.append(
            f"one looks several times (Rounds of seeds): of the 5 %, this look has {share:.1%}"
        )
    notes += [
        (
            "the best row, and the rows among which it is, come from comparisons with the best"
            " alone: they are fewer, so that a best row may share a letter with another"
        ),
        *_pooling(found),
        _emphasis(findings),
        *_detectable(findings, "averages", found),
        *_detectable(findings, "worst cases", worst),
        *(f"averages: {note}" for note in found.notes),
        *(f"worst cases: {note}" for note in worst.notes),
    ]
    return [*notes, *_unranked_rows(findings)]


def _detectable(findings: Findings, name: str, found: Ranking) -> list[str]:
    """Which differences would have been found; nothing where no pair is compared."""
    if not found.differences:
        return []
    metric, seeds = findings.comparison.metric, findings.seeds
    return [
        f"minimum detectable difference of {name}: {size(found.detectable, metric)} from the best,"
        f" {size(found.detectable_pair, metric)} between any two rows (found in 80 % of studies"
        f" with {seeds} {'seed' if seeds == 1 else 'seeds'}, with the corrections used; median"
        " over the pairs)"
    ]


def _pooling(found: Ranking) -> list[str]:
    """In how many pairs the variance over seeds is that of all rows."""
    pooled = sum(one.estimate.pooled for one in found.differences)
    if not pooled:
        return []
    return [
        f"the variance over seeds is taken from all rows together in {pooled} of"
        f" {len(found.differences)} pairs; where a pair's own is larger, its own is used, and where"
        " it is significantly larger, its own degrees of freedom too"
    ]


def _emphasis(findings: Findings) -> str:
    """What bold means, or why nothing is bold."""
    if findings.leader is not None:
        return f"bold: {findings.leader} is the best row with 95 % confidence"
    if findings.rankings[AVERAGE].leader is not None:
        return f"nobody is bold: {findings.reserve}"
    return "nobody is bold: no row is the best with 95 % confidence"


def _unranked_rows(findings: Findings) -> list[str]:
    rows = [row.label for row in findings.results.plan.rows if row.label not in findings.ranked]
    return [f"not ranked, for reference only: {listed(rows)}"] if rows else []
