"""The report's sections that compare rows: the answer, the ranking with its ties, the table, the
differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.analysis.findings import Findings, RowDifference
from harness.analysis.ranking import Place, Ranking
from harness.analysis.results import Comparison, Results
from harness.analysis.statistics import AVERAGE, WORST, Difference
from harness.protocol.metrics import Metric
from harness.reporting.answer import answer
from harness.reporting.answer.caveats import caveats
from harness.reporting.document import (
    Bullets,
    Figure,
    Paragraph,
    Section,
    Strong,
    Table,
    bullets,
    readable,
    section,
    table,
)
from harness.reporting.figures import forest, heatmap_drawing
from harness.reporting.text import (
    ABSENT,
    Grid,
    columns,
    legend,
    main_grid,
    marked,
    metric_sentence,
    number,
    shown,
)
from harness.reporting.wording import MANY, interval, listed, signed, size

HEATMAP = "heatmap.png"
MORE, LESS = "▲", "▼"
NEGLIGIBLE = 0.0005
"""p values below are printed as ``< 0.001``."""


def answering(findings: Findings, problems: Sequence[str]) -> Section:
    """The answer in two sentences, and what must be known before it is believed."""
    first, *others = answer(findings)
    notes = caveats(findings, problems)
    return section(
        "Answer",
        first,
        Paragraph(" ".join(others)) if others else None,
        bullets(notes) if notes else None,
    )


# ---------------------------------------------------------------------- ranking


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
        _ranking_lead(findings, places),
        None if findings.best is None else _forest("ranking", findings, findings.best),
        table(header, rows, caption, paper=True),
        bullets(ranking_notes(findings)),
    )


def _ranking_lead(findings: Findings, places: Sequence[Place]) -> str:
    first, *others = places
    value = f"{number(first.mean, findings.comparison.metric)} on average"
    if not others:
        return f"{first.label} is the only row that is ranked, with {value}."
    tied = [one.label for one in others if any(x in first.letters for x in one.letters)]
    if not tied:
        return f"{first.label} comes first with {value}, and every other row is told apart from it."
    said = f"{listed(tied)} {'is' if len(tied) == 1 else 'are'}"
    if len(tied) > MANY:
        said = f"{len(tied)} of the other {len(others)} rows are"
    return f"{first.label} comes first with {value}, and {said} not told apart from it."


def _place(findings: Findings, place: Place, worst: Place) -> list[str]:
    comparison, planned = findings.comparison, findings.comparison.planned
    cells = [
        shown(of[place.label], planned, comparison.metric)
        for of in (comparison.average, comparison.worst)
    ]
    name, average = marked(findings.results, place.label), str(cells[0])
    if place.label == findings.leader:
        name, average = Strong(name), Strong(average)
    return [name, ranks(place), average, place.letters, str(cells[1]), worst.letters, ranks(worst)]


def ranks(place: Place) -> str:
    """The ranks that a row may have: ``1`` or ``1–3``."""
    return str(place.first) if place.first == place.last else f"{place.first}–{place.last}"


def ranking_notes(findings: Findings) -> list[str]:
    """How to read the ranking, what could have been found, and where it is not calibrated."""
    found, worst = findings.rankings[AVERAGE], findings.rankings[WORST]
    metric, seeds = findings.comparison.metric, findings.seeds
    share = findings.results.plan.share
    notes = [
        (
            "rows that share a letter are a tie: they are not significantly different at 5 %"
            " (paired over seeds and test samples, Holm's correction over all pairs); a rank a–b"
            " may be any from a to b"
        ),
        *(
            [f"one looks several times (Rounds of seeds): of the 5 %, this look has {share:.1%}"]
            if share < 1
            else []
        ),
        (
            "the best row, and the rows among which it is, come from comparisons with the best"
            " alone: they are fewer, so that a best row may share a letter with another"
        ),
        *_pooling(found),
        _emphasis(findings),
        *(
            f"minimum detectable difference of {name}: {size(of.detectable, metric)} from the best,"
            f" {size(of.detectable_pair, metric)} between any two rows (found in 80 % of studies"
            f" with {seeds} {'seed' if seeds == 1 else 'seeds'}, with the corrections used; median"
            " over the pairs)"
            for name, of in (("averages", found), ("worst cases", worst))
            if of.differences
        ),
        *(f"averages: {note}" for note in found.notes),
        *(f"worst cases: {note}" for note in worst.notes),
    ]
    return [*notes, *_unranked_rows(findings)]


def _pooling(found: Ranking) -> list[str]:
    pooled = sum(one.estimate.pooled for one in found.differences)
    if not pooled:
        return []
    return [
        f"the variance over seeds is taken from all rows together in {pooled} of"
        f" {len(found.differences)} pairs; where a pair's own is larger, its own is used, and where"
        " it is significantly larger, its own degrees of freedom too"
    ]


def _emphasis(findings: Findings) -> str:
    if findings.leader is not None:
        return f"bold: {findings.leader} is the best row with 95 % confidence"
    if findings.rankings[AVERAGE].leader is not None:
        return f"nobody is bold: {findings.reserve}"
    return "nobody is bold: no row is the best with 95 % confidence"


def _unranked_rows(findings: Findings) -> list[str]:
    rows = [row.label for row in findings.results.plan.rows if row.label not in findings.ranked]
    return [f"not ranked, for reference only: {listed(rows)}"] if rows else []


# ---------------------------------------------------------------------- methods x combinations


def result(findings: Findings) -> Section:
    """Methods x combinations as a table and as a picture."""
    results = findings.results
    grid, sentence = main_grid(results, findings.comparison), metric_sentence(results)
    return section(
        "Result",
        _extremes(findings.comparison),
        Figure("heatmap", heatmap_drawing(results), sentence, HEATMAP),
        readable(grid_table(grid, findings.comparison.labels, findings.leader, sentence)),
        bullets([*legend(results, findings.comparison), *_samples(results)]),
    )


def _extremes(found: Comparison) -> str:
    """The best and the worst cell of the table."""
    cells = {place: one.mean for place, one in found.cells.items() if math.isfinite(one.mean)}
    if not cells:
        return "No row has a value yet."
    order = sorted(cells, key=lambda place: cells[place], reverse=found.metric.higher_is_better)

    def named(place: tuple[str, str]) -> str:
        return f"{number(cells[place], found.metric)} ({place[0]}, {place[1]})"

    return f"The best value is {named(order[0])}, the worst {named(order[-1])}."


def grid_table(grid: Grid, labels: Sequence[str], leader: str | None, caption: str) -> Table:
    """The grid as a table; only the average of a leader is emphasised."""
    rows = []
    for label, name, row in zip(labels, grid.labels, grid.rows, strict=True):
        cells = [name, *map(str, row)]
        if label == leader:
            cells[0], cells[-2] = Strong(cells[0]), Strong(cells[-2])
        rows.append(cells)
    return table(grid.header, rows, caption, paper=True)


def _samples(results: Results) -> list[str]:
    """On how many samples each combination was scored, where samples lack modalities."""
    cells = results.table
    found = cells[cells["split"] == "test"].groupby("combination", sort=False)["n"].max()
    if found.nunique() < 2:
        return []
    counts = ", ".join(f"{name} {n}" for name, n in found.items())
    return [
        "samples of test that have all modalities of a combination, on which it is scored:"
        f" {counts}"
    ]


# ---------------------------------------------------------------------- differences


def differences(findings: Findings) -> Section:
    """Every row against the best and against the baseline, on average and for each combination."""
    if not findings.differences:
        return section(
            "Differences",
            "There are no two rows with a common seed, so no difference can be given.",
        )
    others = [
        other for other in dict.fromkeys([findings.best, findings.baseline]) if other is not None
    ]
    reference = findings.baseline or findings.best
    return section(
        "Differences",
        _difference_lead(findings, reference),
        None if reference is None else _forest("forest", findings, reference),
        *(_against(findings, other) for other in others),
        None if reference is None else _each(findings, reference),
        _difference_notes(findings),
    )


def _difference_lead(findings: Findings, other: str | None) -> str:
    found = [] if other is None else findings.against(other)
    if not found:
        return "No row is compared with another one here."
    better, worse = (
        sum(one.verdict == verdict for one in found) for verdict in ("better", "worse")
    )
    rows = "The other row is" if len(found) == 1 else f"Of the {len(found)} other rows"
    left = len(found) - better - worse
    if len(found) == 1:
        verdict = "better than" if better else "worse than" if worse else "not told apart from"
        return f"{rows} {verdict} {other} on average."
    return (
        f"{rows}, {better} {'is' if better == 1 else 'are'} better than {other} on average, {worse}"
        f" {'is' if worse == 1 else 'are'} worse, and {left} {'is' if left == 1 else 'are'} not"
        " told apart from it."
    )


def _against(findings: Findings, other: str) -> Table | None:
    found = findings.against(other)
    role = listed(
        [
            r
            for r, label in (
                ("the best average", findings.best),
                ("the baseline", findings.baseline),
            )
            if label == other
        ]
    )
    header = [
        "method",
        f"minus {other}",
        "95 % interval",
        "p (Holm)",
        "detectable",
        "seeds needed",
        "verdict",
    ]
    caption = f"Average over the combinations, each row minus {other} ({role})"
    return (
        table(
            header,
            [_difference(one, findings.comparison.metric) for one in found],
            caption,
            paper=True,
        )
        if found
        else None
    )


def _difference(one: RowDifference, metric: Metric) -> list[str]:
    return [
        one.label,
        signed(one.value, metric),
        interval(one.low, one.high, metric),
        p_value(one.p),
        size(one.difference.detectable, metric),
        seeds_needed(one.difference),
        _verdict(one),
    ]


def _verdict(one: RowDifference) -> str:
    if not one.verdict:
        return "not told apart"
    return one.verdict if one.difference.estimate.seeds > 1 else f"{one.verdict} on these samples"


def p_value(p: float) -> str:
    """Three decimals.

    >>> p_value(0.0312), p_value(1e-9)
    ('0.031', '< 0.001')
    """
    return "< 0.001" if p < NEGLIGIBLE else f"{p:.3f}"


def seeds_needed(difference: Difference) -> str:
    """The number of seeds; ``∞`` where none would do."""
    needed = difference.seeds_needed
    return ABSENT if needed != needed else "∞" if needed == float("inf") else f"{needed:.0f}"


def _forest(name: str, findings: Findings, other: str) -> Figure | None:
    found = findings.against(other)
    text = f"Each row minus {other}, average over the combinations, with 95 % intervals"
    if not found:
        return None
    return Figure(name, forest(name, found, other, findings.comparison.metric), text)


def _each(findings: Findings, other: str) -> Table | None:
    """The differences on each combination, with a mark where they are significant."""
    metric = findings.comparison.metric
    names = [c.name for c in findings.results.plan.combinations]
    by_name = {
        name: {one.label: one for one in findings.against(other, name)} for name in [*names, WORST]
    }
    sizes = [
        one
        for one in dict.fromkeys(one.summary for one in findings.differences)
        if one not in (AVERAGE, WORST, *names)
    ]
    by_name |= {size: {one.label: one for one in findings.against(other, size)} for size in sizes}
    labels = [one.label for one in findings.against(other)]
    rows = [
        [label, *(marked_difference(by_name[name].get(label), metric) for name in by_name)]
        for label in labels
    ]
    caption = (
        f"Each combination and the worst case, each row minus {other}; {MORE} significantly better,"
        f" {LESS} worse"
    )
    header = ["method", *columns(findings.results), "worst case", *sizes]
    return readable(table(header, rows, caption)) if rows else None


def marked_difference(one: RowDifference | None, metric: Metric) -> str:
    """``+1.17 ▲``: with a mark where it is significant."""
    if one is None:
        return ABSENT
    mark = {"better": f" {MORE}", "worse": f" {LESS}", "": ""}[one.verdict]
    return f"{signed(one.value, metric)}{mark}"


def _difference_notes(findings: Findings) -> Bullets:
    units = (
        "percentage points"
        if findings.comparison.metric.percent
        else f"units of {findings.comparison.metric.name}"
    )
    return bullets(
        [
            (
                f"{units}; {'higher' if findings.comparison.metric.higher_is_better else 'lower'}"
                " is better; paired on the same seeds and the same test samples"
            ),
            (
                "intervals are for one pair alone; p values against the baseline are corrected for"
                " all rows (of single combinations for all of these together), others for all pairs"
            ),
            (
                "detectable: the true difference whose interval excludes zero in 80 % of such"
                " studies; seeds needed: for 80 % power if the difference is what it seems, ∞ where"
                " the test set is too small for any number of seeds"
            ),
            *([findings.reserve] if findings.reserve else []),
            *_near_ties(findings.differences),
        ]
    )


def _near_ties(found: Sequence[Difference]) -> list[str]:
    pairs = [
        f"{one.first} and {one.second}"
        for one in found
        if one.summary == WORST and one.estimate.biased
    ]
    if not pairs:
        return []
    shown_pairs = "; ".join(pairs[:3]) + (f"; {len(pairs) - 3} more" if len(pairs) > 3 else "")
    return [
        "worst cases not calibrated here (several combinations are about equally bad):"
        f" {shown_pairs}"
    ]
