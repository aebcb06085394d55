"""What a reader must know before believing the answer."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.findings import Findings
from harness.analysis.statistics import AVERAGE
from harness.reporting.sections.origins import mixtures
from harness.reporting.wording import listed


def caveats(findings: Findings, problems: Sequence[str] = ()) -> list[str]:
    """What limits the answer, each with the section that says more; ``problems``: of the store."""
    results, average = findings.results, findings.comparison.average
    notes = []
    if results.plan.spec.synthetic:
        notes.append("the data are synthetic: nothing here says anything about real recordings")
    if results.holes:
        notes.append(
            f"planned trials that are not there: {len(results.holes)} of {results.plan.size}"
            " (Holes)"
        )
    if problems:
        notes.append(f"damaged trials: {len(problems)} (Damaged trials)")
    collapsed = [label for label in findings.comparison.labels if average[label].collapsed]
    if collapsed:
        notes.append(f"a model of {listed(collapsed)} collapsed (Collapsed models)")
    stale = sum(done.status == "stale" for done in results.finished)
    if stale:
        notes.append(
            f"trials made by another version of the code: {stale} of {len(results.finished)}"
        )
    notes += dependence_notes(findings)
    notes += [f"{line} (Versions and hardware)" for line in mixtures(results)]
    if AVERAGE in findings.rankings:
        notes += findings.rankings[AVERAGE].notes
    # Several may say the same, as notes of pairs do.
    return list(dict.fromkeys(notes))


def dependence_notes(findings: Findings) -> list[str]:
    """What must be said of test samples that belong together, or may do so."""
    of = findings.dependence
    if of.groups is None:
        return [
            f"groups of the {of.samples} test samples not recorded: intervals take them as"
            " independent, and may be too narrow"
        ]
    if of.groups == of.samples:
        return []
    said = f"{of.samples} test samples in {of.groups} {of.are}: intervals and ties are of {of.are}"
    if of.effects:
        said += (
            f"; the variance of a difference is {of.effect:.1f} times what it would be if samples"
            f" were independent (design effect, median over {len(of.effects)} pairs, at most"
            f" {max(of.effects):.1f})"
        )
    notes = [said]
    if of.also_in_train:
        notes.append(
            f"{of.also_in_train} of the {of.groups} {of.are} of test are in train too: nothing here"
            f" is about new {of.are}"
        )
    return notes
