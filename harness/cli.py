"""What the commands share: arguments, help and one-sentence errors."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TextIO, cast

from harness.errors import (
    BAD_CONFIGURATION,
    FULL,
    SOME_FAILED,
    Terminated,
    UserError,
    interruption_code,
    unwritable,
)
from harness.errors.credentials import MaskedStream


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
    _end_like_ctrl_c()
    _compute_in_one_thread()
    _open_what_is_closed()
    # As it ends, the interpreter would search all that was imported for garbage: two seconds.
    atexit.register(gc.freeze)
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
    except KeyboardInterrupt as interrupt:
        print("interrupted; nothing is lost, the same command goes on", file=sys.stderr)
        return interruption_code(interrupt)
    except SystemExit as error:
        # No command of ours ends like this.
        print(
            "error: the code of a method, dataset or backbone ended the process (sys.exit,"
            f" {error.code!r}); take that out of it",
            file=sys.stderr,
        )
        return BAD_CONFIGURATION
    except OSError as error:
        # What the store writes has sentences of its own; this is anything else.
        full = error.errno in FULL and error.filename is not None
        sentence = unwritable(Path(os.fsdecode(error.filename)), error) if full else _said(error)
        print(f"error: {sentence}", file=sys.stderr)
        return BAD_CONFIGURATION


def _said(error: OSError) -> str:
    return f"{error.filename or 'file system'}: {error.strerror or error}"


def _end_like_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP interrupt the command as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        return
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # Under nohup SIGHUP is ignored, and stays so.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)


def _compute_in_one_thread() -> None:
    """Also in what this process starts, and whether or not torch is imported already.

    It gives the same bits everywhere, and is faster: threads that share small tensors wait for each
    other, on a busy machine for milliseconds each time. The user's own number wins.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def _open_what_is_closed() -> None:
    """Streams that a service manager closed write nowhere, so that no file of ours gets their
    numbers.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


SAME_REQUEST_SECONDS = 10.0
"""Service managers and people repeat a signal; a later one ends the process whatever it does."""


def _terminate(number: int, frame: FrameType | None) -> None:
    first = time.monotonic()

    def again(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - first > SAME_REQUEST_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(number, again)
    raise Terminated(number)


def settings_help() -> str:
    """One line per key: name, default, meaning."""
    from harness.study.settings import Study, leaves

    rows = [
        (key, default, help)
        for key, default, help in leaves(Study())
        if key not in {"name", "presets"}
    ]
    return "\n".join(
        f"  {key:28s} {help} [{'none' if default is None else default}]"
        for key, default, help in rows
    )
