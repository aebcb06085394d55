"""Seeds in rounds: ``seeds: {first: 3, most: 20, difference: 1.0}``.

All rows get the first seeds; then rounds of further seeds go to the rows whose question is open.
What a round asks is decided in analysis/rounds, from what the store holds; this is its settings and
what was found. One looks at the results several times, and each look has a part of the 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from harness.errors import UserError, unknown

KEYS = ("first", "most", "difference", "budget")
EXAMPLE = "seeds={first: 3, most: 20, difference: 1.0}"

FEWEST = 3
"""Seeds from which intervals are calibrated."""

MANY = 1000
GROWTH = 1.6
"""About by what the seeds grow from look to look: 3, 5, 8, 12, 20."""


@dataclass(frozen=True)
class SeedRounds:
    """The settings.

    Attributes:
        first: seeds that every row gets.
        most: seeds that no row goes beyond.
        difference: from the best row that matters, in the metric's unit.
        budget: at most so many trials of rows; None for no limit.
    """

    first: int
    most: int
    difference: float
    budget: int | None = None

    @property
    def targets(self) -> tuple[int, ...]:
        """How many seeds a row in question has at each look, if there are all of them.

        >>> SeedRounds(3, 20, 1.0).targets, SeedRounds(3, 8, 1.0).targets
        ((3, 5, 8, 12, 20), (3, 5, 8))
        """
        ratio = self.most / self.first
        steps = max(1, round(math.log(ratio) / math.log(GROWTH)))
        found = [round(self.first * ratio ** (step / steps)) for step in range(steps + 1)]
        return tuple(dict.fromkeys(found))

    def share(self, seeds: int, before: int = 0) -> float:
        """The part of the 5 % that a look with so many seeds has, the last one having had
        ``before``.

        What is spent grows with the square of the seeds: little at the first looks, which find
        large differences anyway, and most at the last. The parts add up to 1, so that all looks
        together make a false statement as often as one (Bonferroni). Equal parts lose power, and
        O'Brien and Fleming's gain little (tests/benchmarks/README.md).

        >>> SeedRounds(3, 6, 1.0).share(3), SeedRounds(3, 6, 1.0).share(6, before=3)
        (0.25, 0.75)
        """
        return (seeds**2 - before**2) / self.most**2

    def shares_after(self, seeds: int) -> list[float]:
        """Those of the looks that may come after one with so many seeds."""
        later = [seeds, *(target for target in self.targets if target > seeds)]
        return [self.share(of, before) for before, of in pairwise(later)]

    def as_setting(self) -> dict[str, int | float]:
        """The mapping that a study has under ``seeds``."""
        given = {key: getattr(self, key) for key in KEYS}
        return {key: value for key, value in given.items() if value is not None}


def read_seed_rounds(given: Mapping[str, Any]) -> SeedRounds:
    """The settings from the mapping under ``seeds``; UserError for one that says nothing clear."""
    for key in given:
        if key not in KEYS:
            raise unknown("key in seeds", str(key), KEYS)
    lacking = [key for key in KEYS[:3] if given.get(key) is None]
    if lacking:
        raise UserError(f"seeds lacks {' and '.join(lacking)}; give all, such as {EXAMPLE}")
    for key in ("first", "most", "budget"):
        value = given.get(key)
        if value is not None and (type(value) is not int or value < 1):
            raise UserError(f"seeds.{key}={value} must be a whole number, at least 1")
    difference = given["difference"]
    if type(difference) not in (int, float) or not 0 < difference < math.inf:
        raise UserError(
            f"seeds.difference={difference} must be a number above 0, in the metric's unit"
        )
    found = SeedRounds(given["first"], given["most"], float(difference), given.get("budget"))
    if found.first < FEWEST:
        raise UserError(
            f"seeds.first={found.first}: with fewer than {FEWEST} seeds intervals are not"
            f" calibrated, and nothing can be decided; give at least {FEWEST}"
        )
    if not found.first < found.most <= MANY:
        raise UserError(
            f"seeds.most={found.most} must be above seeds.first={found.first} and at most {MANY};"
            " a list, such as seeds=[0,1,2], has no rounds"
        )
    return found


# ---------------------------------------------------------------------- what was found

OPEN, CANNOT = "open", "cannot be decided on this test set"
ABOVE, WITHIN = "above", "within"

CLOSED, MOST, BUDGET = "closed", "most", "budget"
"""Why there is no further round, beside CANNOT."""


@dataclass(frozen=True)
class Question:
    """By how much a row is behind the best one, as far as a look can tell.

    Attributes:
        label: the row.
        value, low, high: the best row's lead in the metric's unit, and its interval at the look's
            level.
        state: ABOVE the difference that matters; WITHIN it, to both sides; OPEN; or CANNOT, where
            more seeds would not help.
        beaten: whether it is shown to be worse.
        short: how many more groups of test samples (samples, where they are independent) it would
            take if the lead is what it seems; None where it does not arise, or none would do.
    """

    label: str
    value: float
    low: float
    high: float
    state: str
    beaten: bool
    short: int | None = None


@dataclass(frozen=True)
class Look:
    """One look at the results.

    Attributes:
        seeds: of the rows that were in question.
        trials: of rows, that were there.
        level: two-sided, of one comparison with the best.
        best: the row with the best average.
        questions: of all other rows.
    """

    seeds: int
    trials: int
    level: float
    best: str
    questions: tuple[Question, ...]

    def labels(self, state: str) -> list[str]:
        """The rows whose question is in a state."""
        return [one.label for one in self.questions if one.state == state]


@dataclass(frozen=True)
class Rounds:
    """How far the rounds of a study are.

    Attributes:
        settings: those of the study.
        seeds: how many each row has, or gets in the round that is going on.
        share: the part of the 5 % that decisions with these seeds have.
        looks: those taken, in order.
        ending: why there is no further round; empty while they go on.
    """

    settings: SeedRounds
    seeds: Mapping[str, int]
    share: float
    looks: tuple[Look, ...] = ()
    ending: str = ""

    @classmethod
    def begun(cls, settings: SeedRounds, labels: list[str]) -> Rounds:
        """All rows with their first seeds."""
        first = settings.first
        return cls(settings, dict.fromkeys(labels, first), settings.share(first))

    @property
    def number(self) -> int:
        """Of the round that is going on, or was the last; from 1."""
        return len(self.looks) + (not self.ending)

    @property
    def name(self) -> str:
        """``round 2 of at most 3``."""
        return f"round {self.number} of at most {len(self.settings.targets)}"
