"""What stands in a report, in which order: the answer first, the evidence next, the way to repeat it last."""

from __future__ import annotations

from collections.abc import Sequence

from harness.findings import Findings
from harness.render import background, comparing, inside, origins, published, robust, search, status
from harness.render.document import Document, Section
from harness.results import dataset_name


def contents(findings: Findings, problems: Sequence[str], arguments: Sequence[str], *more: Section) -> Document:
    """The report; ``problems`` are what harness.results.verify found, ``arguments`` those of the command line.

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
