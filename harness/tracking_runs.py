"""One run in MLflow brought up to what the store says: find or create, describe, add what is new, conclude.

Nothing here reads a clock, and what is there already is not sent again: every function may be repeated at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.store import Json, read_json, write_json
from harness.tracking_facts import TAGS_THAT_COME_AND_GO, TrialFacts, finite, milliseconds

POINTS_PER_CALL = 1000
Point = tuple[str, float, int, int]


def mirror_trial_run(client: Any, experiment: str, facts: TrialFacts, offset: Path) -> None:
    """Bring a trial's run up to date; ``offset`` is the file that says how far it was."""
    known = read_json(offset) or {}
    run = _find_trial(client, experiment, facts, known.get("run"))
    if known.get("run") != run.info.run_id:
        known = {"run": run.info.run_id, "epochs": 0, "complete": False}
        write_json(offset, known)
    _describe(client, run, facts)
    _add_points(client, facts, known, offset)
    _conclude(client, run, facts)


def mirror_study_run(
    client: Any, experiment: str, name: str, span: tuple[int, int], metrics: Mapping[str, float], tags: Mapping[str, str]
) -> str:
    """Bring the study's own run up to date and return its id; ``span``: first and last moment of training, in milliseconds."""
    run = _find_study(client, experiment, name, span[0])
    run_id = str(run.info.run_id)
    _set_tags(client, run, tags)
    _log_changed(client, run, finite(metrics), span[1])
    if (run.info.status, run.info.end_time) != ("FINISHED", span[1]):
        client.set_terminated(run_id, "FINISHED", span[1])
    return run_id


def find_experiment(client: Any, name: str, artifacts: str | None) -> str:
    """The id of the study's experiment, created or taken out of MLflow's trash if need be."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location=artifacts))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _find_trial(client: Any, experiment: str, facts: TrialFacts, previous: str | None) -> Any:
    """The run of this training of the trial, created if need be; runs that it replaces go to MLflow's trash."""
    runs = client.search_runs([experiment], f"tags.trial_id = '{facts.trial_id}' and tags.kind = 'trial'")
    ours = sorted((run for run in runs if run.info.start_time == facts.began), key=lambda run: str(run.info.run_id))
    # The second of two equals: its creation was answered too late. The previous one: the trial was trained again since.
    for run in [*ours[1:], *(run for run in runs if run not in ours and run.info.run_id == previous)]:
        client.set_tag(run.info.run_id, "kind", "superseded")
        client.delete_run(run.info.run_id)
    tags = {"kind": "trial", "trial_id": facts.trial_id}
    return ours[0] if ours else client.create_run(experiment, facts.began, tags, facts.name)


def _find_study(client: Any, experiment: str, name: str, began: int) -> Any:
    runs = client.search_runs([experiment], "tags.kind = 'study'", order_by=["attributes.start_time ASC"])
    return runs[0] if runs else client.create_run(experiment, began, {"kind": "study", "study": name}, f"study {name}")


def _describe(client: Any, run: Any, facts: TrialFacts) -> None:
    """Tags as they are now; parameters that are not there yet."""
    from mlflow.entities import Param

    params = [Param(name, text) for name, text in facts.params.items() if name not in run.data.params]
    _set_tags(client, run, facts.tags, params)
    for name in TAGS_THAT_COME_AND_GO:
        if name in run.data.tags and name not in facts.tags:
            client.delete_tag(run.info.run_id, name)


def _set_tags(client: Any, run: Any, tags: Mapping[str, str], params: Sequence[Any] = ()) -> None:
    from mlflow.entities import RunTag

    changed = [RunTag(name, text) for name, text in tags.items() if run.data.tags.get(name) != text]
    client.log_batch(run.info.run_id, params=params, tags=changed, synchronous=True)


def _conclude(client: Any, run: Any, facts: TrialFacts) -> None:
    run_id, info = run.info.run_id, run.info
    if info.run_name != facts.name:
        client.update_run(run_id, name=facts.name)
    if facts.status == "RUNNING":
        if info.status != "RUNNING":
            client.update_run(run_id, status="RUNNING")
    elif (info.status, info.end_time) != (facts.status, facts.ended):
        client.set_terminated(run_id, facts.status, facts.ended)


# ---------------------------------------------------------------------- points


def _add_points(client: Any, facts: TrialFacts, known: Json, offset: Path) -> None:
    """The epochs after the offset, then final metrics and artifacts; the offset follows each call: a kill repeats at most one."""
    run_id, epochs = known["run"], known["epochs"]
    while epochs < len(facts.history):
        following = _epochs_of_one_call(facts.history, epochs)
        _log(client, run_id, [point for line in facts.history[epochs:following] for point in _points(line)])
        epochs = following
        write_json(offset, known | {"epochs": epochs})
    if facts.final and not known["complete"]:
        _log(client, run_id, [(name, value, facts.ended, 0) for name, value in finite(facts.final).items()])
        for path in facts.artifacts:
            client.log_artifact(run_id, str(path))
        write_json(offset, {"run": run_id, "epochs": epochs, "complete": True})


def _points(line: Json) -> list[Point]:
    # The store's time, never the clock: the same point sent twice is stored once.
    return [(name, value, milliseconds(line["time"]), int(line["step"])) for name, value in finite(line["values"]).items()]


def _epochs_of_one_call(history: Sequence[Json], start: int) -> int:
    end, points = start, 0
    while end < len(history) and (end == start or points + len(history[end]["values"]) <= POINTS_PER_CALL):
        points += len(history[end]["values"])
        end += 1
    return end


def _log(client: Any, run_id: str, points: Sequence[Point]) -> None:
    from mlflow.entities import Metric

    client.log_batch(run_id, metrics=[Metric(*point) for point in points], synchronous=True)


def _log_changed(client: Any, run: Any, metrics: Mapping[str, float], timestamp: int) -> None:
    """Values that differ from the last ones, always after them, so that the newest is the one shown."""
    points = []
    for name, value in metrics.items():
        if run.data.metrics.get(name) != value:
            earlier = client.get_metric_history(run.info.run_id, name) if name in run.data.metrics else []
            points.append((name, value, max([timestamp, *(point.timestamp + 1 for point in earlier)]), 0))
    _log(client, run.info.run_id, points)
