"""How inputs that nobody thinks of are made and tried; called by the files test_fuzz_*."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from harness.errors import UserError

MAKER = settings(
    derandomize=True,
    database=None,
    deadline=20_000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
"""The same inputs on every machine; one that takes 20 seconds hangs."""

ODD = st.sampled_from(
    [
        *("", " ", "..", "../../x", "/etc/passwd", "~", "~x", ".", "a/b", "\x00", "\x1b[2J", "\n"),
        *("null", "true", "nan", "inf", "-1", "0", "1e400", "9" * 30, "9" * 5000, "0x10", "1_0"),
        *("${oc.env:HOME}", "${", "${seeds}", "*", "&a", "!!python/name:os.system", "[", "{", "'"),
        *("\ufeff", "\u202e", "\ud800", "é", "💥", "a" * 5000, "=", "+", ":", ",", "%s", "{0}"),
    ]
)
"""Text that trips programs."""

TEXTS = ODD | st.text(max_size=12)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def sentence(function: Callable[[], object]) -> str:
    """Call a reader: it works, or says one sentence; everything else is its mistake."""
    try:
        function()
    except UserError as error:
        said = str(error)
        assert said.strip()
        return said
    return ""
