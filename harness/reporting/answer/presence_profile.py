"""What may be said under a presence profile: how often each modality is there in use."""

from __future__ import annotations

from harness.analysis.findings import Findings
from harness.analysis.in_use.presence import Expected
from harness.protocol.presence import Presence
from harness.reporting.answer.best import best_row, certainty
from harness.reporting.wording import percent, with_unit


def in_use(findings: Findings) -> list[str]:
    """The answer under the presence profile; nothing without one."""
    of = findings.expected
    if of is None:
        return []
    profile = profile_text(of.profile)
    if not of.values:
        return [f"Nothing can be said under {profile}: no test sample has any of its combinations."]
    metric = findings.comparison.metric
    over = f"{metric.name} expected under {profile}"
    sign = 1 if metric.higher_is_better else -1
    top = max(of.values, key=lambda label: sign * of.values[label].mean)
    value = f"{top} has {with_unit(of.values[top].mean, metric)} {over}"
    last = "With each combination as likely as any other:"
    parts = left_out(of)
    if parts:
        last = f"Left out: {'; '.join(parts)}. {last}"
    if of.ranking is None:
        return [f"{value}; nothing is ranked.", last]
    if findings.seeds == 1 or findings.dependence.too_few:
        extreme = "highest" if metric.higher_is_better else "lowest"
        return [f"{value}, the {extreme} of {len(of.values)} rows.", last]
    return [best_row(findings, of.ranking, over), certainty(findings, of.ranking), last]


def profile_text(profile: Presence) -> str:
    """A presence profile in words.

    >>> from harness.protocol.presence import independent
    >>> profile_text(independent({"a": 0.99, "b": 0.8}))
    'the presence profile (a 99 %, b 80 % of the time, independently)'
    """
    chances = ", ".join(f"{name} {percent(p)}" for name, p in profile.chances.items())
    together = "independently" if profile.independent else "together as given"
    return f"the presence profile ({chances} of the time, {together})"


def left_out(of: Expected) -> list[str]:
    """What of a profile the expected values leave out, in parts of a sentence."""
    parts = []
    if of.profile.nothing > 0:
        parts.append(
            f"nothing at all is present {percent(of.profile.nothing)} of the time, which counts for"
            " no row"
        )
    if of.unseen > 0:
        parts.append(
            f"{percent(of.unseen)} of the profile are combinations that no test sample has"
        )
    return parts
