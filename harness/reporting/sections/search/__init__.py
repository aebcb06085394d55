"""The report's section on the search: budgets, what was found, its surface with its noise, and what
the study's own values lose.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.findings import Findings
from harness.reporting.document import Block, Code, Paragraph, Section, bullets, section
from harness.reporting.sections.search.figures import curve, surface
from harness.reporting.sections.search.sentences import lines
from harness.reporting.sections.search.tables import budgets, importance, on_test, points
from harness.reporting.sections.search.texts import title
from harness.reporting.wording import listed
from harness.search.plan import JOURNAL, SEARCHED
from harness.search.results import SearchResult

TITLE = "Search"
NO_SEARCH = "This study searches no hyperparameters: each row has those listed with its method."
ELSEWHERE = (
    f"The rows called {SEARCHED} have values that a search found; its journal and its trials on val"
    " are not here."
)


def search(findings: Findings, found: Sequence[SearchResult]) -> Section:
    """How hyperparameters were found; a sentence for a study that searches none."""
    if not found:
        elsewhere = any(row.label.endswith(SEARCHED) for row in findings.results.plan.rows)
        return section(TITLE, ELSEWHERE if elsewhere else NO_SEARCH)
    blocks: list[Block | None] = []
    if any(one.points for one in found):
        blocks.append(curve(found))
    blocks += [bullets(lines(findings, found)), budgets(found), on_test(findings, found)]
    for number_of, one in enumerate(found):
        blocks += surface(one, number_of)
    blocks.append(importance(found))
    blocks += [points(one) for one in found if one.points]
    named = [f"{title(one, found)} at {one.subject.points} points" for one in found]
    return section(
        TITLE,
        f"Searched: {listed(named)}.",
        *blocks,
        Paragraph("Optuna's dashboard shows every point:"),
        _dashboard(findings, found),
    )


def _dashboard(findings: Findings, found: Sequence[SearchResult]) -> Code:
    """The command that opens each study's search."""
    studies = dict.fromkeys(one.search.plan.study.name for one in found)
    output = findings.results.plan.study.output
    return Code("\n".join(f"optuna-dashboard {output}/{name}/{JOURNAL}" for name in studies))
