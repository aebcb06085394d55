"""What rounds of seeds save and find, by simulation: a table of README.md.

    python -m tests.benchmarks.simulated_seeds [STUDIES]

B studies at once, R rows, S seeds, G groups of samples. Rows are decided by the functions that
decide studies (harness/analysis/rounds/questions.py) and by estimates that are the same as those of
harness/analysis, for all studies at once: tests/analysis/test_rounds_simulated.py compares them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, special, stats

from harness.analysis.rounds.questions import above, seeds_help, within
from harness.analysis.statistics.decisions import OUTLYING, best_level
from harness.analysis.statistics.groups import Groups
from harness.analysis.statistics.intervals import POWER, SIGNIFICANCE_LEVEL, power
from harness.study.seed_rounds import SeedRounds
from tests.benchmarks.simulated_statistics import sizes

Array = np.ndarray[Any, np.dtype[Any]]

FIRST, MOST = 3, 20
SEED, GROUP, REST = 1.0, 1.0, 0.5
"""Standard deviations of what a row's seed, a row's group of samples, and a group in one seed adds.
"""

TEST_SETS = {
    "30 equal": Groups.of(np.repeat(np.arange(30), sizes(30, "equal"))),
    "10 unequal": Groups.of(np.repeat(np.arange(10), sizes(10, "unequal"))),
    "1000 equal": Groups.of(np.arange(1000)),
}

SPENT: Mapping[str, Callable[[float], float]] = {
    "square": lambda part: part**2,
    "in proportion": lambda part: part,
    "O'Brien-Fleming": lambda part: (
        float(2 * stats.norm.sf(stats.norm.isf(SIGNIFICANCE_LEVEL / 2) / np.sqrt(part)))
        / SIGNIFICANCE_LEVEL
    ),
}
"""How much of the 5 % is spent when a part of the seeds is there; the first is the studies' own."""

EACH_ALIKE, NONE_SPENT = "equal parts", "each look 5 %"
AT_ONCE = 250
SWEEPS = 40


@dataclass(frozen=True)
class Gap:
    """The lead of one row over each (B, R), as ``Estimate`` has it."""

    value: Array
    from_seeds: Array
    from_samples: Array
    seed_freedom: Array
    freedom: float

    def half(self, level: float) -> Array:
        """Half of the interval at a level."""
        variance = self.from_seeds + self.from_samples
        share = self.from_seeds / np.where(variance > 0, variance, 1)
        of_seeds, of_samples = quantile(self.seed_freedom, level), quantile(self.freedom, level)
        return np.asarray((share * of_seeds + (1 - share) * of_samples) * np.sqrt(variance))


def quantile(freedom: Any, level: float) -> Any:
    """Of Student's t, two-sided."""
    return -special.stdtrit(freedom, level / 2)


class Studies:
    """Values of B studies, of which a study may have any number of the seeds of each row."""

    def __init__(self, true: Array, groups: Groups, studies: int, noise: Any, seeds: int = MOST):
        rows, count = len(true), len(groups.share)
        self.true, self.groups = true, groups
        values = SEED * noise.normal(size=(studies, rows, seeds, 1))
        values = values + REST * noise.normal(size=(studies, rows, seeds, count))
        values += GROUP * noise.normal(size=(studies, rows, 1, count)) + true[:, None, None]
        self.values = values
        """(B, R, S, G)"""
        self.means = values @ groups.share

    def best(self, counts: Array) -> Array:
        """The row (B,) with the best mean over the seeds that it has (B, R)."""
        there = np.arange(self.means.shape[2]) < counts[..., None]
        return np.asarray((np.where(there, self.means, 0).sum(2) / counts).argmax(1))

    def lead(self, row: Array, counts: Array) -> Gap:
        """That of one row (B,) over all, each pair on the seeds that both have."""
        study, widening = np.arange(len(row)), self.groups.widening
        n = np.minimum(counts, counts[study, row][:, None])
        gap = self.values[study, row][:, None] - self.values
        means = self.means[study, row][:, None] - self.means
        off = self.groups.share * (gap - means[..., None])
        last = (n - 1)[..., None]
        value = np.take_along_axis(means.cumsum(2), last, 2)[..., 0] / n
        squares = np.take_along_axis((means**2).cumsum(2), last, 2)[..., 0]
        from_seeds = np.maximum(squares - n * value**2, 0) / (n - 1) / n
        in_common = np.take_along_axis(off.cumsum(2), last[..., None], 2)[:, :, 0] / n[..., None]
        together = (widening * in_common**2).sum(2)
        each = np.take_along_axis((widening * off**2).sum(3).cumsum(2), last, 2)[..., 0]
        from_samples = np.maximum(together - (each - n * together) / (n * (n - 1)), 0)
        freedom = (n - 1).astype(float)
        if counts.shape[1] > 2:
            from_seeds, freedom = self._pooled(counts, n, from_seeds, freedom)
        return Gap(value, from_seeds, from_samples, freedom, self.groups.freedom)

    def _pooled(self, counts: Array, n: Array, own: Array, freedom: Array) -> tuple[Array, Array]:
        """The variance over seeds from all rows where a pair's own is not significantly larger."""
        there = np.arange(self.means.shape[2]) < counts[..., None]
        rest = np.where(there, self.means, 0)
        of_row, of_seed = counts[..., None], np.maximum(there.sum(1, keepdims=True), 1)
        for _ in range(SWEEPS):
            rest = np.where(there, rest - rest.sum(2, keepdims=True) / of_row, 0)
            rest = np.where(there, rest - rest.sum(1, keepdims=True) / of_seed, 0)
        left = counts.sum(1) - counts.shape[1] - counts.max(1) + 1
        pooled = (2 * (rest**2).sum((1, 2)) / left)[:, None] / n
        outlying = stats.f.sf(own / pooled, n - 1, left[:, None]) < OUTLYING
        return (
            np.where(outlying, own, np.maximum(own, pooled)),
            np.where(outlying, freedom, left[:, None]),
        )


@dataclass(frozen=True)
class Outcome:
    """What B studies came to.

    Attributes:
        trials: (B,)
        found: (B,) whether the first row is shown to be the best.
        answered: (B,) the part of the questions that is closed.
        false: (B,) whether anything false is said: of the best row, of a row that is not it, or of
            a lead and the difference that matters.
        covered: (B, R - 1) whether the 95 % intervals of the first row's leads hold the truth.
    """

    trials: Array
    found: Array
    answered: Array
    false: Array
    covered: Array


def run(of: Studies, looks: Sequence[int], shares: Sequence[float], difference: float) -> Outcome:
    """Take the looks, with those shares of the 5 %, until no question is open."""
    studies, rows = of.means.shape[:2]
    every = np.arange(studies)
    counts = np.full((studies, rows), looks[0])
    going, found, false = np.ones(studies, bool), np.zeros(studies, bool), np.zeros(studies, bool)
    answered = np.zeros(studies)
    for number, share in enumerate(shares):
        best = of.best(counts)
        gap = of.lead(best, counts)
        half = gap.half(best_level(rows, share))
        low, high = gap.value - half, gap.value + half
        beaten, is_above = low > 0, above(low, difference)
        is_within = within(low, high, difference)
        others = np.arange(rows) != best[:, None]
        closed = is_above | is_within
        level = best_level(rows, max(shares[number + 1 :], default=share))
        helps = seeds_help(
            gap.value,
            quantile(gap.seed_freedom, SIGNIFICANCE_LEVEL) * np.sqrt(gap.from_seeds),
            quantile(gap.freedom, level) * np.sqrt(gap.from_samples),
            beaten,
            difference,
        )
        leader = (beaten | ~others).all(1)
        found[going] = (leader & (best == 0))[going]
        answered[going] = ((closed & others).sum(1) / (rows - 1))[going]
        wrong = _false(of.true, best, others, beaten, is_above, is_within, leader, difference)
        false[going] = wrong[going]
        asked = others & ~closed & helps
        going = going & asked.any(1)
        if number + 1 == len(looks) or not going.any():
            break
        asked[every, best] = True
        counts = np.where(going[:, None] & asked, np.maximum(counts, looks[number + 1]), counts)
    gap = of.lead(np.zeros(studies, int), counts)
    off = np.abs(gap.value - (of.true[0] - of.true))
    return Outcome(
        counts.sum(1), found, answered, false, (off <= gap.half(SIGNIFICANCE_LEVEL))[:, 1:]
    )


def _false(
    true: Array,
    best: Array,
    others: Array,
    beaten: Array,
    is_above: Array,
    is_within: Array,
    leader: Array,
    difference: float,
) -> Array:
    """Whether a study says anything false (B,)."""
    leads = true[best][:, None] - true
    rounding = 1e-9
    # A lead of the very difference is neither: both statements would be as often wrong as they may.
    said = (is_above & (leads <= difference + rounding)) | (
        is_within & (np.abs(leads) >= difference - rounding)
    )
    # The best row is said not to be it; of equally good ones, one that was named beforehand.
    lost = beaten[:, true.argmax()] & others[:, true.argmax()]
    alone = (true == true.max()).sum() == 1
    false_leader = leader & ((true[best] < true.max()) | np.logical_not(alone))
    return np.asarray((said & others).any(1) | lost | false_leader)


def shares_of(spent: str, looks: Sequence[int]) -> list[float]:
    """The part of the 5 % that each look has."""
    if spent == EACH_ALIKE:
        return [1 / len(looks)] * len(looks)
    if spent == NONE_SPENT:
        return [1.0] * len(looks)
    until = [SPENT[spent](look / looks[-1]) for look in looks]
    return np.diff([0.0, *until]).tolist()


def detectable(rows: int, groups: Groups, seeds: int = MOST) -> float:
    """The lead that a fixed design finds in 80 % of studies."""
    inner = float((groups.share**2).sum())
    from_seeds = 2 * (SEED**2 + REST**2 * inner) / seeds
    variance = from_seeds + 2 * GROUP**2 * inner
    freedom = (rows - 1 if rows > 2 else 1) * (seeds - 1)
    share, level = from_seeds / variance, best_level(rows)

    def lacking(size: float) -> float:
        return power(size, share, freedom, groups.freedom, level) - POWER

    return float(np.sqrt(variance) * optimize.brentq(lacking, 0, 1e5))


def leads(kind: str, rows: int, unit: float) -> Array:
    """True values: the first row ahead of all others by so many units, or of each by another."""
    if kind == "0 to 3":
        return -np.linspace(0, 3, rows) * unit
    found = np.zeros(rows)
    found[0] = float(kind) * unit
    return found


def simulated(
    rows: int,
    test_set: str,
    kind: str,
    studies: int,
    difference: float = 1.0,
    designs: Sequence[str] = ("fixed", "square"),
) -> dict[str, dict[str, float]]:
    """By design: trials of the fixed one in %, and in % of studies what ``Outcome`` has.

    ``difference`` is the one that matters, in what the fixed design detects.
    """
    groups = TEST_SETS[test_set]
    unit = detectable(rows, groups)
    looks = SeedRounds(FIRST, MOST, difference * unit).targets
    parts: dict[str, list[Outcome]] = {name: [] for name in designs}
    for part in range(-(-studies // AT_ONCE)):
        noise = np.random.default_rng((rows, part))
        of = Studies(leads(kind, rows, unit), groups, min(AT_ONCE, studies), noise)
        for name in designs:
            taken = ((MOST,), (1.0,)) if name == "fixed" else (looks, shares_of(name, looks))
            parts[name].append(run(of, *taken, difference * unit))
    return {name: _summary(found, rows * MOST) for name, found in parts.items()}


def _summary(found: Sequence[Outcome], trials: int) -> dict[str, float]:
    together = {
        name: 100 * np.concatenate([getattr(one, name) for one in found]).mean(0)
        for name in ("trials", "found", "answered", "false", "covered")
    }
    covered = together.pop("covered")
    together["trials"] /= trials
    return {name: float(value) for name, value in together.items()} | {
        "covered": float(covered.mean()),
        "least covered": float(covered.min()),
    }


LEADS = ("0", "0.5", "1", "2", "0 to 3")
"""True leads of the first row over all others, in what the fixed design detects."""

DIFFERENCES = (1.0, 1.5, 2.0)
"""The one that matters, in the same."""


def main(studies: int) -> None:
    """Print both tables."""
    print(f"trials of the fixed design in %, at leads {', '.join(LEADS)}; best found: (fixed)")
    print("| rows | groups | difference | trials | best found | answered | false | covered |")
    print("|---|---|---|---|---|---|---|---|")
    for rows in (3, 8, 15):
        for test_set in ("30 equal", "10 unequal"):
            for difference in DIFFERENCES:
                found = [simulated(rows, test_set, kind, studies, difference) for kind in LEADS]
                cells = [str(rows), test_set, f"{difference:g}", *_cells(found)]
                print(f"| {' | '.join(cells)} |", flush=True)
    print("\n| spent | trials | best found, lead 1 | trials, lead 2 | false, lead 1 |")
    print("|---|---|---|---|---|")
    designs = ("fixed", *SPENT, EACH_ALIKE, NONE_SPENT)
    one, two = (simulated(8, "30 equal", kind, studies, 1.0, designs) for kind in ("1", "2"))
    for name in designs:
        parts = [one[name]["trials"], one[name]["found"], two[name]["trials"]]
        cells = [*(f"{part:.0f}" for part in parts), f"{one[name]['false']:.1f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _cells(found: Sequence[dict[str, dict[str, float]]]) -> list[str]:
    """Of the studies at each lead."""
    rounds, fixed = ([one[name] for one in found] for name in ("square", "fixed"))
    trials = ", ".join(f"{one['trials']:.0f}" for one in rounds)
    best, answered = (
        ", ".join(
            f"{own[name]:.0f} ({of[name]:.0f})" for own, of in zip(rounds, fixed, strict=True)
        )
        for name in ("found", "answered")
    )
    covered = [one["covered"] for one in rounds]
    false = max(one["false"] for one in rounds)
    return [trials, best, answered, f"{false:.1f}", f"{min(covered):.1f}–{max(covered):.1f}"]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
