"""What a tracker is: it mirrors what the store and the report say to where users compare runs.

A tracker implements ``Tracker`` in a folder or file of its own (tracking/mlflow/) and is listed in
tracking/registry.py. harness/session.py and harness/report.py call it, through tracking/mirror.py
and tracking/background.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.analysis.findings import Findings
from harness.errors import UserError
from harness.reporting.document import Document
from harness.reporting.sections.runs import TrackedRuns
from harness.robust.findings import BadSensors
from harness.store import Store
from harness.study.plan import Plan, PlannedTrial


class TrackingError(UserError):
    """A tracker could not be reached or refused; the store is untouched.

    The message is one sentence with the reason and the way to replay.
    """


class Tracker(ABC):
    """Mirrors one study; methods that mirror raise TrackingError and may be called from any thread.

    The store and the report are the truth: each method brings the tracker up to them and may be
    called again at any time.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.study = plan.study
        self.store = Store.below(plan.study.output)

    @abstractmethod
    def mirror_trial(self, trial: PlannedTrial, corrupted: BadSensors | None = None) -> None:
        """What the store knows of a trial: settings, epochs, and once it is done its record.

        ``corrupted``: what evaluations under corruptions say of the study's rows and trials; None
        while trials run, when what is shown of them stays.

        Its weights too, where the study's ``tracking.weights`` asks for them. A trial that has
        neither finished an epoch nor failed is nothing to mirror.
        """

    @abstractmethod
    def mirror_comparison(
        self,
        findings: Findings,
        problems: Sequence[str] = (),
        corrupted: BadSensors | None = None,
    ) -> None:
        """What the findings say about each row; ``problems``: one sentence per damaged trial.

        ``corrupted``: what evaluations under corruptions say; None where there are none.
        """

    @abstractmethod
    def mirror_study(
        self,
        artifacts: Sequence[Path],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        document: Document | None = None,
    ) -> None:
        """The study's own page: its report files, what they say, a few numbers and texts."""

    @abstractmethod
    def explain(self, error: Exception) -> str:
        """One sentence: what is wrong, that nothing is lost, and how to replay."""

    def open(self) -> None:  # noqa: B027  # optional
        """Make ready to mirror, such as make a database: called while the first trials start up.

        Raises what the methods that mirror raise. By default there is nothing to do.
        """

    def runs(self) -> TrackedRuns | None:
        """Where rows and trials are, for the report; None where it cannot lead there.

        Asks the disk alone, since a report is also written when the tracker is away.
        """
        return None

    def how_to_open(self) -> list[str]:
        """Lines for the console: how a user looks at what was mirrored."""
        return []

    def up_to_date(self) -> bool:
        """Whether all that the store has now was mirrored before; asks the disk alone."""
        return False
