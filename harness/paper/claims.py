"""The DMRNet paper's qualitative claims, asked of a study's own results: what is seen here, and how
surely.

Each question is answered from trained models alone; published numbers enter the last one only, as
an order of rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
from scipy import stats

from harness.analysis.results import Results
from harness.analysis.statistics import AVERAGE, Difference
from harness.paper.published_numbers import published
from harness.paper.representations import DISTANCE, SIGMA2
from harness.study.rows import Row

YES, NO, PARTLY, OPEN, UNASKED = "yes", "no", "partly", "not told", "not asked"
STOCHASTIC = ("dmrnet", "sf_dmr")
"""The methods of the paper that predict a distribution; their alpha weighs its KL term (Eq. 4-5).
"""

BASELINE = "sf_md"
COLLAPSING = 0.1
"""The alpha of which Table 6 says that training collapses."""

HALF = 0.5
TABLE = 1
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Claim:
    """A question, its answer (``yes``, ``no``, ``partly``, ``not told``, ``not asked``), and what
    the answer rests on.
    """

    question: str
    answer: str
    evidence: tuple[str, ...]


def claims(
    results: Results, views: pd.DataFrame, differences: Sequence[Difference], blind: float
) -> list[Claim]:
    """All questions.

    Args:
        results: of the study.
        views: ``representation_table`` of it; empty where nothing was measured.
        differences: ``harness.analysis.statistics.differences`` of it.
        blind: the metric of a model that sees nothing.
    """
    return [
        variance_falls(results, views),
        largest_alpha_collapses(results, differences, blind),
        mined_are_worst(results, views),
        diversity_rises(results, views),
        same_order(results, differences),
    ]


# ---------------------------------------------------------------------- alpha (Tables 6 and 7)


def variance_falls(results: Results, views: pd.DataFrame) -> Claim:
    """Table 6: the mean sigma^2 against alpha, from the smallest to the largest, paired by seed on
    a logarithmic scale.
    """
    question = "Does the mean sigma^2 fall as alpha grows (Table 6)?"
    axes = _alpha_axes(results.plan.rows)
    if not axes:
        return Claim(
            question, UNASKED, ("it needs rows of dmrnet or sf_dmr that differ in alpha alone",)
        )
    seen = {
        label: by_seed(views, SIGMA2, label)
        for rows in axes
        for label in (row.label for row in rows)
    }
    answers, evidence = [], []
    for rows in axes:
        if any(not seen[row.label] for row in rows):
            return Claim(question, UNASKED, (_unmeasured(results),))
        means = [float(np.mean(list(seen[row.label].values()))) for row in rows]
        falls = sum(later < earlier for earlier, later in pairwise(means))
        change = _log_ratio(seen[rows[0].label], seen[rows[-1].label])
        answers.append(_answer(interval(change), wanted=-1, whole=falls == len(rows) - 1))
        path = ", ".join(
            f"{_alpha(row):g}: {mean:.3g}" for row, mean in zip(rows, means, strict=True)
        )
        evidence.append(
            f"{rows[0].method}, mean sigma^2 by alpha: {path}; {falls} of {len(rows) - 1} steps"
            " fall; from the smallest alpha to the largest the geometric mean changes by the"
            f" factor {_factor(change)}"
        )
    return Claim(question, _together(answers), tuple(evidence))


def largest_alpha_collapses(
    results: Results, differences: Sequence[Difference], blind: float
) -> Claim:
    """Table 6: the row with alpha = 0.1 against the best other one of its axis.

    Collapse: it is significantly worse, and more than half of what the other one gains over a model
    that sees nothing is lost; ``partly``: significantly worse, and less is lost.
    """
    question = f"Does alpha = {COLLAPSING:g} collapse (Table 6)?"
    axes = [
        rows
        for rows in _alpha_axes(results.plan.rows)
        if any(_alpha(row) == COLLAPSING for row in rows)
    ]
    if not axes:
        return Claim(
            question,
            UNASKED,
            (f"it needs rows that differ in alpha alone, one with alpha = {COLLAPSING:g}",),
        )
    answers, evidence = [], []
    for rows in axes:
        large = next(row for row in rows if _alpha(row) == COLLAPSING)
        best = _best([row for row in rows if row is not large and results.of(row.label)], results)
        found = _between(differences, large.label, best.label) if best is not None else []
        if best is None or not found:
            return Claim(
                question,
                UNASKED,
                (f"{large.label} or all other values of alpha have no finished trial",),
            )
        answer, told = _collapse(results, large, best, found[0].better, blind)
        answers.append(answer)
        evidence.append(told)
    return Claim(question, _together(answers), tuple(evidence))


def _collapse(
    results: Results, large: Row, best: Row, better: str | None, blind: float
) -> tuple[str, str]:
    """The answer for one axis, and its evidence; ``better`` is the significantly better row."""
    mean, other = (results.comparison().average[row.label].mean for row in (large, best))
    gain = other - blind
    lost = (other - mean) / gain if gain else 0.0  # where nothing is gained nothing can be lost
    answer = (
        NO if better == large.label else OPEN if better is None else YES if lost > HALF else PARTLY
    )
    trials, count = results.of(large.label), len(results.plan.combinations)
    surely = "significantly" if better is not None else "not significantly"
    return (
        answer,
        (
            f"averages: {large.label} {mean:.2f}, the best other value of alpha ({_alpha(best):g})"
            f" {other:.2f}, a model that sees nothing {blind:.2f}: {100 * lost:.0f} % of the gain"
            f" is lost, {surely}; one class is predicted for all test samples in"
            f" {sum(len(done.collapsed) for done in trials)} of {len(trials) * count} cells"
            " (combinations x seeds)"
        ),
    )


# --------------------------------------------------------------------- hard combinations (Figure 3)


def mined_are_worst(results: Results, views: pd.DataFrame) -> Claim:
    """Section 3.3: for each seed, how many of the mined combinations are among the as many that
    score worst on test.
    """
    question = (
        "Are the combinations that DMRNet mines as hard those that perform worst (Section 3.3,"
        " Figure 3)?"
    )
    # The released variant is given its set, where the paper's data are given.
    rows = [row for row in results.plan.rows if (row.method, row.variant) == ("dmrnet", "paper")]
    if not rows:
        return Claim(question, UNASKED, ("it needs a row of dmrnet",))
    hits, total, chance, exact, correlations, names = 0, 0, 0.0, [], [], []
    for row in rows:
        for done in results.of(row.label):
            hard = _mined(views, done.trial.id)
            if not hard:
                continue
            values = {
                name: cell["value"]
                for name, cell in done.record["cells"]["test"].items()
                if cell["value"] is not None
            }
            worst = sorted(
                values, key=lambda name: values[name], reverse=not results.metric.higher_is_better
            )[: len(hard)]
            hits, total = hits + len(hard & set(worst)), total + len(hard)
            chance += len(hard) ** 2 / len(values)
            exact.append(hard == set(worst))
            correlations.append(
                _correlation(views, done.trial.id, values, results.metric.higher_is_better)
            )
            names.append("{" + ", ".join(name for name in values if name in hard) + "}")
    if not total:
        return Claim(question, UNASKED, (_unmeasured(results) + "; or nothing was mined",))
    answer = YES if all(exact) else PARTLY if hits > chance else NO
    sets = ", ".join(f"{name} {names.count(name)} times" for name in dict.fromkeys(names))
    evidence = (
        (
            f"{hits} of {total} mined combinations are among the as many worst on test"
            f" ({chance:.1f} would be by chance); the sets are equal for {sum(exact)} of"
            f" {len(exact)} trained models; mined: {sets}"
        ),
        (
            "rank correlation of sigma^2 and error over the combinations, mean over models:"
            f" {np.mean(correlations):+.2f}"
        ),
    )
    return Claim(question, answer, evidence)


def _mined(views: pd.DataFrame, trial_id: str) -> set[str]:
    chosen = views[(views["trial_id"] == trial_id) & (views["view"] == SIGMA2)]
    return {str(of) for of in chosen[chosen["mined"].eq(True)]["of"]}


def _correlation(
    views: pd.DataFrame, trial_id: str, values: Mapping[str, float], higher_is_better: bool
) -> float:
    chosen = views[(views["trial_id"] == trial_id) & (views["view"] == SIGMA2)]
    variance = dict(zip(chosen["of"], chosen["value"], strict=True))
    both = [name for name in values if name in variance]
    error = [-values[name] if higher_is_better else values[name] for name in both]
    variances = [variance[name] for name in both]
    if len(set(variances)) < 2 or len(set(error)) < 2:
        return math.nan  # ranks of equal values say nothing; scipy would warn besides
    return float(stats.spearmanr(variances, error).statistic)


# ---------------------------------------------------------------------- diversity (Figure 1)


def diversity_rises(results: Results, views: pd.DataFrame) -> Claim:
    """Figure 1: mean inter-channel distance (Eq. 14-15) of each DMR row minus that of SF-MD, paired
    by seed.
    """
    question = "Does the diversity between the modalities' features rise with DMR (Figure 1)?"
    base = next((row for row in results.plan.rows if row.method == BASELINE), None)
    rows = [row for row in results.plan.rows if row.method in STOCHASTIC and row.variant == "paper"]
    if base is None or not rows:
        return Claim(question, UNASKED, (f"it needs rows of {BASELINE} and of dmrnet or sf_dmr",))
    before = by_seed(views, DISTANCE, base.label)
    if not before:
        return Claim(question, UNASKED, (_unmeasured(results),))
    answers, evidence = [], []
    for row in rows:
        after = by_seed(views, DISTANCE, row.label)
        change = [after[seed] - before[seed] for seed in sorted(after.keys() & before.keys())]
        if not change:
            continue
        low, high = interval(change)
        answers.append(_answer((low, high), wanted=1))
        evidence.append(
            f"{row.label} minus {base.label}: {np.mean(change):+.4f} ({_span(low, high)}; mean"
            f" distance of {base.label} {np.mean(list(before.values())):.4f})"
        )
    return Claim(question, _together(answers), tuple(evidence))


# ------------------------------------------------------------------- the order of methods (Table 1)


def same_order(results: Results, differences: Sequence[Difference]) -> Claim:
    """Table 1: of the pairs of rows that it has, how many differ significantly in the printed
    direction, how many in the other.
    """
    question = "Is the order of methods of Table 1 seen?"
    printed = {
        cell.label: float(cell.value)
        for cell in published(TABLE, "casia_surf")
        if cell.combination == AVERAGE
    }
    labels = [row.label for row in results.plan.rows if row.label in printed]
    if len(labels) < 3:
        return Claim(question, UNASKED, ("it needs three rows of Table 1 or more",))
    same: list[str] = []
    opposite: list[str] = []
    for first, second in combinations(labels, 2):
        for one in _between(differences, first, second):
            if one.better is None:
                continue
            # ACER: the smaller one is better.
            better = first if printed[first] < printed[second] else second
            (same if one.better == better else opposite).append(
                f"{one.better} over {second if one.better == first else first}"
            )
    pairs = len(labels) * (len(labels) - 1) // 2
    answer = (
        NO if len(opposite) > len(same) else YES if len(same) == pairs else PARTLY if same else OPEN
    )
    means = {label: results.comparison().average[label].mean for label in labels}
    sign = 1 if results.metric.higher_is_better else -1
    tau = stats.kendalltau(
        [sign * means[label] for label in labels], [-printed[label] for label in labels]
    ).statistic
    evidence = (
        (
            f"of {pairs} pairs of {len(labels)} rows, {len(same)} differ significantly as printed,"
            f" {len(opposite)} the other way, {pairs - len(same) - len(opposite)} are not told"
            f" apart; rank correlation of the averages (Kendall): {tau:+.2f}"
        ),
        *([f"as printed: {'; '.join(same)}"] if same else []),
        *([f"the other way: {'; '.join(opposite)}"] if opposite else []),
    )
    return Claim(question, answer, evidence)


# ---------------------------------------------------------------------- parts


def by_seed(views: pd.DataFrame, view: str, label: str) -> dict[int, float]:
    """Seed -> mean of a view over its combinations or pairs."""
    chosen = views[(views["view"] == view) & (views["label"] == label)]
    return {
        int(str(seed)): float(value)
        for seed, value in chosen.groupby("seed")["value"].mean().items()
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % t interval of a mean over seeds; without bounds for fewer than two."""
    if len(values) < 2:
        return -math.inf, math.inf
    half = float(
        stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
        * np.std(values, ddof=1)
        / math.sqrt(len(values))
    )
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def _alpha_axes(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows that differ in alpha alone, two or more, by growing alpha."""
    found: dict[object, list[Row]] = {}
    for row in rows:
        if row.method in STOCHASTIC:
            others = tuple(
                sorted((name, str(value)) for name, value in row.hparams.items() if name != "alpha")
            )
            found.setdefault((row.method, row.variant, others), []).append(row)
    return [sorted(axis, key=_alpha) for axis in found.values() if len(axis) > 1]


def _alpha(row: Row) -> float:
    return float(row.hparams["alpha"])


def _best(rows: Sequence[Row], results: Results) -> Row | None:
    sign = 1 if results.metric.higher_is_better else -1
    return max(
        rows, key=lambda row: sign * results.comparison().average[row.label].mean, default=None
    )


def _between(differences: Sequence[Difference], first: str, second: str) -> list[Difference]:
    return [
        one
        for one in differences
        if one.summary == AVERAGE and {one.first, one.second} == {first, second}
    ]


def _log_ratio(before: Mapping[int, float], after: Mapping[int, float]) -> list[float]:
    return [math.log(after[seed] / before[seed]) for seed in sorted(after.keys() & before.keys())]


def _answer(bounds: tuple[float, float], wanted: int, whole: bool = True) -> str:
    """What an interval says of a change that is claimed to be positive (1) or negative (-1)."""
    low, high = bounds if wanted > 0 else (-bounds[1], -bounds[0])
    if low > 0:
        return YES if whole else PARTLY
    return NO if high < 0 else OPEN


def _together(answers: Sequence[str]) -> str:
    found = set(answers)
    return (
        found.pop()
        if len(found) == 1
        else PARTLY
        if YES in found or PARTLY in found
        else OPEN
        if OPEN in found
        else UNASKED
    )


def _factor(change: Sequence[float]) -> str:
    low, high = interval(change)
    return (
        f"{math.exp(np.mean(change)):.3g}"
        f" ({_span(math.exp(low), math.exp(high) if high < math.inf else high)})"
    )


def _span(low: float, high: float) -> str:
    return "one seed: no interval" if high == math.inf else f"95 % interval {low:.3g} to {high:.3g}"


def _unmeasured(results: Results) -> str:
    return f"nothing was measured: python -m harness.views {results.plan.arguments}"
