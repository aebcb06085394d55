"""Sections of a report of several studies: each group's answer, who brought what, what is apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.analysis.results import dataset_name
from harness.reporting.answer import answer
from harness.reporting.document import (
    Block,
    Figure,
    Paragraph,
    Section,
    bullets,
    section,
    table,
)
from harness.reporting.figures import curves
from harness.reporting.study_group import StudyGroup
from harness.reporting.text import ABSENT, shown
from harness.reporting.wording import listed, signed
from harness.store import canonical_json
from harness.study.merged_plan import MergedPlan, terms, unlike
from harness.training.missing import missing_sentence, missing_share


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


def missingness(groups: Sequence[StudyGroup]) -> Section | None:
    """The metric against how much is missing in training, where groups differ in nothing else.

    None where no two groups differ in ``missing`` alone.
    """
    families: dict[str, list[StudyGroup]] = {}
    for group in groups:
        same = terms(group.plans[0]) | {"missing": {}}
        families.setdefault(canonical_json(same), []).append(group)
    blocks: list[Block] = []
    swept = [sorted(one, key=_share) for one in families.values() if len(one) > 1]
    for number, family in enumerate(swept, 1):
        blocks += _sweep(family, "" if number == 1 else f"-{number}")
    return section("Missing in training", _sweep_lead(swept[0]), *blocks) if swept else None


def _sweep_lead(family: Sequence[StudyGroup]) -> str:
    """What the most that is missing does to the averages."""
    least, most = family[0].findings.comparison, family[-1].findings.comparison
    labels = [label for label in least.labels if label in most.average]
    gaps = [most.average[label].mean - least.average[label].mean for label in labels]
    changes = [gap for gap in gaps if math.isfinite(gap)]
    shares = f"{100 * _share(family[0]):.1f} to {100 * _share(family[-1]):.1f} %"
    if not changes:
        return f"No row was trained both with the least and with the most missing ({shares})."
    low, high = (signed(one, least.metric) for one in (min(changes), max(changes)))
    return f"From {shares} missing in training, averages change by {low} to {high}."


def _share(group: StudyGroup) -> float:
    plan = group.plans[0]
    return missing_share(plan.study.missing, plan.spec.names)


def _sweep(family: Sequence[StudyGroup], mark: str) -> list[Block]:
    """Groups in the order of how much is missing."""
    plans = [group.plans[0] for group in family]
    comparisons = [group.findings.comparison for group in family]
    metric, shares = comparisons[0].metric, [100 * _share(group) for group in family]
    labels = list(dict.fromkeys(label for one in comparisons for label in one.labels))
    lines, rows = {}, []
    for label in labels:
        there = [at for at, one in enumerate(comparisons) if label in one.average]
        means = [comparisons[at].average[label].mean for at in there]
        lines[label] = [shares[at] for at in there], means
        cells = [
            str(shown(one.average[label], one.planned, metric)) if label in one.average else ABSENT
            for one in comparisons
        ]
        rows.append([label, *cells])
    header = ["method", *(f"{share:.1f} %" for share in shares)]
    named = [
        f"{share:.1f} % ({missing_sentence(plan.study.missing)})"
        for share, plan in zip(shares, plans, strict=True)
    ]
    caption = f"Average {metric.name} over the combinations against what is missing in training"
    drawing = curves(
        f"missing{mark}",
        lines,
        "modalities missing from training samples (%)",
        metric.axis,
        dots=True,
    )
    return [
        Paragraph(
            "How much of the training samples' modalities may be missing before the average over"
            f" the combinations suffers: expected shares of {listed(named)}. Rows are compared"
            " within a column alone."
        ),
        Figure(f"missing{mark}", drawing, caption),
        table(header, rows, f"{caption}; mean ± standard deviation over seeds"),
    ]
