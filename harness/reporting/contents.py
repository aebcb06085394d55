"""What stands in a report, and in which order: answer, evidence, the way to repeat it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.analysis.over_datasets import compare_over_datasets
from harness.analysis.results import dataset_name
from harness.reporting.document import Document, GroupPlace, Section
from harness.reporting.sections import (
    background,
    bad_sensors,
    comparison,
    cost,
    origins,
    over_datasets,
    presence,
    published_numbers,
    representations,
    robustness,
    rounds,
    runs,
    search,
    store_state,
    study_groups,
)
from harness.reporting.study_group import StudyGroup
from harness.study.merged_plan import combined_description

SECTIONS: tuple[Callable[[StudyGroup], Section | None], ...] = (
    lambda of: comparison.answering(of.findings, of.problems),
    lambda of: comparison.ranking(of.findings),
    lambda of: rounds.rounds(of.findings),
    lambda of: presence.presence(of.findings, of.arguments),
    lambda of: comparison.result(of.findings),
    lambda of: comparison.differences(of.findings),
    lambda of: robustness.robustness(of.findings),
    lambda of: bad_sensors.bad_sensors(of.findings, of.corrupted),
    lambda of: representations.representations(of.findings, of.paper),
    lambda of: published_numbers.published(of.findings, of.paper),
    lambda of: representations.claims(of.findings, of.paper),
    lambda of: search.search(of.findings, of.searches),
    lambda of: cost.cost(of.findings),
    lambda of: background.methods(of.results),
    lambda of: background.data(of.results),
    lambda of: background.protocol(of.results),
    lambda of: store_state.last_epoch(of.results, of.findings.comparison),
    lambda of: store_state.remarks(of.results),
    lambda of: store_state.collapsed(of.results),
    lambda of: store_state.holes(of.results),
    lambda of: store_state.damaged(of.results, of.problems),
    lambda of: background.machines(of.results),
    lambda of: origins.origins(of.results),
    lambda of: store_state.seeds(of.results),
    lambda of: runs.runs(of.results, of.tracked),
)
"""The sections about a group of studies, in order; None is left out. A new one is a line here.

``with_runs`` puts the last one anew into a document that is there.
"""


def contents(
    name: str,
    groups: Sequence[StudyGroup],
    arguments: Sequence[str] = (),
    empty: Sequence[str] = (),
) -> Document:
    """The report of one study, or of several.

    Args:
        name: of the report, which is that of its folder.
        groups: the studies; rows are ranked within a group only.
        arguments: those of the command line.
        empty: names of studies that have no finished trial.
    """
    last = background.reproduce(name, arguments)
    if len(groups) > 1:
        plans = [plan.study for group in groups for plan in group.plans]
        own = [
            GroupPlace(number, group.name).place(section)
            for number, group in enumerate(groups, 1)
            for section in _sections(group)
        ]
        return Document(name, combined_description(plans), (*_overview(groups, empty), *own, last))
    (group,) = groups
    first, *others = _sections(group)
    merged = [study_groups.studies(groups, empty)] if len(group.plans) > 1 or empty else []
    title = f"{name} on {dataset_name(group.plan.spec)}"
    description = group.plan.study.description or "The study has no description."
    return Document(title, description, (first, *merged, *others, last))


def with_runs(document: Document, group: StudyGroup) -> Document:
    """The document of one study with the places where a tracker shows it, or with other ones."""
    found = runs.runs(group.results, group.tracked)
    if found is None:
        return document
    *before, last = (one for one in document.sections if one.title != found.title)
    return replace(document, sections=(*before, found, last))


def _sections(group: StudyGroup) -> list[Section]:
    sections = (section(group) for section in SECTIONS)
    return [section for section in sections if section is not None]


def _overview(groups: Sequence[StudyGroup], empty: Sequence[str]) -> list[Section]:
    """What stands before the groups' own sections."""
    swept = study_groups.missingness(groups)
    return [
        study_groups.answers(groups),
        study_groups.studies(groups, empty),
        study_groups.groups_apart(groups),
        *([] if swept is None else [swept]),
        over_datasets.over_datasets(compare_over_datasets([group.findings for group in groups])),
    ]
