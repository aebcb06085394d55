"""What the commands share: arguments, help and one-sentence errors."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TextIO, cast

from harness.errors import BAD_CONFIGURATION, DONE, INTERRUPTED, SOME_FAILED, UserError
from harness.errors.credentials import MaskedStream


def one_thread() -> None:
    """One thread per process, set before torch is imported.

    It is faster on small batches, and gives the same bits everywhere.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def flags(arguments: Sequence[str], known: Sequence[str]) -> tuple[set[str], list[str]]:
    """Split ``--flags`` from ``key=value`` arguments; UserError for a flag that does not exist."""
    given = {argument for argument in arguments if argument.startswith("-")}
    for flag in sorted(given):
        if flag not in known:
            raise UserError(
                f"unknown option {flag}; known: {', '.join(known)}; everything else is key=value"
            )
    return given, [argument for argument in arguments if not argument.startswith("-")]


def guarded(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run a command; a user's mistake becomes one sentence on stderr and exit code 2.

    Neither stream gets credentials, not even in the traceback of a mistake of ours.
    """
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, MaskedStream(stream)) for stream in streams)
    try:
        return _guarded(main, arguments)
    except Exception:
        traceback.print_exc()
        return SOME_FAILED
    finally:
        sys.stdout, sys.stderr = streams


def _guarded(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    try:
        return main(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_CONFIGURATION
    except KeyboardInterrupt:
        print("interrupted; nothing is lost, the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        # A folder that cannot be written, a full disk: what a trial meets itself is recorded with
        # the trial.
        print(
            f"error: {error.filename or 'file system'}: {error.strerror or error}", file=sys.stderr
        )
        return BAD_CONFIGURATION


def settings_help() -> str:
    """One line per key: name, default, meaning."""
    from harness.study.config import Study, leaves

    rows = [
        (key, default, help)
        for key, default, help in leaves(Study())
        if key not in {"name", "presets"}
    ]
    return "\n".join(
        f"  {key:28s} {help} [{'none' if default is None else default}]"
        for key, default, help in rows
    )
