"""Mistakes that a user can mend, the sentences that say how, and the exit codes of commands."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

DONE, SOME_FAILED, BAD_CONFIGURATION, INTERRUPTED = 0, 1, 2, 130

MANY = 25
SHOWN = 3

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move a terminal's cursor, change its colours or turn text around, and halves of
characters. Lines and tabs are none of them.
"""


UNPRINTED = re.compile(f"{CONTROL.pattern}|\n")
"""What a sentence has none of."""


class UserError(Exception):
    """A mistake in a study, a key, a value or a path: one sentence with the way out.

    The command line exits with 2. What it quotes of a user's text is shown in one line, whatever
    characters it has.
    """

    def __str__(self) -> str:
        return UNPRINTED.sub(lambda found: ascii(found[0])[1:-1], super().__str__())


class TrialFailure(Exception):
    """Training cannot go on (a loss that is not a number, say): the trial is failed with this
    reason, the study goes on.
    """


def one_line(text: str) -> bool:
    """Whether a text is one line that every terminal shows as it is."""
    return CONTROL.search(text) is None and "\n" not in text


def shown(items: Iterable[object], most: int = SHOWN) -> str:
    """The first ones, and how many more there are: ``a, b, c and 5 more``."""
    names = [str(item) for item in items]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint that ends a sentence about an unknown name: the nearest known one, and all of them
    when they are few.
    """
    names = sorted(str(item) for item in known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else ";"
    return (
        f"{hint} --help lists all"
        if len(names) > MANY
        else f"{hint} known: {', '.join(names) or 'none'}"
    )


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist: ``unknown method 'hemi'; did you mean 'hemis'?
    known: ...``.
    """
    return UserError(f"unknown {kind} '{name}'{nearest(name, known)}")
