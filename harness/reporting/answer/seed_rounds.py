"""What rounds of seeds have answered, and why there is no further one."""

from __future__ import annotations

from harness.analysis.findings import Findings
from harness.reporting.wording import points, some
from harness.study.seed_rounds import (
    ABOVE,
    BUDGET,
    CANNOT,
    CLOSED,
    MOST,
    OPEN,
    WITHIN,
    Look,
    Rounds,
)


def in_rounds(findings: Findings) -> list[str]:
    """What is known after the last look; nothing for a list of seeds, and before rounds end."""
    plan, metric = findings.results.plan, findings.comparison.metric
    of = plan.rounds
    if of is None or not of.looks or not of.ending or not of.looks[-1].questions:
        return []
    look = of.looks[-1]
    matters = points(of.settings.difference, metric)
    said = {
        ABOVE: f"{{}} worse than {look.best} by at least {matters}",
        WITHIN: f"{{}} no more than {matters} from {look.best}",
        OPEN: f"it is open whether {{}} at least {matters} behind {look.best}",
    }
    parts = []
    for state, sentence in said.items():
        labels = look.labels(state)
        if labels:
            parts.append(sentence.format(f"{some(labels)} {_is_or_are(labels)}"))
    states = f": {'; '.join(parts)}" if parts else ""
    return [
        f"Seeds came in rounds: look {len(of.looks)} of at most {len(of.settings.targets)} was the"
        f" last ({ending(of)}; {plan.size} trials of at most {plan.most_trials}){states}.",
        *_undecidable(findings, look, matters),
    ]


def _undecidable(findings: Findings, look: Look, matters: str) -> list[str]:
    """Which questions no number of seeds would close, and by how much the test set is short."""
    asked = [one for one in look.questions if one.state == CANNOT]
    if not asked:
        return []
    labels, of = [one.label for one in asked], findings.dependence
    grouped = of.groups is not None and of.groups < of.samples
    are, count = (of.are, of.groups) if grouped else ("samples", of.samples)
    short = [one.short for one in asked if one.short is not None]
    lacks = "no larger one would do either with so many seeds"
    if len(short) == len(asked):
        lacks = f"it has {count} {are}, and about {max(short)} more would do"
    return [
        f"Whether {some(labels, 'or')} {_is_or_are(labels)} at least {matters}"
        f" behind {look.best} {CANNOT}, with any number of seeds: {lacks} if the differences are"
        " what they seem."
    ]


def _is_or_are(labels: list[str]) -> str:
    return "is" if len(labels) == 1 else "are"


def ending(of: Rounds) -> str:
    """Why there is no further round, in a part of a sentence."""
    return {
        CLOSED: "every question is closed",
        CANNOT: "more seeds would not close what is open",
        MOST: f"rows in question have all {of.settings.most} seeds",
        BUDGET: f"the budget of {of.settings.budget} trials is used",
        "": "they go on",
    }[of.ending]
