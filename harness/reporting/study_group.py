"""What a report says of studies that are ranked together, gathered once from the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.findings import Findings, analyse
from harness.analysis.results import Results, read
from harness.analysis.verification import verify
from harness.paper.findings import PaperFindings, paper_findings
from harness.reporting.sections.runs import TrackedRuns
from harness.robust.findings import BadSensors, bad_sensors
from harness.search.results import SearchResult, find_searches, search_problems
from harness.store import Store
from harness.study.merged_plan import Group
from harness.study.plan import Plan


@dataclass(frozen=True)
class StudyGroup:
    """One study, or several on equal terms.

    Attributes:
        plans: of each study.
        findings: what their numbers say together.
        paper: what the paper adds.
        searches: the searches of all of them.
        problems: one sentence per damaged trial.
        tracked: where a tracker shows the study; None where it does not.
        corrupted: what evaluations under corruptions say; None where there are none.
        arguments: those of the command line.
    """

    plans: Sequence[Plan]
    findings: Findings
    paper: PaperFindings
    searches: Sequence[SearchResult]
    problems: Sequence[str]
    tracked: TrackedRuns | None = None
    corrupted: BadSensors | None = None
    arguments: Sequence[str] = ()

    @property
    def results(self) -> Results:
        """What the store held."""
        return self.findings.results

    @property
    def plan(self) -> Plan:
        """All rows and trials."""
        return self.results.plan

    @property
    def name(self) -> str:
        """The names of its studies."""
        return self.plan.study.name

    @property
    def wrong(self) -> list[str]:
        """One sentence per trial that failed or is damaged."""
        holes = self.results.holes
        failed = [f"{hole.name}: {hole.reason}" for hole in holes if hole.state == "failed"]
        return [*failed, *self.problems, *search_problems(self.searches)]


def gather(
    group: Group,
    store: Store,
    tracked: TrackedRuns | None = None,
    arguments: Sequence[str] = (),
) -> StudyGroup:
    """Read the store once, check it, and compute everything that the report says of a group."""
    findings = analyse(read(group.plan, store))
    searches = [search for plan in group.plans for search in find_searches(plan, store)]
    problems = verify(group.plan, store)
    paper, corrupted = paper_findings(findings), bad_sensors(findings)
    return StudyGroup(
        group.plans, findings, paper, searches, problems, tracked, corrupted, arguments
    )
