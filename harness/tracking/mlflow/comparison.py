"""The comparison in MLflow: rows with their trials below them, descriptions, saved views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.findings import Findings
from harness.analysis.results import dataset_name
from harness.reporting.text import shown
from harness.robust.findings import BadSensors
from harness.tracking.mlflow.addresses import Addresses
from harness.tracking.mlflow.artifacts import log_dataset
from harness.tracking.mlflow.notes import NOTE, experiment_note, row_note, study_note
from harness.tracking.mlflow.row_facts import read_rows
from harness.tracking.mlflow.runs import (
    find_study,
    mirror_row_run,
    place_below,
    remove_other_rows,
    set_experiment_tags,
    set_note,
)
from harness.tracking.mlflow.saved_views import TAG, saved_views

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Without it MLflow asks, and opens the experiment as one of language models, which have no runs to
compare.
"""


def mirror_comparison(
    client: Any,
    experiment: str,
    findings: Findings,
    problems: Sequence[str],
    corrupted: BadSensors | None,
    ended: int,
) -> Addresses:
    """Bring rows, descriptions and views up to the findings; where everything is.

    ``corrupted``: what evaluations under corruptions say. ``ended``: when the last result came, in
    milliseconds.
    """
    plan = findings.results.plan
    data, counts, trial = plan.spec, plan.dataset.counts(), plan.trials[0]

    def finish(run_id: str) -> None:
        log_dataset(client, run_id, trial, data, counts)

    found = {
        facts.label: mirror_row_run(client, experiment, facts, finish)
        for facts in read_rows(findings, corrupted)
    }
    remove_other_rows(client, experiment, list(found))
    trials = place_below(client, experiment, _parents(findings, found))
    study = str(find_study(client, experiment, plan.study.name, ended).info.run_id)
    finish(study)
    where = Addresses(experiment, study, found, trials)
    for label, run in found.items():
        set_note(client, run, row_note(findings, label, where, corrupted))
    set_note(client, study, study_note(findings, problems, where, corrupted))
    tags = _experiment_tags(findings, problems, where, corrupted, ended)
    set_experiment_tags(client, experiment, tags)
    return where


def _parents(findings: Findings, rows: Mapping[str, str]) -> dict[str, str]:
    """Trial id -> the run of its row.

    A model that only serves others lies below the row that needs it.
    """
    trials = [trial for trial in findings.results.plan.trials if trial.row.label in rows]
    needed = {
        stage: rows[trial.row.label] for trial in trials for stage in trial.job.spec.needs.values()
    }
    return needed | {trial.id: rows[trial.row.label] for trial in trials}


def _experiment_tags(
    findings: Findings,
    problems: Sequence[str],
    where: Addresses,
    corrupted: BadSensors | None,
    ended: int,
) -> dict[str, str]:
    results = findings.results
    plan, metric = results.plan, results.metric
    keys = [combination.key for combination in plan.combinations]
    modalities = [] if corrupted is None else corrupted.modalities
    saved = saved_views(metric.name, metric.higher_is_better, keys, findings.baseline, modalities)
    # The list of views shows the newest first.
    listed = {f"{TAG}{view.key}": view.tag(ended - place) for place, view in enumerate(saved)}
    facts = {
        "best_average": _best(findings),
        "dataset": dataset_name(plan.spec),
        "metric": metric.name,
        "trials": f"{len(results.finished)} of {plan.size}",
    }
    return KIND | facts | listed | {NOTE: experiment_note(findings, problems, where, corrupted)}


def _best(findings: Findings) -> str:
    """The row with the best average, and whether it shares that place."""
    if findings.best is None:
        return "none"
    average = shown(
        findings.comparison.average[findings.best],
        findings.comparison.planned,
        findings.comparison.metric,
    )
    alone = len(findings.ranked) < 2 or findings.leader == findings.best
    return f"{findings.best} {average}{'' if alone else ' (a tie)'}"
