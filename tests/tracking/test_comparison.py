"""What MLflow shows of the comparison: rows, differences, curves, descriptions and views."""

from __future__ import annotations

import doctest
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pytest

from harness.protocol.combinations import lattice
from harness.reporting.write import Report
from harness.tracking.mirror import mirror
from harness.tracking.mlflow import saved_views as tracking_views
from harness.tracking.mlflow.runs import _set_tags, remove_other_rows
from harness.tracking.mlflow.saved_views import LONGEST, saved_views
from harness.tracking.mlflow.trial_facts import final_curves, final_metrics
from tests.support.reports import write_report

KEYS = [combination.key for combination in lattice(("thumb", "spectrum", "profile"))]
METHODS, SEEDS = ("sf_md", "dmrnet"), (0, 1)
RUN_PAGE = re.compile(r"#/experiments/(\d+)/runs/([0-9a-f]{32})")


def compare(study: Any) -> Report:
    """What a finished run of a study does at its end."""
    files = write_report(study.plan, study.store)
    mirror(study.tracker, files)
    return files


@pytest.fixture(scope="module")
def compared(study: Callable[..., Any], mirrored: Any) -> Any:
    """Two methods with two seeds, trained, and compared in MLflow."""
    two = study("compared", f"methods=[{','.join(METHODS)}]", "seeds=[0,1]")
    two.train()
    two.files_of_report = compare(two)
    return two


def accuracies(study: Any, label: str) -> np.ndarray[Any, Any]:
    """(seeds, combinations) from the kept scores by plain numpy."""
    trials = [trial for trial in study.plan.trials if trial.row.label == label]
    return np.array([[study.cells(trial)[0][key] for key in KEYS] for trial in trials])


def rows(study: Any) -> dict[str, Any]:
    return {run.info.run_name: run for run in study.runs("row")}


def close(values: dict[str, float]) -> Any:
    return pytest.approx(values, abs=1e-9)


# ---------------------------------------------------------------------- rows


def test_a_row_has_the_means_over_its_seeds_under_the_names_of_its_trials(compared: Any) -> None:
    assert set(rows(compared)) == set(METHODS)
    for label in METHODS:
        values, shown = accuracies(compared, label), rows(compared)[label].data.metrics
        expected = dict(zip((f"test/accuracy/{key}" for key in KEYS), values.mean(0), strict=True))
        expected |= {
            "test/accuracy_mean": values.mean(),
            "test/accuracy_worst": values.min(1).mean(),
        }
        expected |= {"test/accuracy_full": values[:, -1].mean()}
        assert {name: value for name, value in shown.items() if name.startswith("test/")} == close(
            expected
        )
        spread = {
            "std_over_seeds/accuracy_mean": values.mean(1).std(ddof=1),
            "std_over_seeds/accuracy/thumb": values[:, 0].std(ddof=1),
        }
        assert {name: shown[name] for name in spread} == close(spread)
        assert shown["seeds_finished"] == len(SEEDS)
        trial = compared.run(compared.plan.trials[0]).data.metrics
        assert {name for name in trial if name.startswith("test/")} == {
            name for name in shown if name.startswith("test/")
        }


def test_a_row_says_in_words_what_the_report_says(compared: Any) -> None:
    for label in METHODS:
        values, tags = accuracies(compared, label), rows(compared)[label].data.tags
        assert tags["average"].startswith(f"{values.mean():.1f} ± {values.mean(1).std(ddof=1):.1f}")
        assert tags["on thumb.profile"].startswith(
            f"{values[:, 4].mean():.1f} ± {values[:, 4].std(ddof=1):.1f}"
        )
        described = {
            "kind": "row",
            "method": label,
            "variant": "paper",
            "label": label,
            "seeds": "0, 1",
            "dataset": "digits",
        }
        described |= {
            "protocol": "default",
            "synthetic": "false",
            "device": "cpu",
            "rank": "1–2",
            "ties": "a",
            "study": "compared",
        }
        assert described.items() <= tags.items()
    colours = [run.data.tags["mlflow.runColor"] for run in rows(compared).values()]
    assert len(set(colours)) == 2


def test_a_row_differs_from_the_baseline_as_its_scores_do(compared: Any) -> None:
    baseline, other = accuracies(compared, "sf_md"), accuracies(compared, "dmrnet")
    shown, tags = rows(compared)["dmrnet"].data.metrics, rows(compared)["dmrnet"].data.tags
    expected = dict(
        zip((f"minus_baseline/{key}" for key in KEYS), (other - baseline).mean(0), strict=True)
    )
    expected |= {"minus_baseline/average": (other - baseline).mean()}
    assert {name: shown[name] for name in expected} == close(expected)
    assert (
        shown["minus_baseline/average_low"]
        < (other - baseline).mean()
        < shown["minus_baseline/average_high"]
    )
    assert tags["verdict"] in {"better", "worse", "not told apart"}
    assert re.match(r"[−+]?\d+\.\d\d \([−+]?\d", tags["minus_baseline"])
    gap = (other - baseline)[:, 0].mean()
    assert re.match(r"[−+]?(\d+\.\d\d)", tags["difference thumb"])[1] == f"{abs(gap):.2f}"  # type: ignore[index]
    assert not any(
        name.startswith("minus_baseline") for name in rows(compared)["sf_md"].data.metrics
    )


def test_the_curves_of_a_row_are_means_over_seeds(compared: Any) -> None:
    for label in METHODS:
        run = rows(compared)[label]
        histories = [
            compared.history(trial) for trial in compared.plan.trials if trial.row.label == label
        ]
        for name in ("val/accuracy_mean", "train/loss"):
            expected = np.mean(
                [[line["values"][name] for line in history] for history in histories], 0
            )
            assert [(s, v) for s, _, v in compared.curve(run, name)] == [
                (s, pytest.approx(v)) for s, v in enumerate(expected)
            ]
        means = accuracies(compared, label).mean(0)
        by_size = [(1, means[:3].mean()), (2, means[3:6].mean()), (3, means[6])]
        assert [(s, v) for s, _, v in compared.curve(run, "by_number_present/accuracy")] == [
            (size, pytest.approx(value)) for size, value in by_size
        ]


def test_trials_lie_below_their_row_and_have_its_colour(compared: Any) -> None:
    for trial in compared.plan.trials:
        run, row = compared.run(trial), rows(compared)[trial.row.label]
        assert run.data.tags["mlflow.parentRunId"] == row.info.run_id
        assert run.data.tags["mlflow.runColor"] == row.data.tags["mlflow.runColor"]
        curve = [
            (step, value) for step, _, value in compared.curve(run, "by_number_present/accuracy")
        ]
        cells = compared.cells(trial)[0]
        assert curve[0] == (1, pytest.approx(np.mean([cells[key] for key in KEYS[:3]])))
        assert curve[2] == (3, pytest.approx(cells[KEYS[-1]])) and len(curve) == 3


def test_the_newest_runs_are_the_study_and_then_the_rows_best_first(compared: Any) -> None:
    runs = compared.client.search_runs(
        [compared.experiment.experiment_id], order_by=["attributes.start_time DESC"]
    )
    best = sorted(METHODS, key=lambda label: -accuracies(compared, label).mean())
    assert [run.info.run_name for run in runs[:3]] == ["study compared", *best]


# ---------------------------------------------------------------------- descriptions and views


def test_the_description_of_the_experiment_has_the_answer_the_table_and_links_that_lead_somewhere(
    compared: Any,
) -> None:
    experiment = compared.experiment
    note = experiment.tags["mlflow.note.content"]
    report = (compared.study.folder / "report.md").read_text()
    answer = report.split("## Answer\n\n")[1].split("\n")[0]
    assert note.startswith(answer)
    for label in METHODS:
        values = accuracies(compared, label)
        (line,) = [line for line in note.splitlines() if line.startswith(f"| [{label}]")]
        assert f"| {values.mean():.1f} ± {values.mean(1).std(ddof=1):.1f}" in line
        assert (
            f"[{label}](#/experiments/{experiment.experiment_id}/runs/{rows(compared)[label].info.run_id})"
            in line
        )
    runs = {run.info.run_id for kind in ("study", "row") for run in compared.runs(kind)}
    assert {run for _, run in RUN_PAGE.findall(note)} == runs
    keys = set(re.findall(r"viewStateShareKey=([\w-]+)", note))
    assert keys and all(f"mlflow.sharedViewState.{key}" in experiment.tags for key in keys)


def test_descriptions_of_runs_tell_their_numbers_and_lead_to_their_trials(compared: Any) -> None:
    trial = compared.plan.trials[0]
    cells = compared.cells(trial)[0]
    note = compared.run(trial).data.tags["mlflow.note.content"]
    assert note.startswith(
        f"**sf_md seed 0**: {np.mean(list(cells.values())):.1f} % accuracy "
        "averaged over 7 combinations"
    )
    row = rows(compared)["sf_md"].data.tags["mlflow.note.content"]
    below = {run.info.run_id for run in compared.runs() if run.data.tags["label"] == "sf_md"}
    assert {run for _, run in RUN_PAGE.findall(row)} == below and len(below) == len(SEEDS)


def test_saved_views_ask_for_what_the_runs_have(compared: Any) -> None:
    tags = compared.experiment.tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    saved = {
        name: json.loads(text)
        for name, text in tags.items()
        if name.startswith("mlflow.sharedViewState.")
    }
    assert sorted(view["name"] for view in saved.values()) == [
        "Each combination, minus sf_md",
        "Methods, mean over seeds",
        "Single trials",
    ]
    for view in saved.values():
        state = json.loads(view["state"])
        order = f"{state['orderByKey']} {'ASC' if state['orderByAsc'] else 'DESC'}"
        runs = compared.client.search_runs(
            [compared.experiment.experiment_id], state["searchFilter"], order_by=[order]
        )
        assert len(runs) == (
            len(METHODS) if "row" in state["searchFilter"] else len(METHODS) * len(SEEDS)
        )
        there = {f"tags.`{name}`" for run in runs for name in run.data.tags}
        there |= {f"metrics.`{name}`" for run in runs for name in run.data.metrics}
        assert set(state["selectedColumns"]) <= there and state["orderByKey"] in there
        drawn = {
            f"metrics.`{card['metricKey']}`"
            for card in state["compareRunCharts"]
            if "metricKey" in card
        }
        assert drawn and drawn <= there
        sections = {section["uuid"] for section in state["compareRunSections"]}
        assert {card["metricSectionId"] for card in state["compareRunCharts"]} == sections


def test_columns_have_names_that_mlflow_accepts() -> None:
    assert (
        doctest.testmod(tracking_views).attempted == 4
        and doctest.testmod(tracking_views).failed == 0
    )
    (view, *_) = saved_views("accuracy", True, ["RGB (left).depth"], None)
    assert "tags.`on RGB _left_.depth`" in view.columns and "`minus_baseline" not in " ".join(
        view.columns
    )


@pytest.mark.parametrize("modalities", [4, 6])
def test_views_of_many_combinations_still_fit_a_tag(modalities: int) -> None:
    keys = [
        combination.key for combination in lattice([f"modality_{at}" for at in range(modalities)])
    ]
    for view in saved_views("accuracy", True, keys, "sf_md"):
        text = view.tag(0)
        assert len(text) <= LONGEST
        assert json.loads(json.loads(text)["state"])["selectedColumns"]


# ---------------------------------------------------------------------- again, and otherwise


@pytest.mark.parametrize("lost", ["nothing", "offsets"])
def test_comparing_again_adds_nothing_and_keeps_every_run(
    compared: Any, study: Any, lost: str
) -> None:
    before, ids = (
        compared.rows(),
        {run.info.run_id for kind in ("row", "study", "trial") for run in compared.runs(kind)},
    )
    if lost == "offsets":
        for offset in (compared.study.folder / "tracking").glob("*/*.json"):
            offset.unlink()
    mirror(
        study("compared", f"methods=[{','.join(METHODS)}]", "seeds=[0,1]").tracker,
        compared.files_of_report,
    )
    assert compared.rows() == before
    assert {
        run.info.run_id for kind in ("row", "study", "trial") for run in compared.runs(kind)
    } == ids


def test_a_study_that_grows_replaces_the_runs_of_its_rows(study: Any, mirrored: Any) -> None:
    small = study("growing", "seeds=[0]")
    small.train()
    compare(small)
    (first,) = small.runs("row")
    grown = study("growing", "methods=[sf_md,dmrnet]", "seeds=[0,1]")
    grown.train()
    compare(grown)
    found = rows(grown)
    assert set(found) == set(METHODS) and found["sf_md"].info.run_id != first.info.run_id
    assert len(grown.curve(found["sf_md"], "val/accuracy_mean")) == 2
    trashed = grown.client.get_run(first.info.run_id)
    assert (trashed.info.lifecycle_stage, trashed.data.tags["kind"]) == ("deleted", "superseded")
    remove_other_rows(grown.client, grown.experiment.experiment_id, ["dmrnet"])
    assert set(rows(grown)) == {"dmrnet"} and len(grown.runs("study")) == 1


def test_a_row_with_a_seed_to_come_is_shown_as_running(study: Any, mirrored: Any) -> None:
    partial = study("partial", "seeds=[7,8]")
    one = study("partial", "seeds=[7]")
    one.train()
    compare(partial)
    (row,) = partial.runs("row")
    assert (row.info.status, row.data.metrics["seeds_finished"], row.data.tags["rank"]) == (
        "RUNNING",
        1,
        "not ranked",
    )


def test_combinations_that_no_sample_has_are_left_out(compared: Any) -> None:
    record = compared.read(compared.plan.trials[0], "record.json")
    values = {name: cell["value"] for name, cell in record["cells"]["test"].items()}
    record["cells"]["test"]["thumb+profile"] |= {"value": None, "n": 0}
    left = [value for name, value in values.items() if name != "thumb+profile"]
    shown = final_metrics(record)
    assert "test/accuracy/thumb.profile" not in shown
    assert shown["test/accuracy_mean"] == pytest.approx(np.mean(left))
    pairs = [values["thumb+spectrum"], values["spectrum+profile"]]
    assert final_curves(record)["by_number_present/accuracy"][1] == (
        2,
        pytest.approx(np.mean(pairs)),
    )


def test_more_tags_than_one_call_may_have(compared: Any) -> None:
    run = rows(compared)["sf_md"]
    run = compared.client.get_run(
        compared.client.create_run(run.info.experiment_id, tags={"kind": "none"}).info.run_id
    )
    tags = {f"on {at}": str(at) for at in range(150)}
    _set_tags(compared.client, run, tags)
    assert tags.items() <= compared.client.get_run(run.info.run_id).data.tags.items()


def test_figures_and_tables_of_the_report_are_artifacts(compared: Any, tmp_path: Path) -> None:
    (run,) = compared.runs("study")
    below = Path(unquote(urlparse(run.info.artifact_uri).path))
    drawings = {path.stem: ET.parse(path).getroot() for path in (below / "figures").glob("*.svg")}
    assert {"heatmap", "forest"} <= set(drawings) and all(
        root.tag.endswith("svg") for root in drawings.values()
    )
    assert not any("var(" in path.read_text() for path in (below / "figures").iterdir())
    listed = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert {entry["path"] for entry in listed} == {
        f"tables/{path.name}" for path in (below / "tables").iterdir()
    }
    result = compared.client.download_artifacts(
        run.info.run_id, "tables/result.json", str(tmp_path)
    )
    found = json.loads(Path(result).read_text())
    assert found["columns"][:2] == ["method", "●○○"] and [row[0] for row in found["data"]] == list(
        METHODS
    )
    for label, thumb in zip(METHODS, (row[1] for row in found["data"]), strict=True):
        assert thumb.split()[0] == f"{accuracies(compared, label)[:, 0].mean():.1f}"
    assert (below / "report.html").read_bytes() == (
        compared.study.folder / "report.html"
    ).read_bytes()


def test_the_report_names_the_runs(compared: Any) -> None:
    for name in ("report.md", "report.html"):
        text = (compared.study.folder / name).read_text()
        ids = {run for _, run in RUN_PAGE.findall(text)}
        assert ids == {run.info.run_id for kind in ("row", "trial") for run in compared.runs(kind)}
        assert str(Path(compared.output)) not in text


def test_what_was_mirrored_is_known_until_something_else_is_asked_for(
    compared: Any, study: Any
) -> None:
    whole = [f"methods=[{','.join(METHODS)}]", "seeds=[0,1]"]
    assert study("compared", *whole).tracker.up_to_date()
    for other in (
        [*whole, "tracking.weights=false"],
        ["methods=[{method: sf_md, label: base},dmrnet]", "seeds=[0,1]"],
        ["methods=[sf_md]", "seeds=[0,1]"],
    ):
        assert not study("compared", *other).tracker.up_to_date()
