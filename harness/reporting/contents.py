"""What stands in a report, in which order: the answer first, the evidence next, the way to repeat
it last.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.results import dataset_name
from harness.reporting.document import Document, Section
from harness.reporting.findings import Findings
from harness.reporting.sections import background, origins, search
from harness.reporting.sections import comparison as comparing
from harness.reporting.sections import published_numbers as published
from harness.reporting.sections import representations as inside
from harness.reporting.sections import robustness as robust
from harness.reporting.sections import store_state as status


def contents(
    findings: Findings, problems: Sequence[str], arguments: Sequence[str], *more: Section
) -> Document:
    """The report; ``problems`` are what harness.analysis.results.verify found, ``arguments`` those
    of the command line.

    ``more`` are sections that stand before the last.
    """
    results = findings.results
    study = results.plan.study
    sections = (
        comparing.answering(findings, problems),
        comparing.ranking(findings),
        comparing.result(findings),
        comparing.differences(findings),
        robust.robustness(findings),
        inside.representations(findings),
        published.published(findings),
        inside.claims(findings),
        search.search(findings),
        robust.cost(findings),
        background.methods(results),
        background.data(results),
        background.protocol(results),
        status.last_epoch(results, findings.comparison),
        status.remarks(results),
        status.collapsed(results),
        status.holes(results),
        status.damaged(results, problems),
        background.machines(results),
        *origins.origins(results),
        status.seeds(results),
        *more,
        background.reproduce(results, arguments),
    )
    title = f"{study.name} on {dataset_name(results.plan.spec)}"
    return Document(title, study.description or "The study has no description.", sections)
