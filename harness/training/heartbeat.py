"""Signs of life of the trial that this process runs.

Training and evaluation give one per batch, who waits for a trial's lock while it waits; executors
listen, and end a trial that has been silent for too long (schedule/watch.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[], None]] = []


def beat() -> None:
    """Say that the trial of this process has done another step."""
    for listener in _listeners:
        listener()


@contextmanager
def heard_by(listener: Callable[[], None]) -> Iterator[None]:
    """Call the listener at every step while the context is open."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
