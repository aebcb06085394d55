"""``report.presence``: how likely each combination of modalities is where a model is used.

It decides what a report says, never what is trained. V modalities, C = 2^V - 1 combinations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real

from harness.errors import UserError, unknown
from harness.protocol.combinations import lattice, parse
from harness.protocol.presence import Presence, independent

KEY = "report.presence"
NOTHING = "none"
"""The name of what a profile calls the case that no modality is present."""

TOLERANCE = 1e-6
"""By how much the probabilities of combinations may miss 1."""

ENTRY = "{combination: a+b, probability: 0.9}"


def presence(value: object, names: Sequence[str]) -> Presence | None:
    """The profile that a study gives; None for none.

    ``{modality: probability}``, where a modality that is not named is always present, or a list of
    ``{combination: a+b, probability: 0.9}``, whose probabilities make 1 and in which ``none`` is
    the case that nothing is present. UserError for anything else.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        found = independent(_chances(value, names))
    elif isinstance(value, list):
        found = _joint(value, names)
    else:
        raise UserError(
            f"{KEY}={value} must be a probability for each modality, such as"
            f" {KEY}.{names[0]}=0.9, or a list of combinations, such as {KEY}=[{ENTRY}]"
        )
    if not any(found.probabilities):
        raise UserError(
            f"{KEY} says that nothing is ever present; give at least one modality a probability"
            " above 0"
        )
    return found


def _chances(value: Mapping[object, object], names: Sequence[str]) -> dict[str, float]:
    for name in value:
        if name not in names:
            raise UserError(f"{KEY}: {unknown('modality', str(name), names)}")
    return {name: _probability(value.get(name, 1.0), f"{KEY}.{name}") for name in names}


def _joint(entries: Sequence[object], names: Sequence[str]) -> Presence:
    given: dict[str, float] = {}
    for entry in entries:
        if not isinstance(entry, Mapping) or set(entry) != {"combination", "probability"}:
            raise UserError(f"{KEY}: {entry} must be of the form {ENTRY}")
        name = _combination(str(entry["combination"]), names)
        if name in given:
            raise UserError(f"{KEY} gives {name or NOTHING} twice")
        given[name] = _probability(entry["probability"], f"{KEY}, {name or NOTHING}")
    total = math.fsum(given.values())
    if abs(total - 1) > TOLERANCE:
        raise UserError(
            f"{KEY}: the probabilities make {total:.6g}, and they must make 1; {NOTHING} is the"
            " combination of no modality"
        )
    probabilities = tuple(given.get(one.name, 0.0) / total for one in lattice(names))
    return Presence(tuple(names), probabilities, given.get("", 0.0) / total, False)


def _combination(name: str, names: Sequence[str]) -> str:
    """The combination's own name; empty for ``none``, unless a modality is called so."""
    if name == NOTHING and NOTHING not in names:
        return ""
    try:
        return parse(name, names).name
    except UserError as error:
        raise UserError(f"{KEY}: {error}") from error


def _probability(value: object, what: str) -> float:
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 <= float(value) <= 1:  # type: ignore[arg-type]
        raise UserError(
            f"{what}={value} is no probability: give a number from 0 (never there) to 1 (always"
            " there)"
        )
    return float(value)  # type: ignore[arg-type]
