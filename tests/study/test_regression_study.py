"""Studies that predict numbers, from a manifest to the report: real ones and unequal lengths."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from harness import report, run, share
from harness.analysis.findings import analyse
from harness.analysis.results import Results, read
from harness.analysis.verification import verify
from harness.cli import guarded
from harness.deploy import CARD, WEIGHTS, card, card_text, load
from harness.errors import UserError
from harness.robust.__main__ import main as robust
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from tests.support.media import read_rows
from tests.support.numbers import DIABETES, diabetes, opinions

LITTLE = ("methods=[sf_md]", "seeds=[0]", "train.epochs=2", "backbone.width=4")


def study(path: Path, *settings: str) -> list[str]:
    return [
        "study=own_data",
        f"dataset.manifest={path}",
        "dataset.options.task=regression",
        f"output={path.parent / 'runs'}",
        "executor=local",
        "tracking.enabled=false",
        *settings,
    ]


def finished(path: Path, *settings: str) -> tuple[Results, list[str]]:
    given = study(path, *settings)
    assert guarded(run.main, given) == 0
    return read(Plan(load_study(given)), Store.below(path.parent / "runs")), given


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, list[str], Path]:
    folder = tmp_path_factory.mktemp("diabetes")
    wanted = ("methods=[sf_md,hemis]", "seeds=[0,1]", "train.epochs=6", "backbone.width=8")
    return *finished(diabetes(folder), *wanted), folder


def linear(folder: Path) -> float:
    """The mean absolute error of least squares on all columns."""
    data: dict[str, tuple[list[np.ndarray], list[float]]] = {"train": ([], []), "test": ([], [])}
    for row in read_rows(folder / "manifest.csv"):
        if row["split"] in data:
            columns = [np.load(folder / row[name]) for name in DIABETES]
            data[row["split"]][0].append(np.concatenate(columns))
            data[row["split"]][1].append(float(row["label"]))
    model = LinearRegression().fit(*data["train"])
    return float(np.abs(model.predict(data["test"][0]) - np.array(data["test"][1])).mean())


def test_real_numbers_are_predicted_about_as_well_as_by_least_squares(
    patients: tuple[Results, list[str], Path],
) -> None:
    results, _, folder = patients
    assert not results.holes and not verify(results.plan, results.store)
    labels = np.array([float(row["label"]) for row in read_rows(folder / "manifest.csv")])
    found, everything = analyse(results), "person+pressure+blood"
    for label in ("sf_md", "hemis"):
        assert found.comparison.cells[label, everything].mean < 1.25 * linear(folder)
        blind = found.robustness[label].blind
        assert found.comparison.average[label].mean < 0.9 * blind
        # The median of val, on test: the first rows of the file.
        assert blind == pytest.approx(np.abs(labels[:130] - np.sort(labels[130:190])[29]).mean())
    assert found.rankings and not found.reliability


def test_the_table_is_what_the_stored_values_say(
    patients: tuple[Results, list[str], Path],
) -> None:
    results, _, folder = patients
    labels = [float(r["label"]) for r in read_rows(folder / "manifest.csv") if r["split"] == "test"]
    table = results.long_table
    for done in results.finished:
        arrays = results.store.trial(done.trial.id).scores()
        assert arrays["test"].shape == (7, 130, 1) and arrays["test_target"].dtype == np.float32
        assert arrays["test_target"].tolist() == pytest.approx(labels)
        own = table[(table["trial_id"] == done.trial.id) & (table["split"] == "test")]
        for at, combination in enumerate(results.plan.combinations):
            cells = own[own["combination"] == combination.name].set_index("metric")["value"]
            errors = arrays["test"][at, :, 0].astype(float) - labels
            assert cells["mae"] == pytest.approx(np.abs(errors).mean())
            assert cells["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
            r = np.corrcoef(arrays["test"][at, :, 0], labels)[0, 1]
            assert cells["correlation"] == pytest.approx(r, rel=1e-6)
            assert np.isnan(cells["accuracy_positive"])  # all labels are above 0


def test_the_report_says_what_it_is_about(patients: tuple[Results, list[str], Path]) -> None:
    _, given, folder = patients
    assert guarded(report.main, [*given, "report.presence.blood=0.8"]) == 0
    text = (folder / "runs/own_data/report.md").read_text()
    assert "mae on test in label units, lower is better" in text
    assert "manifest: regression, 3 modalities, one number" in text
    assert text.count("calibration error and risk-coverage do not apply") == 1
    told = re.findall(r"differ by (\S+) \(95 % interval (\S+) to (\S+)\)", text.replace("−", "-"))
    # By the profile, then by the plain average.
    assert len(told) == 2 and len(set(told)) == 2
    for size, low, high in told:
        assert 0 <= float(size) == pytest.approx((float(low) + float(high)) / 2, abs=0.02)
    assert "Reliability" not in text and " nan" not in text
    assert "Expected mae under the presence profile" in text and "units of mae" in text


def test_a_deployed_model_predicts_in_the_labels_unit(
    patients: tuple[Results, list[str], Path], tmp_path: Path
) -> None:
    results = patients[0]
    done = results.finished[0]
    facts = card(done.trial.job, done.record, results.plan.spec)
    (tmp_path / CARD).write_text(json.dumps(facts))
    weights = results.store.trial(done.trial.id) / WEIGHTS
    (tmp_path / WEIGHTS).write_bytes(weights.read_bytes())
    test = results.plan.dataset.load("test").received()
    torch.set_num_threads(1)
    model = load(tmp_path)
    with torch.no_grad():
        logits = model(test.inputs, torch.ones(130, 3, dtype=torch.bool)).logits
    stored = results.store.trial(done.trial.id).scores()["test"][-1]
    assert model.predicted(logits).numpy() == pytest.approx(stored, rel=1e-5)
    text = card_text(facts)
    assert "model.predicted(model(inputs, present).logits)" in text and "One number;" in text


def test_an_archive_of_numbers_comes_back(
    patients: tuple[Results, list[str], Path], tmp_path: Path
) -> None:
    _, given, _ = patients
    archive = tmp_path / "numbers.zip"
    assert guarded(share.main, ["export", *given, str(archive)]) == 0
    assert guarded(share.main, ["import", str(archive), f"output={tmp_path / 'there'}"]) == 0
    assert len(Store.below(tmp_path / "there").ids()) == 4


def test_series_of_unequal_lengths_from_end_to_end(tmp_path: Path) -> None:
    path = opinions(tmp_path)
    results, given = finished(path, "methods=[sf_md]", "seeds=[0]", "train.epochs=12")
    assert not results.holes
    table = results.long_table
    cells = table[(table["split"] == "test") & (table["combination"] == "words+sound")]
    found = cells.set_index("metric")["value"]
    # A label from -3 to 3 has a mean absolute deviation of 1.5; each sound and text carries it.
    assert found["mae"] < 0.75 and found["correlation"] > 0.85
    assert found["accuracy_positive"] > 70 and found["accuracy_nonnegative"] > 70
    assert guarded(robust, given) == 0
    assert "## Bad sensors" in (tmp_path / "runs/own_data/report.md").read_text()


def test_methods_that_need_classes_say_why_and_all_leaves_them_out(tmp_path: Path) -> None:
    path = opinions(tmp_path, 40)
    rows = [row.label for row in Plan(load_study(study(path))).rows]
    assert rows == ["sf_md", "dmrnet", "hemis", "lcr", "mmformer", "shaspec"]
    with pytest.raises(UserError, match=r"'rfnet' is for .* is regression: it fuses region by"):
        Plan(load_study(study(path, "methods=[rfnet]")))
    with pytest.raises(UserError, match="backbone 'esanet' does not do regression"):
        Plan(load_study(study(path, "methods=[sf_md]", "backbone=esanet")))


@pytest.mark.slow
def test_all_methods_that_fit_run_on_unequal_lengths(tmp_path: Path) -> None:
    path = opinions(tmp_path, 60)
    results, _ = finished(path, "seeds=[0]", "train.epochs=2", "backbone.width=4")
    assert not results.holes and len(results.finished) == 6


@pytest.mark.slow
def test_numbers_are_mirrored_to_mlflow(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    finished(opinions(tmp_path, 40), *LITTLE, "tracking.enabled=true")
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs/mlflow.db'}")
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    metrics = {name for one in runs for name in one.data.metrics}
    assert any("mae" in name for name in metrics)
    schemas = [json.loads(d.dataset.schema) for r in runs for d in r.inputs.dataset_inputs]
    assert schemas and all("float32" in s["mlflow_tensorspec"]["targets"] for s in schemas)
