"""Declared settings of methods and backbones: default, search range, and the checks that follow
from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError, unknown

Value = float | int | str | bool


@dataclass(frozen=True)
class Range:
    """One declared setting: its default, the closed interval or list of its legal values, and what
    it means.

    ``low`` and ``high`` also bound the default search; ``limits`` widens what a user may set beyond
    it. The type of the default is the type of the setting: a float reaches the training step as a
    0-d tensor, anything else stays a Python value. ``local`` marks a path of this machine (of a
    backbone's option): it is not part of a trial's identity. ``added_later`` marks a hyperparameter
    that was declared when trials of the method had been stored already, which all had its default:
    at that value it is no part of the identity, so that they keep their ids.
    """

    default: Value
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Value, ...] | None = None
    limits: tuple[float, float] | None = None
    help: str = ""
    local: bool = False
    added_later: bool = False

    def check(self, key: str, value: Any) -> Value:
        """``value`` in the declared type; UserError naming ``key`` when type or range are wrong."""
        typed = self._typed(key, value)
        if self.choices is not None and typed not in self.choices:
            raise unknown(f"value for {key}:", str(value), [str(choice) for choice in self.choices])
        if isinstance(typed, int | float):
            low, high = self.limits or (self.low, self.high)
            if (low is not None and typed < low) or (high is not None and typed > high):
                raise UserError(f"{key}={value} is outside its range [{low}, {high}]")
        return typed

    def _typed(self, key: str, value: Any) -> Value:
        wanted = type(self.default)
        if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise UserError(f"{key}={value} must be a finite number")
            return float(value)
        if type(value) is not wanted:
            raise UserError(
                f"{key}={value!r} is not a value of type {wanted.__name__} (default:"
                f" {self.default!r})"
            )
        return value

    def describe(self) -> str:
        """``default 0.001, search 1e-4..1e-2 (log)``."""
        if self.choices is not None:
            return f"default {self.default!r}, one of {', '.join(map(str, self.choices))}"
        described = f"default {self.default!r}"
        if self.low is not None:
            described += f", search {self.low:g}..{self.high:g}"
            described += " (log)" if self.log else ""
        return described


def resolve(
    kind: str, declared: Mapping[str, Range], given: Mapping[str, Any], prefix: str
) -> dict[str, Value]:
    """All declared settings with the given values checked and the rest at their defaults.

    UserError for an unknown key.
    """
    for key in given:
        if key not in declared:
            raise unknown(kind, f"{prefix}.{key}", [f"{prefix}.{known}" for known in declared])
    values: dict[str, Value] = {}
    for key, setting in declared.items():
        values[key] = setting.default
        if key in given:
            values[key] = setting.check(f"{prefix}.{key}", given[key])
    return values
