"""Reports of one study for tests, and what is said of its results.

Called by tests of reports and of what reads them.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.findings import Findings
from harness.paper.findings import paper_findings
from harness.reporting.contents import contents
from harness.reporting.document import Document
from harness.reporting.publish import make_report
from harness.reporting.study_group import StudyGroup
from harness.reporting.write import Report
from harness.store import Store
from harness.study.plan import Plan


def write_report(plan: Plan, store: Store, arguments: Sequence[str] = ()) -> Report:
    """The report of one study, written."""
    return make_report([plan], store, arguments).write()


def document_of(findings: Findings, arguments: Sequence[str] = ()) -> Document:
    """The report of one study without damaged trials, as data."""
    group = StudyGroup([findings.results.plan], findings, paper_findings(findings), (), ())
    return contents(group.name, [group], arguments)
