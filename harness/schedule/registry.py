"""The executors by the names that ``executor=NAME`` takes: one line each.

The names that a study may use, with their help, are those of ``executor`` in study/settings.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.schedule.executor import Executor
from harness.schedule.local import LocalExecutor
from harness.schedule.on_ray.executor import RayExecutor
from harness.study.config import ResourcesConfig, Study

EXECUTORS: dict[str, Callable[[ResourcesConfig, Path], Executor]] = {
    "ray": RayExecutor,
    "local": LocalExecutor,
}


def executor_of(study: Study) -> Executor:
    """The executor that a study names; Ray itself is imported when it first runs something."""
    return EXECUTORS[study.executor](study.resources, study.folder)
