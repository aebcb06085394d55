"""The lattice of modality subsets: names, masks and order (no torch).

A combination is a non-empty subset of a dataset's modalities. Its ``bits`` follow the usual coding
j = sum_v 2^v delta_v with modality v counted from 0 in the dataset's order, so j runs from 1 to 2^V
- 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import UserError, shown, unknown

MOST_MODALITIES = 10
"""Of a dataset: each of its 2^V - 1 combinations is evaluated and has a column."""


@dataclass(frozen=True)
class Combination:
    """One non-empty subset of the modalities, in the dataset's order."""

    members: tuple[str, ...]
    mask: tuple[bool, ...]

    @property
    def name(self) -> str:
        """The name shown everywhere: ``thumb+spectrum``."""
        return "+".join(self.members)

    @property
    def key(self) -> str:
        """The name where ``+`` is refused (MLflow): ``thumb.spectrum``."""
        return ".".join(self.members)

    @property
    def bits(self) -> int:
        """j = sum_v 2^v delta_v, in 1 .. 2^V - 1."""
        return sum(1 << v for v, present in enumerate(self.mask) if present)

    @property
    def size(self) -> int:
        """How many modalities are present."""
        return len(self.members)


def lattice(modalities: Sequence[str]) -> tuple[Combination, ...]:
    """All 2^V - 1 combinations, ordered by size, then by the dataset's order.

    UserError for more than MOST_MODALITIES.

    >>> [c.name for c in lattice(["a", "b", "c"])]
    ['a', 'b', 'c', 'a+b', 'a+c', 'b+c', 'a+b+c']
    """
    if len(modalities) > MOST_MODALITIES:
        raise UserError(
            f"there are {len(modalities)} modalities ({shown(modalities)}), and a model is"
            " evaluated on all 2^V - 1 combinations of V: at most"
            f" {MOST_MODALITIES} can be compared ({2**MOST_MODALITIES - 1:,} combinations)"
        )
    return tuple(
        _combination(modalities, chosen)
        for size in range(1, len(modalities) + 1)
        for chosen in itertools.combinations(modalities, size)
    )


def parse(name: str, modalities: Sequence[str]) -> Combination:
    """The combination called ``a+b`` or ``a.b``, its members in any order.

    UserError when a modality does not exist.
    """
    members = name.replace(".", "+").split("+")
    for member in members:
        if member not in modalities:
            raise unknown("modality", member, modalities)
    if len(set(members)) != len(members):
        raise UserError(f"combination '{name}' names a modality twice")
    return _combination(modalities, members)


def _combination(modalities: Sequence[str], chosen: Iterable[str]) -> Combination:
    mask = tuple(modality in set(chosen) for modality in modalities)
    return Combination(
        tuple(m for m, present in zip(modalities, mask, strict=True) if present), mask
    )
