"""The descriptions above runs in MLflow's UI: answer, table, where to look (no mlflow here)."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.findings import Findings
from harness.analysis.statistics import AVERAGE
from harness.protocol.metrics import metric
from harness.reporting.answer import answer
from harness.reporting.answer.caveats import caveats
from harness.reporting.document import portable
from harness.reporting.sections.bad_sensors import sentence
from harness.reporting.sections.comparison import ranking_notes, ranks
from harness.reporting.text import (
    cell,
    columns,
    legend,
    main_grid,
    metric_sentence,
    number,
    shown,
)
from harness.reporting.wording import signed, with_unit
from harness.robust.findings import BadSensors
from harness.store import Json
from harness.study.plan import PlannedTrial
from harness.tracking.mlflow.addresses import Addresses
from harness.tracking.mlflow.bad_sensor_facts import row_bad_sensors, stale_sentence
from harness.tracking.mlflow.saved_views import DIFFERENCES, METHODS, TRIALS
from harness.tracking.mlflow.trial_facts import test_values

NOTE = "mlflow.note.content"
"""The tag of an experiment or run that MLflow shows as its description, in Markdown."""

LONGEST = 20_000
"""Characters that an experiment's tag may have; a run's may have 8000."""

LONGEST_OF_RUN = 8_000
ROOM = "&ensp;"
CUT = "\n\n(cut here; the report of the study's run has all)"


def experiment_note(
    findings: Findings,
    problems: Sequence[str],
    where: Addresses,
    corrupted: BadSensors | None = None,
) -> str:
    """What stands above the page of runs."""
    links = [
        f"[methods]({where.runs(METHODS)})",
        f"[charts]({where.runs(METHODS, charts=True)})",
        *(
            [f"[minus {findings.baseline} on each combination]({where.runs(DIFFERENCES)})"]
            if findings.baseline
            else []
        ),
        f"[single trials]({where.runs(TRIALS)})",
        f"[the report]({where.run(where.study, '/artifacts/report.html')})",
    ]
    parts = [
        _answer(findings, problems),
        *_with_bad_sensors(findings, corrupted),
        f"Look at: {' · '.join(links)}.",
        _table(findings, where),
        _legend(findings),
    ]
    return _fitting("\n\n".join(parts), LONGEST)


def study_note(
    findings: Findings,
    problems: Sequence[str],
    where: Addresses,
    corrupted: BadSensors | None = None,
) -> str:
    """What stands on the study's own run."""
    artifacts = where.run(where.study, "/artifacts/report.html")
    head = f"The [report]({artifacts}) and its figures and tables are among this run's artifacts."
    parts = [
        _answer(findings, problems),
        *_with_bad_sensors(findings, corrupted),
        head,
        _table(findings, where),
        _legend(findings),
    ]
    return _fitting("\n\n".join(parts), LONGEST_OF_RUN)


def row_note(
    findings: Findings, label: str, where: Addresses, corrupted: BadSensors | None = None
) -> str:
    """What stands on a row's run: each combination, its spread and difference, the trials, and
    what bad sensors do to it.
    """
    comparison, planned = findings.comparison, findings.comparison.planned
    header = ["present", comparison.metric.name]
    if findings.baseline:
        header.append(f"minus {findings.baseline}")
    values = {name: cell(comparison, label, name) for name in comparison.combinations}
    summaries = {"average": comparison.average[label], "worst": comparison.worst[label]}
    for name, summary in summaries.items():
        values[name] = shown(summary, planned, comparison.metric)
    rows = []
    for name, value in values.items():
        row = [name, str(value)]
        if findings.baseline:
            row.append(_difference(findings, label, name))
        rows.append(row)
    trials = []
    for done in findings.results.of(label):
        if done.trial.id in where.trials:
            name = done.trial.job.name.removeprefix(label).strip()
            trials.append(f"[{name}]({where.run(where.trials[done.trial.id])})")
    parts = [
        f"**{label}** on {metric_sentence(findings.results)}: mean over seeds.",
        "\n".join(_narrow(header, rows)),
        f"Trials: {', '.join(trials)}. [All methods]({where.runs(METHODS)}).",
        row_bad_sensors(findings, corrupted, label).note,
    ]
    return _fitting("\n\n".join(filter(None, parts)), LONGEST_OF_RUN)


def trial_note(trial: PlannedTrial, record: Json, bad_sensors: str = "") -> str:
    """What stands on a trial's run: its scores, what its weights are good for, and what bad sensors
    do to it.
    """
    chosen = metric(record["metric"])
    values = test_values(record)
    mean, worst = sum(values.values()) / len(values), chosen.worst(values)
    where = next(name for name, value in values.items() if value == worst)
    own = trial.only or ""
    head = (
        f"{with_unit(mean, chosen)} {chosen.name} averaged over {len(values)} combinations, "
        f"{with_unit(worst, chosen)} in the worst"
    )
    if own:
        head = f"trained for {own} alone: {with_unit(values[own], chosen)} {chosen.name} there"
    rows = [[name, number(value, chosen)] for name, value in values.items()]
    parts = [
        f"**{trial.job.name}**: {head}{'' if own else f' ({where})'}, on test.",
        "\n".join(_narrow(["present", chosen.name], rows)),
        "`model/` among the artifacts holds the weights of the selected epoch, their card, "
        "and how to load them.",
        bad_sensors,
    ]
    return _fitting("\n\n".join(filter(None, parts)), LONGEST_OF_RUN)


def _answer(findings: Findings, problems: Sequence[str]) -> str:
    notes = [f"- {portable(note)}" for note in caveats(findings, problems)]
    # No emphasis: the list of experiments shows the beginning as it is written.
    return "\n".join([" ".join(answer(findings)), *(["", *notes] if notes else [])])


def _with_bad_sensors(findings: Findings, corrupted: BadSensors | None) -> list[str]:
    """The report's sentence on bad sensors, and what of them is not shown."""
    if corrupted is None:
        return []
    said = [sentence(findings, corrupted)] if corrupted.declines else []
    return [" ".join([*said, *stale_sentence(corrupted)])] if said or corrupted.stale else []


def _table(findings: Findings, where: Addresses) -> str:
    """The whole comparison, best first where it is ranked.

    Each row has its rank, average, worst case and every combination.
    """
    grid = main_grid(findings.results, findings.comparison)
    places = (
        {place.label: place for place in findings.rankings[AVERAGE].places}
        if AVERAGE in findings.rankings
        else {}
    )
    labels = [*places, *(label for label in findings.comparison.labels if label not in places)]
    cells = dict(zip(findings.comparison.labels, grid.rows, strict=True))
    rows = []
    for label in labels:
        *combinations, average, worst = map(str, cells[label])
        rank = (
            f"{ranks(places[label])} {places[label].letters}" if label in places else "not ranked"
        )
        name = f"[{label}]({where.run(where.rows[label])})" if label in where.rows else label
        name = f"**{name}**" if label == findings.leader else name
        rows.append([name, rank, average, worst, *combinations])
    return "\n".join(
        _narrow(["method", "rank, ties", "average", "worst", *columns(findings.results)], rows)
    )


def _narrow(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table without padding.

    It is rendered, its length is limited, and MLflow leaves no room between columns.
    """
    padded = [[cell.replace("|", "\\|") + ROOM for cell in line] for line in (header, *rows)]
    return [f"| {' | '.join(line)} |" for line in (padded[0], ["---"] * len(header), *padded[1:])]


def _legend(findings: Findings) -> str:
    results = findings.results
    notes = [metric_sentence(results), *legend(results, findings.comparison)]
    if AVERAGE in findings.rankings:
        notes += ranking_notes(findings)
    return "\n".join(f"- {portable(note)}" for note in notes)


def _difference(findings: Findings, label: str, summary: str) -> str:
    found = findings.against(findings.baseline, summary) if findings.baseline else []
    one = next((one for one in found if one.label == label), None)
    if one is None:
        return ""
    return signed(one.value, findings.comparison.metric) + (
        f" ({one.verdict})" if one.verdict else ""
    )


def _fitting(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - len(CUT)].rsplit("\n", 1)[0] + CUT
