"""The report of several studies: which rows were ranked together and why others were not, then each
group's own report.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.analysis.over_datasets import Across, across
from harness.analysis.results import dataset_name
from harness.analysis.statistics import LEVEL
from harness.reporting.answer import answer, interval, signed
from harness.reporting.contents import contents
from harness.reporting.document import (
    Block,
    Bullets,
    Code,
    Document,
    Facts,
    Figure,
    Paragraph,
    Section,
    Table,
    bullets,
    section,
    table,
)
from harness.reporting.figures import forest
from harness.reporting.findings import Findings
from harness.reporting.sections.background import command
from harness.reporting.sections.comparison import p_value
from harness.reporting.text import number
from harness.study.merged_plan import SEPARATOR, Group, MergedPlan, described_together, unlike

REPRODUCE = "How to reproduce"


@dataclass(frozen=True)
class Part:
    """A group of studies with what was found in it."""

    group: Group
    findings: Findings
    problems: Sequence[str]

    @property
    def name(self) -> str:
        """The names of its studies."""
        return self.findings.results.plan.study.name


def together(
    name: str, parts: Sequence[Part], empty: Sequence[str], arguments: Sequence[str]
) -> Document:
    """The report of all groups under one name; ``empty`` are the studies without a finished trial."""
    documents = [_own(part, arguments) for part in parts]
    studies = [plan.study for part in parts for plan in part.group.plans]
    last = section(REPRODUCE, *(Code(command(word, arguments)) for word in _words(arguments)))
    if len(parts) == 1:
        first, *others = documents[0].sections
        title = documents[0].title.replace(parts[0].name, name, 1)
        return replace(
            documents[0], title=title, sections=(first, _studies(parts, empty), *others, last)
        )
    own = [
        _of_group(each, at, part)
        for at, part in enumerate(parts, 1)
        for each in documents[at - 1].sections
    ]
    head = [
        _answers(parts),
        _studies(parts, empty),
        _apart(parts),
        over_datasets(across([part.findings for part in parts])),
    ]
    return Document(name, described_together(studies), (*head, *own, last))


def _own(part: Part, arguments: Sequence[str]) -> Document:
    """A group's report without the command that repeats it; commands for one study name each of its
    studies.
    """
    document = contents(part.findings, part.problems, arguments)
    sections = [
        Section(each.title, tuple(_for_each(block, part) for block in each.blocks))
        for each in document.sections
        if each.title != REPRODUCE
    ]
    return replace(document, sections=tuple(sections))


def _for_each(block: Block, part: Part) -> Block:
    first, *others = part.group.names
    each = f"study={first}" + (f" (and study={', '.join(others)})" if others else "")

    def changed(text: str) -> str:
        # As it is, emphasis included, where there is nothing to change.
        return text.replace(f"study={part.name}", each) if f"study={part.name}" in text else text

    match block:
        case Paragraph():
            return Paragraph(changed(block.text))
        case Bullets():
            return bullets([changed(line) for line in block.lines])
        case Table():
            return replace(
                block, rows=tuple(tuple(changed(cell) for cell in row) for row in block.rows)
            )
        case Facts():
            return replace(
                block,
                lines=tuple(map(changed, block.lines)),
                below=tuple(map(changed, block.below)),
            )
        case _:
            return block


def _words(arguments: Sequence[str]) -> list[str]:
    return (
        [argument for argument in arguments if argument.startswith("study=")][-1]
        .removeprefix("study=")
        .split(SEPARATOR)
    )


# ---------------------------------------------------------------------- what was merged


def _answers(parts: Sequence[Part]) -> Section:
    """Each group's answer in its own sentences: there is none for all."""
    lines = [
        f"{_called(at, part)}: {' '.join(answer(part.findings))}"
        for at, part in enumerate(parts, 1)
    ]
    return section(
        "Answer",
        Paragraph(f"{len(parts)} groups of studies, never ranked together."),
        bullets(lines),
    )


def _called(at: int, part: Part) -> str:
    return f"group {at} ({part.name} on {dataset_name(part.findings.results.plan.spec)})"


def _studies(parts: Sequence[Part], empty: Sequence[str]) -> Section:
    """What each study brought, and which rows several of them share."""
    rows = [
        [
            plan.study.name,
            str(at),
            ", ".join(row.label for row in plan.rows),
            ", ".join(map(str, plan.study.seeds)),
        ]
        for at, part in enumerate(parts, 1)
        for plan in part.group.plans
    ]
    lines = [line for part in parts for line in _merged_rows(part.group.plan)]
    absent = (
        [f"no trial is finished of: {', '.join(empty)}; it is not in this report"] if empty else []
    )
    return section(
        "Studies",
        table(["study", "group", "rows, as they are called there", "seeds"], rows),
        bullets([*lines, *absent]),
    )


def _merged_rows(plan: object) -> list[str]:
    if not isinstance(plan, MergedPlan):
        return []
    shared = [f"{row.label} ({', '.join(plan.studies_of(row))})" for row in plan.shared()]
    equal = len({tuple(member.study.seeds) for member in plan.members}) == 1
    return [
        f"rows that several studies have, with the trials and seeds of all of them: {', '.join(shared) or 'none'}",
        *(
            []
            if equal
            else [
                "the studies have different seeds: two rows are compared on the seeds that both have"
            ]
        ),
    ]


def _apart(parts: Sequence[Part]) -> Section:
    """Why the groups are no one group."""
    first = parts[0].group.plans[0]
    lines = [
        f"group {at} is not ranked with group 1: they differ in {'; '.join(unlike(first, part.group.plans[0]))}"
        for at, part in enumerate(parts[1:], 2)
    ]
    head = (
        "Rows are ranked together only where all but method, hyperparameters and seed is the same."
    )
    return section("Why groups are apart", Paragraph(head), bullets(lines))


# ---------------------------------------------------------------------- over datasets


def over_datasets(found: Across | str) -> Section:
    """Values, ranks, and a rank test or each dataset's own gaps; or why there is nothing to say."""
    title = "Across datasets"
    if isinstance(found, str):
        return section(title, Paragraph(f"Nothing is said over datasets: {found}."))
    rows = [
        [label, *(number(value, found.metric) for value in values), f"{found.ranks[label]:.2f}"]
        for label, values in found.values.items()
    ]
    caption = "Average over the combinations on each dataset, and the mean of the ranks"
    values = table(["method", *found.datasets, "mean rank"], rows, caption, paper=True)
    return section(
        title,
        values,
        *(_gaps(found) if found.tests is None else [_tests(found)]),
        bullets(_across_notes(found)),
    )


def _tests(found: Across) -> Table:
    verdicts = {True: "told apart", False: "not told apart"}
    rows = [[*pair, p_value(p), verdicts[p < LEVEL]] for pair, p in (found.tests or {}).items()]
    return table(
        ["row", "other", "p (Holm)", "verdict"], rows, "Signed-rank test over datasets", paper=True
    )


def _gaps(found: Across) -> list[Block]:
    metric, against = (
        found.metric,
        found.other + (" (turned so that more is better)" if found.turned else ""),
    )
    rows = [
        [
            one.label,
            signed(one.value, metric),
            interval(one.low, one.high, metric),
            one.verdict or "not told apart",
        ]
        for one in found.gaps
    ]
    caption = f"Each row minus {against}, dataset by dataset"
    svg = forest(found.gaps, against, metric)
    header = ["method, dataset", f"minus {found.other}", "95 % interval", "verdict"]
    return [
        table(header, rows, caption, paper=True),
        Figure("across", svg, f"{caption}, with 95 % intervals"),
    ]


def _across_notes(found: Across) -> list[str]:
    count, rows = len(found.datasets), len(found.values)
    notes = ["datasets are the units; hyperparameters of a row may differ between datasets"]
    if found.tests is None:
        notes.append(
            f"no rank test: for {rows} rows it could be significant from {found.needed} datasets on (2^(1-n) at most 0.05 over the "
            f"number of pairs), and here are {count}; verdicts are those of each dataset alone"
        )
    if any("(synthetic)" in name for name in found.datasets):
        notes.append("some of the data are synthetic: they say nothing about real recordings")
    if found.lacking:
        notes.append(f"not on every dataset, and left out here: {', '.join(found.lacking)}")
    return notes


# ---------------------------------------------------------------------- each group's own report


def _of_group(own: Section, at: int, part: Part) -> Section:
    """A section of a group's report, told from those of other groups by its title, captions, and
    names of figures.
    """
    return Section(
        f"Group {at}, {part.name}: {own.title}",
        tuple(_renamed(block, at, part) for block in own.blocks),
    )


def _renamed(block: Block, at: int, part: Part) -> Block:
    match block:
        case Table():
            return (
                replace(block, caption=f"{part.name}: {block.caption}") if block.caption else block
            )
        case Figure():
            svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>g{at}-", block.svg)
            return replace(block, svg=svg, file=numbered(block.file, at) if block.file else None)
        case _:
            return block


def numbered(file: str, at: int) -> str:
    """The name of a group's file: the first keeps it.

    >>> numbered("heatmap.png", 1), numbered("heatmap.png", 2)
    ('heatmap.png', 'heatmap-2.png')
    """
    stem, _, suffix = file.rpartition(".")
    return file if at == 1 else f"{stem}-{at}.{suffix}"
