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
"""The share of a row's gain that is lost where it is called collapsed."""

TABLE = 1
"""The paper's table whose order of methods is asked for."""

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
    answers, evidence = [], []
    for rows in axes:
        variances = [by_seed(views, SIGMA2, row.label) for row in rows]
        if not all(variances):
            return Claim(question, UNASKED, (_unmeasured(results),))
        means = [float(np.mean(list(of_seeds.values()))) for of_seeds in variances]
        steps = len(rows) - 1
        falls = sum(later < earlier for earlier, later in pairwise(means))
        change = _log_ratio(variances[0], variances[-1])
        answers.append(_answer(interval(change), wanted=-1, whole=falls == steps))
        path = ", ".join(
            f"{_alpha(row):g}: {mean:.3g}" for row, mean in zip(rows, means, strict=True)
        )
        evidence.append(
            f"{rows[0].method}, mean sigma^2 by alpha: {path}; {falls} of {steps} steps"
            " fall; from the smallest alpha to the largest the geometric mean changes by the"
            f" factor {_factor(change)}"
        )
    return Claim(question, _together(answers), tuple(evidence))


def _log_ratio(before: Mapping[int, float], after: Mapping[int, float]) -> list[float]:
    """The logarithm of after / before, of each seed that both have."""
    return [math.log(after[seed] / before[seed]) for seed in sorted(after.keys() & before.keys())]


def _factor(change: Sequence[float]) -> str:
    """A mean change on the logarithmic scale as a factor, with its interval."""
    low, high = interval(change)
    high = math.exp(high) if high < math.inf else high
    return f"{math.exp(np.mean(change)):.3g} ({_span(math.exp(low), high)})"


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
        others = [row for row in rows if row is not large and results.of(row.label)]
        best = _best(others, results)
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


def _best(rows: Sequence[Row], results: Results) -> Row | None:
    """The row with the best average."""
    average = results.comparison().average
    sign = 1 if results.metric.higher_is_better else -1
    return max(rows, key=lambda row: sign * average[row.label].mean, default=None)


def _collapse(
    results: Results, large: Row, best: Row, better: str | None, blind: float
) -> tuple[str, str]:
    """The answer for one axis, and its evidence; ``better`` is the significantly better row."""
    mean, other = (results.comparison().average[row.label].mean for row in (large, best))
    gain = other - blind
    lost = (other - mean) / gain if gain else 0.0  # where nothing is gained nothing can be lost
    if better is None:
        answer = OPEN
    elif better == large.label:
        answer = NO
    else:
        answer = YES if lost > HALF else PARTLY
    surely = "significantly" if better is not None else "not significantly"
    trials = results.of(large.label)
    one_class = sum(len(done.collapsed) for done in trials)
    cells = len(trials) * len(results.plan.combinations)
    return (
        answer,
        (
            f"averages: {large.label} {mean:.2f}, the best other value of alpha ({_alpha(best):g})"
            f" {other:.2f}, a model that sees nothing {blind:.2f}: {100 * lost:.0f} % of the gain"
            f" is lost, {surely}; one class is predicted for all test samples in"
            f" {one_class} of {cells} cells (combinations x seeds)"
        ),
    )


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
    higher_is_better = results.metric.higher_is_better
    hits, total, by_chance = 0, 0, 0.0
    equal: list[bool] = []
    correlations: list[float] = []
    mined: list[str] = []
    for done in (done for row in rows for done in results.of(row.label)):
        hard = _mined(views, done.trial.id)
        if not hard:
            continue
        values = {
            name: cell["value"]
            for name, cell in done.record["cells"]["test"].items()
            if cell["value"] is not None
        }
        from_worst = sorted(values, key=values.__getitem__, reverse=not higher_is_better)
        worst = set(from_worst[: len(hard)])
        hits += len(hard & worst)
        total += len(hard)
        # The expected overlap of a random set of as many.
        by_chance += len(hard) ** 2 / len(values)
        equal.append(hard == worst)
        correlations.append(_correlation(views, done.trial.id, values, higher_is_better))
        mined.append("{" + ", ".join(name for name in values if name in hard) + "}")
    if not total:
        return Claim(question, UNASKED, (_unmeasured(results) + "; or nothing was mined",))
    if all(equal):
        answer = YES
    elif hits > by_chance:
        answer = PARTLY
    else:
        answer = NO
    sets = ", ".join(f"{names} {mined.count(names)} times" for names in dict.fromkeys(mined))
    evidence = (
        (
            f"{hits} of {total} mined combinations are among the as many worst on test"
            f" ({by_chance:.1f} would be by chance); the sets are equal for {sum(equal)} of"
            f" {len(equal)} trained models; mined: {sets}"
        ),
        (
            "rank correlation of sigma^2 and error over the combinations, mean over models:"
            f" {np.mean(correlations):+.2f}"
        ),
    )
    return Claim(question, answer, evidence)


def _variances(views: pd.DataFrame, trial_id: str) -> pd.DataFrame:
    """What was measured of sigma^2 in one trained model: a line for each combination."""
    return views[(views["trial_id"] == trial_id) & (views["view"] == SIGMA2)]


def _mined(views: pd.DataFrame, trial_id: str) -> set[str]:
    """The combinations that a trained model mined as hard."""
    measured = _variances(views, trial_id)
    return {str(combination) for combination in measured[measured["mined"].eq(True)]["of"]}


def _correlation(
    views: pd.DataFrame, trial_id: str, values: Mapping[str, float], higher_is_better: bool
) -> float:
    """Spearman's, of sigma^2 and error over the combinations; ``values``: of the metric on test."""
    measured = _variances(views, trial_id)
    variance = dict(zip(measured["of"], measured["value"], strict=True))
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
    of_base = by_seed(views, DISTANCE, base.label)
    if not of_base:
        return Claim(question, UNASKED, (_unmeasured(results),))
    mean_of_base = np.mean(list(of_base.values()))
    answers, evidence = [], []
    for row in rows:
        of_row = by_seed(views, DISTANCE, row.label)
        change = [of_row[seed] - of_base[seed] for seed in sorted(of_row.keys() & of_base.keys())]
        if not change:
            continue
        low, high = interval(change)
        answers.append(_answer((low, high), wanted=1))
        evidence.append(
            f"{row.label} minus {base.label}: {np.mean(change):+.4f} ({_span(low, high)}; mean"
            f" distance of {base.label} {mean_of_base:.4f})"
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
            better_in_print = first if printed[first] < printed[second] else second
            worse = second if one.better == first else first
            direction = same if one.better == better_in_print else opposite
            direction.append(f"{one.better} over {worse}")
    pairs = math.comb(len(labels), 2)
    not_told = pairs - len(same) - len(opposite)
    if len(opposite) > len(same):
        answer = NO
    elif len(same) == pairs:
        answer = YES
    else:
        answer = PARTLY if same else OPEN
    average = results.comparison().average
    sign = 1 if results.metric.higher_is_better else -1
    goodness = [sign * average[label].mean for label in labels]
    printed_goodness = [-printed[label] for label in labels]
    tau = stats.kendalltau(goodness, printed_goodness).statistic
    evidence = (
        (
            f"of {pairs} pairs of {len(labels)} rows, {len(same)} differ significantly as printed,"
            f" {len(opposite)} the other way, {not_told} are not told"
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
    seeds, mean = len(values), float(np.mean(values))
    critical = stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1)
    half = float(critical * np.std(values, ddof=1) / math.sqrt(seeds))
    return mean - half, mean + half


def _between(differences: Sequence[Difference], first: str, second: str) -> list[Difference]:
    """The difference of two rows' averages; none where they have no common seed."""
    return [
        one
        for one in differences
        if one.summary == AVERAGE and {one.first, one.second} == {first, second}
    ]


def _answer(bounds: tuple[float, float], wanted: int, whole: bool = True) -> str:
    """What an interval says of a change that is claimed to be positive (1) or negative (-1)."""
    low, high = bounds if wanted > 0 else (-bounds[1], -bounds[0])
    if low > 0:
        return YES if whole else PARTLY
    return NO if high < 0 else OPEN


def _together(answers: Sequence[str]) -> str:
    """One answer from those of several rows or axes."""
    found = set(answers)
    if len(found) == 1:
        return found.pop()
    if YES in found or PARTLY in found:
        return PARTLY
    return OPEN if OPEN in found else UNASKED


def _span(low: float, high: float) -> str:
    return "one seed: no interval" if high == math.inf else f"95 % interval {low:.3g} to {high:.3g}"


def _unmeasured(results: Results) -> str:
    return f"nothing was measured: python -m harness.views {results.plan.arguments}"
