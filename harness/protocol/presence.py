"""How likely each combination of modalities is: in use, and in training samples.

V modalities, C = 2^V - 1 combinations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.protocol.combinations import lattice


@dataclass(frozen=True)
class Presence:
    """A presence profile.

    Attributes:
        names: the modalities.
        probabilities: (C,) of each combination, in the order of the lattice.
        nothing: the probability that no modality is present; with the others it makes 1.
        independent: whether it was given as a chance per modality.
    """

    names: tuple[str, ...]
    probabilities: tuple[float, ...]
    nothing: float
    independent: bool

    @property
    def chances(self) -> dict[str, float]:
        """The probability that each modality is present."""
        weighted = list(zip(self.probabilities, lattice(self.names), strict=True))
        chances = {}
        for name in self.names:
            chances[name] = math.fsum(p for p, c in weighted if name in c.members)
        return chances


def independent(chances: Mapping[str, float]) -> Presence:
    """The profile of modalities that are present independently of each other."""
    probabilities = []
    for combination in lattice(tuple(chances)):
        pairs = zip(chances.values(), combination.mask, strict=True)
        factors = (chance if present else 1 - chance for chance, present in pairs)
        probabilities.append(math.prod(factors))
    nothing = math.prod(1 - chance for chance in chances.values())
    return Presence(tuple(chances), tuple(probabilities), nothing, True)


def after(causes: Sequence[tuple[int, float]], names: tuple[str, ...]) -> Presence:
    """The profile of what independent causes leave of the modalities ``names``.

    A cause (bits, p) takes all modalities of its bits (see ``Combination.bits``) with probability
    p; what several causes take is gone. The common-cause failures of Marshall and Olkin (J. Am.
    Stat. Assoc. 62, 1967).
    """
    everything = (1 << len(names)) - 1
    left = [0.0] * everything + [1.0]
    for bits, p in causes:
        after_it = [(1 - p) * chance for chance in left]
        for state, chance in enumerate(left):
            after_it[state & ~bits] += p * chance
        left = after_it
    probabilities = tuple(left[combination.bits] for combination in lattice(names))
    return Presence(names, probabilities, left[0], False)
