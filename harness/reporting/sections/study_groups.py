"""Sections of a report of several studies: each group's answer, who brought what, what is apart."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.results import dataset_name
from harness.reporting.answer import answer
from harness.reporting.document import Section, bullets, section, table
from harness.reporting.study_group import StudyGroup
from harness.study.merged_plan import MergedPlan, unlike


def answers(groups: Sequence[StudyGroup]) -> Section:
    """Each group's answer in its own sentences: there is none for all."""
    lines = [
        f"{_called(at, group)}: {' '.join(answer(group.findings))}"
        for at, group in enumerate(groups, 1)
    ]
    return section(
        "Answer",
        f"{len(groups)} groups of studies, never ranked together.",
        bullets(lines),
    )


def _called(at: int, group: StudyGroup) -> str:
    return f"group {at} ({group.name} on {dataset_name(group.findings.results.plan.spec)})"


def studies(groups: Sequence[StudyGroup], empty: Sequence[str]) -> Section:
    """What each study brought, and which rows several of them share."""
    rows = [
        [
            plan.study.name,
            str(at),
            ", ".join(row.label for row in plan.rows),
            ", ".join(map(str, plan.study.seeds)),
        ]
        for at, group in enumerate(groups, 1)
        for plan in group.plans
    ]
    lines = [line for group in groups for line in _merged_rows(group.plan)]
    absent = (
        [f"no trial is finished of: {', '.join(empty)}; it is not in this report"] if empty else []
    )
    return section(
        "Studies",
        f"{len(rows)} studies in {len(groups)} {'group' if len(groups) == 1 else 'groups'}.",
        table(["study", "group", "rows, as they are called there", "seeds"], rows),
        bullets([*lines, *absent]),
    )


def _merged_rows(plan: object) -> list[str]:
    if not isinstance(plan, MergedPlan):
        return []
    shared = [f"{row.label} ({', '.join(plan.studies_of(row))})" for row in plan.shared()]
    equal = len({tuple(member.study.seeds) for member in plan.members}) == 1
    return [
        (
            "rows that several studies have, with the trials and seeds of all of them:"
            f" {', '.join(shared) or 'none'}"
        ),
        *(
            []
            if equal
            else [
                "the studies have different seeds: two rows are compared on the seeds that both"
                " have"
            ]
        ),
    ]


def groups_apart(groups: Sequence[StudyGroup]) -> Section:
    """Why the groups are no one group."""
    first = groups[0].plans[0]
    lines = [
        f"group {at} is not ranked with group 1: they differ in"
        f" {'; '.join(unlike(first, group.plans[0]))}"
        for at, group in enumerate(groups[1:], 2)
    ]
    head = (
        "Rows are ranked together only where all but method, hyperparameters and seed is the same."
    )
    return section("Why groups are apart", head, bullets(lines))
