"""How sentences of a report write names, values, differences and chances."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.protocol.metrics import Metric
from harness.reporting.text import ABSENT, number

MANY = 5
"""Names above which a sentence counts them."""

NEGLIGIBLE = 0.0005
"""p values below are printed as ``< 0.001``."""


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names as a sentence has them.

    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def some(names: Sequence[str], last: str = "and") -> str:
    """The same, the fourth and later ones counted where there are many.

    >>> some(["a", "b", "c", "d", "e", "f"], "or")
    'a, b, c or 3 others'
    """
    if len(names) > MANY:
        names = [*names[:3], f"{len(names) - 3} others"]
    return listed(names, last)


def with_unit(value: float, metric: Metric) -> str:
    """A value with its unit where it has one.

    >>> from dataclasses import replace
    >>> from harness.protocol.metrics import METRICS
    >>> with_unit(78.46, METRICS["accuracy"]), with_unit(3.2, replace(METRICS["acer"], unit="px"))
    ('78.5 %', '3.2 px')
    """
    return f"{number(value, metric)} {metric.unit}".rstrip()


def size(value: float, metric: Metric) -> str:
    """The size of a difference, one digit more than values have."""
    if not math.isfinite(value):
        return ABSENT
    return f"{abs(value):.{metric.decimals + 1}f}"


def signed(value: float, metric: Metric) -> str:
    """A difference with its sign; zero has none.

    >>> from harness.protocol.metrics import METRICS
    >>> [signed(value, METRICS["accuracy"]) for value in (-0.456, 0.456, 0.001)]
    ['−0.46', '+0.46', '0.00']
    """
    if math.isinf(value):
        return "+∞" if value > 0 else "−∞"
    text = size(value, metric)
    # By the text: what is rounded to zero is neither more nor less.
    if math.isnan(value) or float(text) == 0:
        return text
    return f"{'−' if value < 0 else '+'}{text}"


def interval(low: float, high: float, metric: Metric) -> str:
    """``−0.21 to +0.80``."""
    return f"{signed(low, metric)} to {signed(high, metric)}"


def p_value(p: float) -> str:
    """Three decimals.

    >>> p_value(0.0312), p_value(1e-9)
    ('0.031', '< 0.001')
    """
    return "< 0.001" if p < NEGLIGIBLE else f"{p:.3f}"


def percent(probability: float) -> str:
    """``99.5 %``."""
    return f"{100 * probability:.3g} %"


def points(difference: float, metric: Metric) -> str:
    """A difference of values as a user gave it.

    >>> from harness.protocol.metrics import METRICS
    >>> points(1.0, METRICS["accuracy"])
    '1 point'
    """
    if not metric.percent:
        return f"{difference:g} {metric.unit}".rstrip()
    return f"{difference:g} {'point' if difference == 1 else 'points'}"
