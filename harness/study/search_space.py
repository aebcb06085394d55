"""The ``search:`` block of a study: which methods, over which values, with how many points and
seeds. Optuna is not needed here.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.errors import UserError, unknown
from harness.protocol.hyperparameters import Range, Value
from harness.training.recipe import setting

SAMPLERS = ("tpe", "random", "grid")
BOUNDS = ("low", "high", "log")
DEFAULT_TRIALS = 20
LARGEST_SEED = 2**31 - 1
Point = dict[str, Value]


@dataclass
class SearchConfig:
    """A search of hyperparameters on val; ``methods``, ``space`` or ``trials`` switch it on."""

    methods: list[str] = field(
        default_factory=list,
        metadata={
            "help": "labels of the rows to search; default: all that have something to search"
        },
    )
    space: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": (
                "search.space.<method>.<name>: [values] or {low, high, log}; default: the method's"
                " declared ranges"
            )
        },
    )
    sampler: str = setting(
        "tpe", "how points are chosen; lists alone are enumerated by any of them", choices=SAMPLERS
    )
    trials: int | None = setting(
        None, f"points per method; default: the whole grid of lists, else {DEFAULT_TRIALS}", low=1
    )
    parallel: int = setting(
        4, "points in work at once per method; tpe learns from one such group to the next", low=1
    )
    seeds: list[int] = field(
        default_factory=lambda: [100, 101, 102],
        metadata={"help": "seeds of every point; none of the study's own"},
    )
    sampler_seed: int = setting(0, "seed of the choice of points", low=0)

    @property
    def wanted(self) -> bool:
        """Whether the study searches at all."""
        return bool(self.methods or self.space or self.trials is not None)


def check_seeds(key: str, seeds: Sequence[object]) -> None:
    """UserError unless seeds are different whole numbers that a generator takes."""
    numbers = [seed for seed in seeds if type(seed) is int and 0 <= seed <= LARGEST_SEED]
    if len(numbers) != len(seeds) or len(set(numbers)) != len(numbers):
        raise UserError(
            f"{key}={list(seeds)} must be different whole numbers, not negative and at most"
            f" {LARGEST_SEED}"
        )


def check_search(search: SearchConfig, seeds: Sequence[int]) -> None:
    """UserError for methods that are no names, and when the tuning seeds are none, negative,
    repeated, or also the study's own.
    """
    if not search.wanted:
        return
    for name in search.methods:
        if not isinstance(name, str):
            raise UserError(
                f"search.methods: {name} must be the name of a row, such as search.methods=[dmrnet]"
            )
    if not search.seeds:
        raise UserError("search.seeds is empty; name at least one, such as search.seeds=[100,101]")
    check_seeds("search.seeds", search.seeds)
    shared = sorted(set(search.seeds) & set(seeds))
    if shared:
        raise UserError(
            f"search.seeds={search.seeds} and seeds={list(seeds)} share"
            f" {', '.join(map(str, shared))}; a winner is measured on seeds that its search has not"
            " seen"
        )


@dataclass(frozen=True)
class Axis:
    """One searched hyperparameter: the values of a list (of an integer range, all of it), or an
    interval of numbers.
    """

    name: str
    values: Sequence[Value] = ()
    low: float = math.nan
    high: float = math.nan
    log: bool = False

    def has(self, value: Value) -> bool:
        """Whether a value is on the axis."""
        return (
            value in self.values
            if self.values
            else isinstance(value, float) and self.low <= value <= self.high
        )

    def describe(self) -> str:
        """``alpha 0.0001, 0.001, 0.01`` or ``alpha 0.0001..0.01 (log)``."""
        if isinstance(self.values, range):
            return f"{self.name} {self.values[0]}..{self.values[-1]}"
        if self.values:
            return (
                f"{self.name}"
                f" {', '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in self.values)}"
            )
        return f"{self.name} {self.low:g}..{self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Space:
    """The axes of one search."""

    axes: tuple[Axis, ...]

    @property
    def size(self) -> int | None:
        """How many points there are; None when some axis is an interval."""
        return (
            math.prod(len(axis.values) for axis in self.axes)
            if all(axis.values for axis in self.axes)
            else None
        )

    def has(self, point: Mapping[str, Value]) -> bool:
        """Whether a point lies in the space."""
        return all(axis.has(point[axis.name]) for axis in self.axes)

    def restricted(self, hparams: Mapping[str, Value]) -> Point:
        """The values of the searched hyperparameters among all of a row's."""
        return {axis.name: hparams[axis.name] for axis in self.axes}

    def points(self, count: int, first: Point, seed: int) -> list[Point]:
        """Points of a space without intervals, each once: all in the order of the lists, or
        ``count`` drawn without repetition.

        ``first`` comes first where the space has it.
        """
        size = self.size
        assert size is not None
        if count >= size:
            chosen = list(map(self._point, itertools.product(*(axis.values for axis in self.axes))))
        else:
            chosen = [self._point(self._at(number)) for number in _distinct(size, count + 1, seed)]
        start = [first] if self.has(first) else []
        return [*start, *(point for point in chosen if point not in start)][: min(count, size)]

    def _point(self, values: Sequence[Value]) -> Point:
        return {axis.name: value for axis, value in zip(self.axes, values, strict=True)}

    def _at(self, number: int) -> list[Value]:
        """The values of one point by its place in the product.

        The product itself may be too large to be listed.
        """
        values: list[Value] = []
        for axis in reversed(self.axes):
            number, place = divmod(number, len(axis.values))
            values.append(axis.values[place])
        return values[::-1]


def _distinct(size: int, count: int, seed: int) -> list[int]:
    """Different numbers below ``size``; the first ones stay when more are asked for."""
    generator = random.Random(seed)
    found: dict[int, None] = {}
    while len(found) < count:
        found[generator.randrange(size)] = None
    return list(found)


def declared_axes(declared: Mapping[str, Range]) -> list[Axis]:
    """The axes of the ranges that a method declares for its search."""
    return [
        _interval(name, found, found.low, found.high, found.log)
        for name, found in declared.items()
        if _searchable(found)
    ]


def _searchable(found: Range) -> bool:
    return found.low is not None and found.high is not None and found.low < found.high


def _interval(name: str, declared: Range, low: float | None, high: float | None, log: bool) -> Axis:
    assert low is not None and high is not None
    if isinstance(declared.default, float):
        return Axis(name, (), float(low), float(high), log)
    return Axis(name, range(int(low), int(high) + 1))


def given_axes(method: str, declared: Mapping[str, Range], given: Any) -> list[Axis]:
    """The axes of ``search.space.<method>``.

    UserError for whatever the method's hyperparameters do not allow.
    """
    key = f"search.space.{method}"
    if not isinstance(given, Mapping) or not given:
        raise UserError(
            f"{key}={given} must be a block of hyperparameters, such as"
            f" {key}.{next(iter(declared), 'alpha')}=[...]"
        )
    for name in given:
        if name not in declared:
            raise unknown(
                "hyperparameter", f"{key}.{name}", [f"{key}.{known}" for known in declared]
            )
    return [
        _given_axis(f"{key}.{name}", name, declared[name], values) for name, values in given.items()
    ]


def _given_axis(key: str, name: str, declared: Range, given: Any) -> Axis:
    if isinstance(given, list):
        values = [declared.check(key, value) for value in given]
        if len(values) < 2 or len(set(values)) != len(values):
            raise UserError(
                f"{key}={given} must hold at least two values, all different; one value belongs"
                " into hparams"
            )
        return Axis(name, tuple(values))
    if not isinstance(given, Mapping):
        raise UserError(
            f"{key}={given} must be a list of values or {{low: ..., high: ...}}; one value belongs"
            " into hparams"
        )
    for bound in given:
        if bound not in BOUNDS:
            raise unknown("key", f"{key}.{bound}", [f"{key}.{known}" for known in BOUNDS])
    return _bounded(key, name, declared, given)


def _bounded(key: str, name: str, declared: Range, given: Mapping[str, Any]) -> Axis:
    """An interval, whose bounds are the declared ones where they are not given."""
    if isinstance(declared.default, bool | str):
        raise UserError(f"{key} has no order, so it has no low and high; give a list of its values")
    low, high = (given.get(bound, getattr(declared, bound)) for bound in ("low", "high"))
    log = given.get("log", declared.log)
    if low is None or high is None:
        raise UserError(f"{key} needs low and high; the method declares no range of its own for it")
    if not isinstance(log, bool):
        raise UserError(f"{key}.log={log} must be true or false")
    low, high = (
        float(declared.check(f"{key}.{bound}", value))
        for bound, value in (("low", low), ("high", high))
    )
    if not low < high or (log and low <= 0):
        raise UserError(
            f"{key}: low={low} must be less than"
            f" high={high}{', and above 0 where log is true' if log else ''}"
        )
    return _interval(name, declared, low, high, log)
