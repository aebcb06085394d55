"""What MLflow shows of evaluations under corruptions, against cases counted by hand."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.robust import evidence
from harness.robust.__main__ import main as robust
from harness.robust.catalogue import Condition
from harness.robust.evidence import FOLDER
from harness.run import main as run
from harness.store import Store
from harness.study.plan import Plan
from harness.tracking.mirror import mirror
from harness.tracking.mlflow.database import connect, ensure_database
from harness.tracking.mlflow.tracker import MLflowTracker
from tests.support.handmade import planned, trial_of, write_condition, write_trial
from tests.support.reports import write_report
from tests.tracking.test_calls import Counting

CLEAN = (30, 24, 24, 42, 42, 36, 54)
"""Correct of 60: thumb, spectrum, profile, thumb+spectrum, thumb+profile, spectrum+profile, all."""

BLUR = {1: 40, 2: 34, 3: 24, 4: 18, 5: 12}
"""Correct on thumb+spectrum, thumb+profile and all three at each severity; with seed 1 one more."""

METHODS = ("sf_md", "hemis")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of MLflow, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("fresh")
    ensure_database(folder / "mlflow.db", folder / "mlartifacts")
    return folder / "mlflow.db"


@pytest.fixture(autouse=True)
def copied(fresh: Path, tmp_path: Path) -> None:
    """Each test begins with a copy of it."""
    (tmp_path / "runs").mkdir()
    for folder in (tmp_path, tmp_path / "runs"):
        shutil.copy(fresh, folder)


def corrupt(plan: Plan, store: Store, label: str, seed: int, by: Mapping[int, int] = BLUR) -> None:
    """Blur on thumb; jpeg, which changes nothing."""
    for severity, count in by.items():
        count += seed
        blur = Condition("thumb", "picture", "blur", severity, float(severity))
        write_condition(plan, store, label, seed, blur, (20, count, count, count))
        jpeg = Condition("thumb", "picture", "jpeg", severity, 10.0 * severity)
        write_condition(plan, store, label, seed, jpeg, (30, 42, 42, 54))


def study(output: Path) -> tuple[Plan, Store]:
    """Two rows with two seeds, and no evaluation under corruptions."""
    plan, store = planned(output, f"methods=[{','.join(METHODS)}]", "seeds=[0,1]")
    for label in METHODS:
        for seed in (0, 1):
            trial = store.trial(write_trial(plan, store, label, seed, CLEAN).id)
            values = {"val/accuracy_mean": 50.0}
            trial.save_history([{"step": 0, "time": 1.0e9 + seed, "values": values}])
    return plan, store


def corrupt_all(plan: Plan, store: Store) -> None:
    """All evaluations of the study."""
    for label in METHODS:
        for seed in (0, 1):
            corrupt(plan, store, label, seed)


def evaluated(output: Path) -> tuple[Plan, Store]:
    """The study with all evaluations."""
    plan, store = study(output)
    corrupt_all(plan, store)
    return plan, store


def compare(plan: Plan, store: Store) -> MLflowTracker:
    """What a command does at its end."""
    tracker = MLflowTracker(plan)
    mirror(tracker, write_report(plan, store))
    return tracker


def runs(plan: Plan, kind: str) -> dict[str, Any]:
    """The active runs of a kind, by name."""
    client = connect(MLflowTracker(plan).uri)
    experiment = client.get_experiment_by_name(plan.study.name)
    found = client.search_runs([experiment.experiment_id], f"tags.kind = '{kind}'")
    assert len({one.info.run_name for one in found}) == len(found)
    return {one.info.run_name: one for one in found}


def shown(one: Any) -> dict[str, float]:
    """What a run shows of bad sensors."""
    return {
        name: value
        for name, value in one.data.metrics.items()
        if name.startswith(("with_bad_sensor/", "by_severity/"))
    }


def view(plan: Plan, key: str) -> dict[str, Any]:
    """What a saved view asks for."""
    client = connect(MLflowTracker(plan).uri)
    tags = client.get_experiment_by_name(plan.study.name).tags
    found: dict[str, Any] = json.loads(json.loads(tags[f"mlflow.sharedViewState.{key}"])["state"])
    return found


def database(output: Path) -> list[list[tuple[Any, ...]]]:
    """Everything that is in MLflow's database about runs and experiments."""
    tables = ("experiments", "experiment_tags", "runs", "metrics", "latest_metrics", "tags")
    with closing(sqlite3.connect(output / "mlflow.db")) as opened:
        return [sorted(map(repr, opened.execute(f"SELECT * FROM {one}"))) for one in tables]


def expected(*seeds: int) -> dict[str, float]:
    """What these seeds amount to, by counting: the mean of three combinations of 60 samples."""
    more = sum(seeds) / len(seeds)
    clean = 100 * (42 + 42 + 54) / 180
    blur = [100 * (count + more) / 60 for count in BLUR.values()]
    both = [(value + clean) / 2 for value in blur]
    found = {
        "with_bad_sensor/thumb/clean": clean,
        "with_bad_sensor/thumb/left_out": 100 * (24 + 24 + 36) / 180,
        "by_severity/thumb": both[-1],
        "with_bad_sensor/accuracy_mean": sum(both) / 5,
        "with_bad_sensor/accuracy_clean": clean,
        "with_bad_sensor/accuracy_minus_clean": sum(both) / 5 - clean,
    }
    for name, values in (("blur", blur), ("jpeg", [clean] * 5), ("mean", both)):
        start = f"with_bad_sensor/thumb/{name}"
        found |= {f"{start}/severity_{at}": value for at, value in enumerate(values, 1)}
        found[f"{start}/severity_mean"] = sum(values) / 5
        found[f"{start}/minus_clean"] = sum(values) / 5 - clean
    return found


def test_rows_and_trials_show_each_corruption_the_means_the_difference_and_the_definition(
    tmp_path: Path,
) -> None:
    plan, store = evaluated(tmp_path)
    client = connect(compare(plan, store).uri)
    for label in METHODS:
        row = runs(plan, "row")[label]
        assert shown(row) == pytest.approx(expected(0, 1))
        curve = client.get_metric_history(row.info.run_id, "by_severity/thumb")
        clean, *corrupted = [point.value for point in curve]
        assert [point.step for point in curve] == [0, 1, 2, 3, 4, 5]
        assert clean == pytest.approx(expected(0)["with_bad_sensor/thumb/clean"])
        assert corrupted[1] == pytest.approx(
            expected(0, 1)["with_bad_sensor/thumb/mean/severity_2"]
        )
        for seed in (0, 1):
            assert shown(runs(plan, "trial")[f"{label} seed {seed}"]) == pytest.approx(
                expected(seed)
            )
    # Blur: 26.1 of 60 are 43.5 %, jpeg and clean 76.67 %; seeds are 1 of 60 apart in one of two.
    tags = runs(plan, "row")["hemis"].data.tags
    assert tags["bad_sensor"] == "60.1 ± 0.6 (−16.58)"
    assert tags["leave_out_from"].startswith("thumb > 5")
    assert runs(plan, "trial")["hemis seed 0"].data.tags["bad_sensor"] == "59.7 (−17.00)"
    # The definition stands with the numbers.
    every = [*runs(plan, "row").values(), *runs(plan, "trial").values()]
    assert len({one.data.tags["bad_sensor_definition"] for one in every}) == 1
    for one in every:
        tags = one.data.tags
        assert "- thumb: blur 1/2/3/4/5, jpeg 10/20/30/40/50" in tags["mlflow.note.content"]
        assert tags["bad_sensor_definition"] in tags["mlflow.note.content"]


def test_another_level_is_another_definition() -> None:
    other = Condition("thumb", "picture", "blur", 1, 1.5)
    assert evidence.definition_of([other]) != evidence.definition_of(
        [Condition("thumb", "picture", "blur", 1, 1.0)]
    )


def test_trials_that_are_there_get_the_numbers_and_the_page_of_runs_a_column(
    tmp_path: Path,
) -> None:
    plan, store = study(tmp_path)
    compare(plan, store)
    assert MLflowTracker(plan).up_to_date()
    assert "tags.`bad_sensor`" not in view(plan, "harness-methods")["selectedColumns"]
    before = {name: one.info.run_id for name, one in runs(plan, "trial").items()}

    corrupt_all(plan, store)
    assert not MLflowTracker(plan).up_to_date()
    compare(plan, store)
    assert MLflowTracker(plan).up_to_date()
    after = runs(plan, "trial")
    assert {name: one.info.run_id for name, one in after.items()} == before
    assert shown(after["sf_md seed 1"]) == pytest.approx(expected(1))
    state = view(plan, "harness-methods")
    assert state["selectedColumns"][:3] == [
        *("tags.`average`", "tags.`worst_case`", "tags.`bad_sensor`")
    ]
    titles = [section["name"] for section in state["compareRunSections"]]
    drawn = {card.get("metricKey") for card in state["compareRunCharts"]}
    assert "With a bad sensor" in titles
    assert {"with_bad_sensor/accuracy_mean", "by_severity/thumb"} <= drawn
    columns = view(plan, "harness-trials")["selectedColumns"]
    assert "metrics.`with_bad_sensor/accuracy_mean`" in columns


def counted(plan: Plan) -> tuple[MLflowTracker, Counting]:
    """A tracker whose calls of MLflow are counted."""
    tracker = MLflowTracker(plan)
    tracker.open()
    assert tracker._opened is not None
    counting = Counting(tracker._opened[0])
    tracker._opened = counting, tracker._opened[1]
    return tracker, counting


def test_all_numbers_of_a_trial_are_one_call_and_the_second_time_none(tmp_path: Path) -> None:
    plan, store = study(tmp_path)
    compare(plan, store)
    corrupt_all(plan, store)
    tracker, counting = counted(plan)
    report = write_report(plan, store)
    tracker.mirror_trial(trial_of(plan, "hemis", 0), report.groups[0].corrupted)
    assert counting.calls == {"log_batch": 2}  # what it is now, and the numbers
    # While trials run nobody asks, and what is there stays.
    tracker.mirror_trial(trial_of(plan, "hemis", 0))
    assert shown(runs(plan, "trial")["hemis seed 0"]) == pytest.approx(expected(0))

    compare(plan, store)
    before = database(tmp_path)
    tracker, counting = counted(plan)
    mirror(tracker, report)
    # The study's own run gets its report's files and data again, which are the same.
    assert not set(counting.calls) & {"create_run", "log_batch", "update_run", "set_terminated"}
    assert database(tmp_path) == before


def test_numbers_of_another_definition_are_taken_away_and_never_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = evaluated(tmp_path)
    compare(plan, store)
    first = runs(plan, "row")["hemis"].data.tags["bad_sensor_definition"]
    monkeypatch.setattr(evidence, "_own_code", lambda: "a corruption was changed")
    assert not MLflowTracker(plan).up_to_date()
    compare(plan, store)
    every = runs(plan, "row") | runs(plan, "trial")
    assert len(every) == 6
    for one in every.values():
        assert not shown(one)
        assert "bad_sensor" not in one.data.tags and "bad_sensor_definition" not in one.data.tags
    state = runs(plan, "row")["hemis"].data.tags["bad_sensor_state"]
    assert state.startswith("20 evaluations with bad sensors were made by another version")
    trial = runs(plan, "trial")["hemis seed 0"]
    assert trial.data.metrics["test/accuracy_full"] == pytest.approx(90)

    # One seed by the new definition, under which blur does nothing at severity 1.
    corrupt(plan, store, "hemis", 0, BLUR | {1: 42})
    compare(plan, store)
    new, old = (runs(plan, "trial")[f"hemis seed {seed}"] for seed in (0, 1))
    assert shown(new)["with_bad_sensor/thumb/blur/severity_1"] == pytest.approx(70)
    assert not shown(old)
    row = runs(plan, "row")["hemis"]
    assert row.data.tags["bad_sensor_definition"] != first
    assert row.data.metrics["with_bad_sensor/thumb/blur/severity_1"] == pytest.approx(70)
    # Of one seed of two: the columns of all rows are means over all seeds.
    assert "with_bad_sensor/accuracy_mean" not in row.data.metrics
    assert "1 of 2 seeds are evaluated to the end" in row.data.tags["bad_sensor_state"]


def test_what_is_removed_from_the_store_is_removed_from_mlflow(tmp_path: Path) -> None:
    plan, store = evaluated(tmp_path)
    compare(plan, store)
    for trial in plan.trials:
        shutil.rmtree(store.trial(trial.id) / FOLDER)
    assert not MLflowTracker(plan).up_to_date()
    compare(plan, store)
    for one in [*runs(plan, "row").values(), *runs(plan, "trial").values()]:
        assert not shown(one)
        assert not [name for name in one.data.tags if name.startswith("bad_sensor")]


# ---------------------------------------------------------------------- the commands

SMALL = (
    *("dataset.limit=60", "methods=[sf_md]", "seeds=[0]", "executor=local"),
    *("train.epochs=1", "backbone.width=2"),
)


def test_the_commands_bring_mlflow_up_to_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SMALL, f"output={tmp_path / 'runs'}"]
    assert run(arguments) == 0
    plan, _ = planned(tmp_path / "runs", *SMALL)
    assert not shown(runs(plan, "row")["sf_md"])

    assert robust([*arguments, "tracking.enabled=false"]) == 0
    assert not shown(runs(plan, "row")["sf_md"])
    assert run(arguments) == 0  # MLflow is behind
    capsys.readouterr()
    behind = shown(runs(plan, "row")["sf_md"])
    assert len(behind) > 3 * 7 * 5 and "with_bad_sensor/thumb/blur/severity_5" in behind
    assert shown(runs(plan, "trial")["sf_md seed 0"]) == pytest.approx(behind)

    before = database(tmp_path / "runs")
    assert run(arguments) == 0 and robust(arguments) == 0
    assert "compare in the browser" not in capsys.readouterr().out
    assert database(tmp_path / "runs") == before

    (trial,) = plan.trials
    shutil.rmtree(tmp_path / "runs" / "store" / trial.id / FOLDER)
    assert robust(arguments) == 0
    assert "compare in the browser" in capsys.readouterr().out
    assert shown(runs(plan, "row")["sf_md"]) == pytest.approx(behind)


def test_a_tracker_that_cannot_be_reached_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SMALL, f"output={tmp_path / 'runs'}"]
    assert run([*arguments, "tracking.enabled=false"]) == 0
    (tmp_path / "file").touch()
    capsys.readouterr()
    assert robust([*arguments, f"tracking.uri=sqlite:///{tmp_path}/file/mlflow.db"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("warning: MLflow at sqlite:///") and said.err.count("\n") == 1
    assert "With a bad sensor, sf_md" in said.out
