"""From the store to a study's looks at its results, in order, and to the round that follows.

A look depends on the trials of its round and of those before it, and on nothing else: whoever asks,
and after whatever interruption, gets the same rounds. session.py runs them; the commands that read
a store ask for the plan as it is at the last one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.analysis.ranking import Unranked, ranking
from harness.analysis.results import read
from harness.analysis.rounds.questions import (
    above,
    over_samples,
    over_seeds,
    seeds_help,
    times_as_large,
    within,
)
from harness.analysis.statistics import (
    AVERAGE,
    Difference,
    Estimate,
    RowSamples,
    averaged,
    row_samples,
)
from harness.analysis.statistics.decisions import best_level
from harness.store import Store
from harness.study.plan import Plan
from harness.study.seed_rounds import (
    ABOVE,
    BUDGET,
    CANNOT,
    CLOSED,
    MOST,
    OPEN,
    WITHIN,
    Look,
    Question,
    Rounds,
)


def with_rounds(plan: Plan, store: Store) -> Plan:
    """The plan with the seeds of the round that is going on, or of the last one.

    The same plan where seeds do not come in rounds.
    """
    if plan.study.seed_rounds is None:
        return plan
    labels = [row.label for row in plan.rows]
    current = plan.at(Rounds.begun(plan.study.seed_rounds, labels))
    while (look := _look(current, store)) is not None:
        following = _following(current, look)
        current = current.at(following)
        if following.ending:
            break
    return current


# ---------------------------------------------------------------------- a look


def _look(plan: Plan, store: Store) -> Look | None:
    """What the plan's trials say; None where some of them are not there yet, or have failed."""
    results, rounds = read(plan, store), plan.rounds
    assert rounds is not None
    samples = row_samples(results)
    rows = list(samples.values())
    try:
        found = averaged(rows, results.metric.higher_is_better, plan.share)
        ranked = ranking(results, AVERAGE, found)
    except Unranked:
        return None
    level = best_level(len(ranked.places), plan.share)
    best = ranked.places[0].label if ranked.places else ""
    asked = Asked(rounds, best, level, _last_level(rounds, len(ranked.places)), _units(rows))
    questions = [asked.of(one) for one in ranked.differences if best in (one.first, one.second)]
    return Look(max(rounds.seeds.values()), plan.size, level, best, tuple(questions))


def _last_level(rounds: Rounds, rows: int) -> float:
    """The most favourable level of the looks that may follow; this one's where none does."""
    shares = rounds.settings.shares_after(max(rounds.seeds.values()))
    return best_level(rows, max(shares, default=rounds.share))


def _units(rows: Sequence[RowSamples]) -> int:
    """How many independent parts the test set has: its groups, or its samples."""
    if not rows:
        return 0
    groups, samples = rows[0].groups, rows[0].values.shape[2]
    return samples if groups is None else int(groups.max()) + 1


@dataclass(frozen=True)
class Asked:
    """What all questions of a look have in common."""

    rounds: Rounds
    best: str
    level: float
    last_level: float
    units: int

    def of(self, one: Difference) -> Question:
        """The question of the row that is not the best."""
        found, matters = one.estimate, self.rounds.settings.difference
        is_first = one.first == self.best
        sign = 1 if is_first == one.higher_is_better else -1
        low, high = sorted(sign * end for end in found.interval(self.level))
        lead = sign * found.corrected
        beaten = low > 0 and not found.too_few_groups
        alone = over_samples(found, self.last_level)
        state, short = OPEN, None
        if found.too_few_groups:
            state = CANNOT
        elif above(low, matters):
            state = ABOVE
        elif within(low, high, matters):
            state = WITHIN
        elif not seeds_help(lead, over_seeds(found), alone, beaten, matters):
            state = CANNOT
        if state == CANNOT:
            short = self._short(found, lead)
        label = one.second if is_first else one.first
        return Question(label, lead, low, high, state, beaten, short)

    def _short(self, found: Estimate, lead: float) -> int | None:
        """How many more groups or samples it would take with as many seeds as a row may get."""
        settings = self.rounds.settings
        factor = times_as_large(found, lead, settings.difference, settings.most, self.last_level)
        return None if factor is None else math.ceil((factor - 1) * self.units)


# ---------------------------------------------------------------------- what follows it


def _following(plan: Plan, look: Look) -> Rounds:
    """The next round, or why there is none."""
    now = plan.rounds
    assert now is not None
    looks, settings = (*now.looks, look), now.settings
    asked = look.labels(OPEN)
    targets = [target for target in settings.targets if target > look.seeds]
    if not asked:
        return replace(now, looks=looks, ending=CANNOT if look.labels(CANNOT) else CLOSED)
    if not targets:
        return replace(now, looks=looks, ending=MOST)
    rows = [look.best, *asked]
    seeds = targets[0]
    if settings.budget is not None:
        seeds = _affordable(now, rows, targets[0], settings.budget - plan.size)
    if seeds <= look.seeds:
        return replace(now, looks=looks, ending=BUDGET)
    more = dict(now.seeds) | {row: max(now.seeds[row], seeds) for row in rows}
    return Rounds(settings, more, settings.share(seeds, look.seeds), looks)


def _affordable(now: Rounds, rows: Sequence[str], target: int, left: int) -> int:
    """The most seeds, up to the target, that some rows can have with so many trials left."""
    affordable = (
        seeds
        for seeds in range(target, 0, -1)
        if sum(max(0, seeds - now.seeds[row]) for row in rows) <= left
    )
    return next(affordable, 0)
