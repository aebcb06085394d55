"""The trackers by name, one line each, and the one place where a tracker is made."""

from __future__ import annotations

from collections.abc import Callable

from harness.reporting.sections.runs import TrackedRuns
from harness.study.plan import Plan
from harness.tracking.mlflow.tracker import MLflowTracker
from harness.tracking.tracker import Tracker

DEFAULT = "mlflow"
TRACKERS: dict[str, Callable[[Plan], Tracker]] = {
    DEFAULT: MLflowTracker,
}


def tracker_of(plan: Plan) -> Tracker:
    """The tracker that ``tracking.uri=NAME:...`` names; MLflow for any other URI, or none."""
    name = (plan.study.tracking.uri or "").partition(":")[0]
    return TRACKERS.get(name, TRACKERS[DEFAULT])(plan)


def tracked_runs(plan: Plan) -> TrackedRuns | None:
    """Where the study's runs are; None where it is not tracked, or not yet by this machine."""
    return tracker_of(plan).runs() if plan.study.tracking.enabled else None
