"""What MLflow shows of finished trials, against their files; mirroring again adds nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness import PROJECT
from harness.protocol import metrics
from harness.tracking.mlflow.trial_facts import final_metrics, finite, flattened, legal_name


def test_a_zero_byte_database_was_moved_aside(mirrored: Any) -> None:
    (aside,) = mirrored.output.glob("mlflow.db.incomplete-*")
    assert aside.stat().st_size == 0
    assert (
        mirrored.tracker.command()
        == f"mlflow ui --backend-store-uri 'sqlite:///{mirrored.output}/mlflow.db'"
    )


def test_each_trial_is_one_run_with_its_tags(mirrored: Any) -> None:
    assert sorted(run.info.run_name for run in mirrored.runs()) == ["dmrnet seed 0", "sf_md seed 0"]
    collapsed = {trial.id: mirrored.cells(trial)[1] for trial in mirrored.plan.trials}
    assert any(collapsed.values()), "no model collapsed, so the tag is not tested"
    for trial in mirrored.plan.trials:
        tags = {
            name: text
            for name, text in mirrored.run(trial).data.tags.items()
            if not name.startswith("mlflow.")
        }
        flags = {"collapsed": ",".join(collapsed[trial.id])} if collapsed[trial.id] else {}
        assert tags == flags | {
            "kind": "trial",
            "study": "two_methods",
            "method": trial.row.method,
            "variant": "paper",
            "label": trial.row.label,
            "dataset": "digits",
            "protocol": "default",
            "seed": "0",
            "trial_id": trial.id,
            "backbone": "small",
            "status": "done",
            "device": "cpu",
            "synthetic": "false",
        }


def test_status_and_times_come_from_the_store(mirrored: Any) -> None:
    for trial in mirrored.plan.trials:
        info, history = mirrored.run(trial).info, mirrored.history(trial)
        assert (info.status, len(history)) == ("FINISHED", 2)
        assert (info.start_time, info.end_time) == tuple(
            round(line["time"] * 1000) for line in history
        )


def test_parameters_are_the_flattened_spec(mirrored: Any) -> None:
    for trial in mirrored.plan.trials:
        spec = mirrored.read(trial, "spec.json")
        del spec["label"]
        flat = pd.json_normalize(spec, sep=".").iloc[0].to_dict()
        texts = {
            key: str(value).lower()
            if value in (True, False) and isinstance(value, bool | np.bool_)
            else str(value)
            for key, value in flat.items()
            if value is not None
        }
        params = mirrored.run(trial).data.params
        assert params == texts
        assert {"train.lr", "backbone.width", "train.epochs"} <= set(params)
        assert params.get("hparams.alpha") == ("0.001" if trial.row.method == "dmrnet" else None)


def test_curves_are_the_history_point_by_point(mirrored: Any) -> None:
    for trial in mirrored.plan.trials:
        run, history = mirrored.run(trial), mirrored.history(trial)
        names = {name for line in history for name in line["values"]}
        assert {"train/loss", "train/lr", "val/accuracy_mean"} <= names
        for name in names:
            expected = [
                (line["step"], round(line["time"] * 1000), line["values"][name]) for line in history
            ]
            assert mirrored.curve(run, name.replace("+", ".")) == expected


def test_final_metrics_agree_with_the_kept_scores(mirrored: Any) -> None:
    for trial in mirrored.plan.trials:
        shown, record = mirrored.run(trial).data.metrics, mirrored.read(trial, "record.json")
        accuracy, _ = mirrored.cells(trial)
        assert {
            name: value for name, value in shown.items() if name.startswith("test/")
        } == pytest.approx(
            {f"test/accuracy/{name}": value for name, value in accuracy.items()}
            | {
                "test/accuracy_mean": float(np.mean(list(accuracy.values()))),
                "test/accuracy_worst": min(accuracy.values()),
                "test/accuracy_full": accuracy["thumb.spectrum.profile"],
            },
            abs=1e-9,
        )
        assert shown["val/accuracy_selected_mean"] == max(
            line["values"]["val/accuracy_mean"] for line in mirrored.history(trial)
        )
        assert shown["train_seconds"] == record["train_seconds"]
        assert shown["parameters/training"] == record["parameters"]["training"]
        assert shown["parameters/inference"] == record["parameters"]["inference"]


def test_the_worst_cell_follows_the_direction_of_the_metric(
    mirrored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = mirrored.read(mirrored.plan.trials[0], "record.json") | {"metric": "error"}
    monkeypatch.setitem(
        metrics.METRICS,
        "error",
        replace(metrics.METRICS["accuracy"], name="error", higher_is_better=False),
    )
    values = [cell["value"] for cell in record["cells"]["test"].values()]
    assert min(values) < max(values)
    assert final_metrics(record)["test/error_worst"] == max(values)


def test_the_record_is_an_artifact_below_the_output_folder(mirrored: Any) -> None:
    for trial in mirrored.plan.trials:
        run = mirrored.run(trial)
        artifact = (
            mirrored.output
            / "mlartifacts"
            / "two_methods"
            / run.info.run_id
            / "artifacts"
            / "record.json"
        )
        assert artifact.read_bytes() == (mirrored.files(trial) / "record.json").read_bytes()
    assert not (PROJECT / "mlruns").exists()


@pytest.mark.parametrize("lost", ["nothing", "offsets"])
def test_mirroring_again_adds_nothing(mirrored: Any, study: Any, lost: str) -> None:
    before = mirrored.rows()
    assert before["metrics"] > 100
    if lost == "offsets":
        offsets = list((mirrored.study.folder / "tracking").glob("*/*.json"))
        assert len(offsets) == 2
        for offset in offsets:
            offset.unlink()
    study("two_methods", "methods=[sf_md,dmrnet]").mirror()
    assert mirrored.rows() == before


def test_values_that_are_no_numbers_are_left_out_and_names_made_legal() -> None:
    values = {
        "a+b": 1.0,
        "nan": float("nan"),
        "inf": float("inf"),
        "-inf": float("-inf"),
        "é[1]": 2.0,
    }
    assert finite(values) == {"a.b": 1.0, "é_1_": 2.0}
    assert legal_name("/a//b/../c+d") == "a/c.d"
    assert dict(flattened({"hard": ("a", "b"), "none": None, "x": {"y": {"z": False}}})) == {
        "hard": '["a", "b"]',
        "x.y.z": "false",
    }
