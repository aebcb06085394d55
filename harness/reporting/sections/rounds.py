"""The report's section on rounds of seeds, what a run says of them, and what a plan announces."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.findings import Findings
from harness.protocol.metrics import Metric, metric
from harness.reporting.answer.seed_rounds import ending
from harness.reporting.document import Bullets, Section, Table, bullets, section, table
from harness.reporting.text import ABSENT
from harness.reporting.wording import interval, listed, percent, points, signed, some
from harness.study.plan import Plan
from harness.study.seed_rounds import ABOVE, CANNOT, OPEN, WITHIN, Look, Question, Rounds


def rounds(findings: Findings) -> Section | None:
    """What was looked at when, and what the last look says; None for lists of seeds."""
    members = findings.results.plan.members
    several = len(members) > 1
    blocks: list[Table | Bullets | None] = []
    for member in members:
        if member.rounds is None:
            continue
        of = f" of {member.study.name}" if several else ""
        blocks += [_looks(member.rounds, of), _questions(member, of), _notes(member, findings)]
    looks = sum(len(member.rounds.looks) for member in members if member.rounds is not None)
    lead = "The first round is going on: nothing was looked at yet."
    if looks:
        lead = (
            f"The results were looked at {looks} {'time' if looks == 1 else 'times'}, and each time"
            " further seeds were trained only where a question was open."
        )
    return section("Rounds of seeds", lead, *blocks) if blocks else None


def _looks(of: Rounds, name: str) -> Table | None:
    header = [
        "look",
        "seeds of rows in question",
        "trials so far",
        "best so far",
        "rows still open",
        "cannot be decided",
        "level of a comparison",
    ]
    rows = [
        [
            str(number),
            str(look.seeds),
            str(look.trials),
            look.best or ABSENT,
            _named(look.labels(OPEN)),
            _named(look.labels(CANNOT)),
            percent(look.level),
        ]
        for number, look in enumerate(of.looks, 1)
    ]
    return table(header, rows, f"The looks{name} at the results") if rows else None


def _named(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "none"


def _questions(plan: Plan, name: str) -> Table | None:
    assert plan.rounds is not None
    if not plan.rounds.looks or not plan.rounds.looks[-1].questions:
        return None
    look, of = plan.rounds.looks[-1], metric(plan.spec.metric)
    header = ["method", f"behind {look.best} by", "interval at the look's level", "seeds", "answer"]
    rows = [
        [
            one.label,
            signed(one.value, of),
            interval(one.low, one.high, of),
            # In a round that goes on, the row may have got more since.
            str(min(plan.rounds.seeds[one.label], look.seeds)),
            _state(one, plan.rounds, of),
        ]
        for one in look.questions
    ]
    return table(header, rows, f"The last look{name}: how far rows are behind the best")


def _state(one: Question, of: Rounds, chosen: Metric) -> str:
    matters = points(of.settings.difference, chosen)
    said = {
        ABOVE: f"worse by at least {matters}",
        WITHIN: f"no more than {matters} apart",
        OPEN: "open",
        CANNOT: CANNOT,
    }[one.state]
    worse = one.beaten and one.state != ABOVE
    return f"{said}; shown to be worse" if worse else said


def _notes(plan: Plan, findings: Findings) -> Bullets:
    assert plan.rounds is not None
    of, chosen = plan.rounds, metric(plan.spec.metric)
    settings = of.settings
    matters = points(settings.difference, chosen)
    used = sum(settings.share(look.seeds, before) for look, before in _before(of.looks))
    return bullets(
        [
            (
                f"all rows get {settings.first} seeds; further ones go to the best row and to those"
                f" that could still be best, or whose lead is neither shown to be {matters} nor"
                " excluded to be more"
            ),
            (
                f"looks planned: {len(settings.targets)} (at {_series(settings.targets)} seeds);"
                f" taken: {len(of.looks)}, {ending(of)}. Each has a part of the 5 %, which grows"
                f" with the square of the seeds: {percent(used)} of it is used. All p values, ties"
                f" and the best row of this report are at a look's part of the 5 %,"
                f" {percent(findings.results.plan.share)} of it; intervals of single pairs are of"
                " 95 %"
            ),
            "two rows are compared on the seeds that both have",
        ]
    )


def _before(looks: Sequence[Look]) -> list[tuple[Look, int]]:
    """Each look with the seeds of the one before it."""
    seeds = [0, *(look.seeds for look in looks)]
    return list(zip(looks, seeds[:-1], strict=True))


def _series(numbers: Sequence[int]) -> str:
    return listed([str(number) for number in numbers])


# ---------------------------------------------------------------------- while it runs


def plan_lines(plan: Plan) -> list[str]:
    """What rounds may cost, for the description of a study; nothing for lists of seeds."""
    if plan.rounds is None:
        return []
    of = plan.rounds
    settings, matters = of.settings, points(of.settings.difference, metric(plan.spec.metric))
    least = plan.at(Rounds.begun(settings, [row.label for row in plan.rows])).size
    looks = f"looks at {_series(settings.targets)}"
    return [
        f"  rounds of seeds: {settings.first} for all rows, up to {settings.most} where it is open"
        f" which row is best or {matters} from it ({looks}); {least} trials at least,"
        f" {plan.most_trials} at most; {_where(of)}"
    ]


def _where(of: Rounds) -> str:
    return f"{of.name}: {ending(of)}" if of.ending else of.name


def look_lines(plan: Plan, since: Plan) -> list[str]:
    """What the looks since an earlier state of the plan found, and what follows."""
    if plan.rounds is None or since.rounds is None:
        return []
    of, known = plan.rounds, len(since.rounds.looks)
    lines = [
        f"look {number}: {look.trials} trials, {look.seeds} seeds of rows in question;"
        f" best: {look.best or ABSENT}; open: {_open(look)}; level {percent(look.level)}"
        for number, look in enumerate(of.looks, 1)
        if number > known
    ]
    if not lines:
        return []
    if of.ending:
        return [*lines, f"no further round: {ending(of)}"]
    rows = [label for label, seeds in of.seeds.items() if seeds > since.rounds.seeds[label]]
    return [*lines, f"{of.name}: up to {max(of.seeds.values())} seeds for {some(rows)}"]


def _open(look: Look) -> str:
    cannot = look.labels(CANNOT)
    return _named(look.labels(OPEN)) + (f"; {CANNOT}: {_named(cannot)}" if cannot else "")
