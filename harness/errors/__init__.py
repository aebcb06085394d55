"""Mistakes that a user can mend, the sentences that say how, and the exit codes of commands."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable
from pathlib import Path

DONE, SOME_FAILED, BAD_CONFIGURATION, INTERRUPTED = 0, 1, 2, 130

MANY = 25
SHOWN = 3

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move a terminal's cursor, change its colours or turn text around, and halves of
characters. Lines and tabs are none of them.
"""


UNPRINTED = re.compile(f"{CONTROL.pattern}|\n")
"""What a sentence has none of."""


class Terminated(KeyboardInterrupt):
    """A signal other than Ctrl-C asked this process to end: SLURM, docker and systemd send SIGTERM,
    a closed terminal SIGHUP. Whatever ends cleanly at Ctrl-C does so here.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(f"signal {signal}")
        self.signal = signal


def interruption_code(interrupt: KeyboardInterrupt) -> int:
    """The exit code of a command that was interrupted: 128 and the number of the signal."""
    return 128 + interrupt.signal if isinstance(interrupt, Terminated) else INTERRUPTED


class UserError(Exception):
    """A mistake in a study, a key, a value or a path: one sentence with the way out.

    Several arguments are several sentences, a line each. The command line exits with 2. What it
    quotes of a user's text is shown in one line, whatever characters it has.
    """

    def __str__(self) -> str:
        return "\n".join(map(_in_one_line, map(str, self.args)))


def _in_one_line(sentence: str) -> str:
    return UNPRINTED.sub(lambda found: ascii(found[0])[1:-1], sentence)


class DiskError(UserError):
    """Something cannot be written: the disk is full, or the folder is read-only.

    No trial is to blame, and the next one would meet it too: nothing more is started, and the same
    command goes on once there is room.
    """


class TrialFailure(Exception):
    """Training cannot go on (a loss that is not a number, say): the trial is failed with this
    reason, the study goes on.
    """


FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def unwritable(path: Path, error: OSError) -> DiskError:
    """The sentence for a file that the system refuses to write, and the way out."""
    if error.errno in FULL:
        what = f"the disk of {path.parent} is full ({path.name} could not be written)"
        return DiskError(
            f"{what}; nothing that was there is lost: make room, and the same command goes on"
        )
    why = error.strerror or str(error)
    if error.errno in READ_ONLY:
        return DiskError(
            f"{path.parent} cannot be written to ({path.name}: {why}); give yourself the right to,"
            " or name another folder with output="
        )
    return DiskError(
        f"{path} cannot be written ({why}); nothing that was there is lost: repair that, and the"
        " same command goes on"
    )


LONGEST = 500
"""Characters of an error's text that stand in a sentence."""


def one_line(error: BaseException) -> str:
    """An error's text as one printable line; errors whose text cannot be made say so."""
    try:
        text = str(error)
    except BaseException as second:  # a method's own class may do anything here
        return f"(its text cannot be made: {type(second).__name__})"
    first = next((line for line in text.splitlines() if line.strip()), "")
    line = "".join(sign if sign.isprintable() else " " for sign in first).strip()
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def is_one_line(text: str) -> bool:
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
