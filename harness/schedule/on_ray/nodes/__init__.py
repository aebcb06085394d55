"""What nodes of a cluster do: they show that they are fit, are chosen for trials, and train."""

from __future__ import annotations

import signal

STACK = signal.SIGUSR1
"""Lets a worker write down where each of its threads is."""
