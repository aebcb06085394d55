"""One run in MLflow brought up to what the store says: find, describe, add, conclude.

Nothing here reads a clock, and what is there already is not sent again: every function may be
repeated at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.store import Json, read_json, write_json
from harness.tracking.mlflow.bad_sensor_facts import BAD_SENSOR_TAGS, BadSensorFacts
from harness.tracking.mlflow.row_facts import RowFacts
from harness.tracking.mlflow.trial_facts import (
    TAGS_THAT_COME_AND_GO,
    TrialFacts,
    finite,
    milliseconds,
)

POINTS_PER_CALL, TAGS_PER_CALL = 1000, 100
PARENT = "mlflow.parentRunId"
Point = tuple[str, float, int, int]


def mirror_trial_run(
    client: Any,
    experiment: str,
    facts: TrialFacts,
    bad_sensors: BadSensorFacts | None,
    offset: Path,
    complete: str,
    finish: Callable[[Any], None],
) -> None:
    """Bring a trial's run up to date; ``offset`` is the file that says how far it was.

    ``bad_sensors`` is what it shows of evaluations under corruptions; where that was not asked
    (None) it stays as it is. ``finish`` adds to the run of a done trial what is no point; it is
    called until it returned once for this ``complete``.
    """
    known = read_json(offset) or {}
    run = _find_trial(client, experiment, facts, bad_sensors, known.get("run"))
    if known.get("run") != run.info.run_id:
        known = {"run": run.info.run_id, "epochs": 0, "complete": ""}
        write_json(offset, known)
    passing = TAGS_THAT_COME_AND_GO + (() if bad_sensors is None else BAD_SENSOR_TAGS)
    _describe(client, run, facts, passing)
    _add_points(client, facts, known, offset)
    if facts.record and known["complete"] != complete:
        _log(client, run.info.run_id, _final_points(facts.final, facts.curves, facts.ended))
        finish(run)
        write_json(offset, known | {"epochs": len(facts.history), "complete": complete})
    if bad_sensors is not None:
        new = bad_sensors.missing(run.data.metrics)
        _log(client, run.info.run_id, _final_points(new.metrics, new.curves, facts.ended))
    _conclude(client, run, facts.name, facts.status, facts.ended)


def mirror_row_run(
    client: Any, experiment: str, facts: RowFacts, finish: Callable[[str], None]
) -> str:
    """The id of a row's run with what the row is now.

    A run with other points goes to MLflow's trash.

    ``finish`` adds to a new run what is no point.
    """
    runs = _search(client, experiment, "tags.kind = 'row'")
    ours = [run for run in runs if run.data.tags.get("label") == facts.label]
    same = [run for run in ours if run.data.tags.get("content") == facts.content]
    for run in ours:
        if run not in same[:1]:
            _supersede(client, run)
    run = (
        same[0]
        if same
        else client.create_run(
            experiment, facts.at, {"kind": "row", "label": facts.label}, facts.label
        )
    )
    _describe(client, run, facts, TAGS_THAT_COME_AND_GO + BAD_SENSOR_TAGS)
    if not same:
        _log(client, run.info.run_id, _final_points(facts.metrics, facts.curves, facts.at))
        finish(run.info.run_id)
        # Last: a run that a kill left without it is replaced.
        client.set_tag(run.info.run_id, "content", facts.content)
    _conclude(client, run, facts.label, facts.status, facts.at)
    return str(run.info.run_id)


def remove_other_rows(client: Any, experiment: str, labels: Sequence[str]) -> None:
    """Runs of rows that the study no longer has go to MLflow's trash."""
    for run in _search(client, experiment, "tags.kind = 'row'"):
        if run.data.tags.get("label") not in labels:
            _supersede(client, run)


def place_below(client: Any, experiment: str, parents: Mapping[str, str]) -> dict[str, str]:
    """Put each trial's run below its row's; the ids of the trials' runs by trial id.

    ``parents``: trial id -> run id of the row.
    """
    found = {}
    for run in _search(client, experiment, "tags.kind = 'trial'"):
        trial = run.data.tags["trial_id"]
        found[trial] = str(run.info.run_id)
        if trial in parents and run.data.tags.get(PARENT) != parents[trial]:
            client.set_tag(run.info.run_id, PARENT, parents[trial])
    return found


def set_experiment_tags(client: Any, experiment: str, tags: Mapping[str, str]) -> None:
    """Tags of the experiment as they are now."""
    known = client.get_experiment(experiment).tags
    for name, text in tags.items():
        if known.get(name) != text:
            client.set_experiment_tag(experiment, name, text)


def set_note(client: Any, run_id: str, text: str) -> None:
    """The description of a run."""
    if client.get_run(run_id).data.tags.get("mlflow.note.content") != text:
        client.set_tag(run_id, "mlflow.note.content", text)


def mirror_study_run(
    client: Any,
    experiment: str,
    name: str,
    at: int,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> str:
    """Bring the study's own run up to date and return its id.

    ``at``: the last moment of training, in milliseconds.

    It begins there, too: the newest run is the first that MLflow shows.
    """
    run = find_study(client, experiment, name, at)
    _set_tags(client, run, tags)
    _log_changed(client, run, finite(metrics), at)
    _conclude(client, run, f"study {name}", "FINISHED", at)
    return str(run.info.run_id)


def find_experiment(client: Any, name: str, artifacts: str | None) -> str:
    """The id of the study's experiment, created or taken out of MLflow's trash if need be."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location=artifacts))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _find_trial(
    client: Any,
    experiment: str,
    facts: TrialFacts,
    bad_sensors: BadSensorFacts | None,
    previous: str | None,
) -> Any:
    """The run of this training of the trial, created if need be.

    Runs that it replaces go to MLflow's trash: of another training, or with numbers of bad sensors
    that are none any more.
    """
    runs = client.search_runs(
        [experiment], f"tags.trial_id = '{facts.trial_id}' and tags.kind = 'trial'"
    )
    ours = sorted(
        (run for run in runs if run.info.start_time == facts.began),
        key=lambda run: str(run.info.run_id),
    )
    if bad_sensors is None:
        outdated = []
    else:
        outdated = [run for run in ours if bad_sensors.contradicts(run.data.metrics)]
    kept = [run for run in ours if run not in outdated]
    # The previous one: the trial was trained again since.
    earlier = [run for run in runs if run not in ours and run.info.run_id == previous]
    # The second of two equals: its creation was answered too late.
    for run in [*kept[1:], *outdated, *earlier]:
        _supersede(client, run)
    tags = {"kind": "trial", "trial_id": facts.trial_id}
    return kept[0] if kept else client.create_run(experiment, facts.began, tags, facts.name)


def _supersede(client: Any, run: Any) -> None:
    client.set_tag(run.info.run_id, "kind", "superseded")
    client.delete_run(run.info.run_id)


def _search(client: Any, experiment: str, condition: str) -> list[Any]:
    """All runs of a kind, page by page."""
    page = client.search_runs([experiment], condition, max_results=POINTS_PER_CALL)
    found = list(page)
    while page.token:
        page = client.search_runs(
            [experiment], condition, max_results=POINTS_PER_CALL, page_token=page.token
        )
        found += page
    return found


def find_study(client: Any, experiment: str, name: str, began: int) -> Any:
    """The study's own run, created if need be."""
    runs = client.search_runs(
        [experiment], "tags.kind = 'study'", order_by=["attributes.start_time ASC"]
    )
    return (
        runs[0]
        if runs
        else client.create_run(experiment, began, {"kind": "study", "study": name}, f"study {name}")
    )


def _describe(client: Any, run: Any, facts: TrialFacts | RowFacts, passing: Sequence[str]) -> None:
    """Tags as they are now, without those in ``passing`` that it lost; parameters that are not
    there yet.
    """
    from mlflow.entities import Param

    params = [
        Param(name, text) for name, text in facts.params.items() if name not in run.data.params
    ]
    _set_tags(client, run, facts.tags, params)
    for name in passing:
        if name in run.data.tags and name not in facts.tags:
            client.delete_tag(run.info.run_id, name)


def _set_tags(client: Any, run: Any, tags: Mapping[str, str], params: Sequence[Any] = ()) -> None:
    from mlflow.entities import RunTag

    changed = [RunTag(name, text) for name, text in tags.items() if run.data.tags.get(name) != text]
    for start in range(0, max(len(changed), len(params)), TAGS_PER_CALL):
        part = slice(start, start + TAGS_PER_CALL)
        client.log_batch(run.info.run_id, params=params[part], tags=changed[part], synchronous=True)


def _conclude(client: Any, run: Any, name: str, status: str, ended: int) -> None:
    run_id, info = run.info.run_id, run.info
    if info.run_name != name:
        client.update_run(run_id, name=name)
    if status == "RUNNING":
        if info.status != "RUNNING":
            client.update_run(run_id, status="RUNNING")
    elif (info.status, info.end_time) != (status, ended):
        client.set_terminated(run_id, status, ended)


# ---------------------------------------------------------------------- points


def _add_points(client: Any, facts: TrialFacts, known: Json, offset: Path) -> None:
    """The epochs after the offset, which follows each call: a kill repeats at most one."""
    run_id, epochs = known["run"], known["epochs"]
    while epochs < len(facts.history):
        following = _epochs_of_one_call(facts.history, epochs)
        _log(
            client,
            run_id,
            [point for line in facts.history[epochs:following] for point in _points(line)],
        )
        epochs = following
        write_json(offset, known | {"epochs": epochs})


def _final_points(
    final: Mapping[str, float], curves: Mapping[str, Sequence[tuple[int, float]]], at: int
) -> list[Point]:
    single = [(name, value, at, 0) for name, value in finite(final).items()]
    return [
        *single,
        *((name, value, at, step) for name, points in curves.items() for step, value in points),
    ]


def _points(line: Json) -> list[Point]:
    # The store's time, never the clock: the same point sent twice is stored once.
    return [
        (name, value, milliseconds(line["time"]), int(line["step"]))
        for name, value in finite(line["values"]).items()
    ]


def _epochs_of_one_call(history: Sequence[Json], start: int) -> int:
    end, points = start, 0
    while end < len(history) and (
        end == start or points + len(history[end]["values"]) <= POINTS_PER_CALL
    ):
        points += len(history[end]["values"])
        end += 1
    return end


def _log(client: Any, run_id: str, points: Sequence[Point]) -> None:
    from mlflow.entities import Metric

    for start in range(0, len(points), POINTS_PER_CALL):
        batch = [Metric(*point) for point in points[start : start + POINTS_PER_CALL]]
        client.log_batch(run_id, metrics=batch, synchronous=True)


def _log_changed(client: Any, run: Any, metrics: Mapping[str, float], timestamp: int) -> None:
    """Log values that differ from the last ones, always after them.

    So the newest is the one shown.
    """
    points = []
    for name, value in metrics.items():
        if run.data.metrics.get(name) != value:
            earlier = (
                client.get_metric_history(run.info.run_id, name) if name in run.data.metrics else []
            )
            points.append(
                (name, value, max([timestamp, *(point.timestamp + 1 for point in earlier)]), 0)
            )
    _log(client, run.info.run_id, points)
