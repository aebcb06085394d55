"""Metrics beside the primary one: computed from what the store keeps, for val and test, into the
long table and report.csv.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_curve

from harness.analysis.results import long_table, read
from harness.analysis.verification import verify
from harness.conformance.synthetic import synthetic_spec, synthetic_split
from harness.dataset import Dataset, DataSpec, Split
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.trial import run_trial
from tests.support.handmade import NAMES, N, ladder, planned, scores, write_trial
from tests.support.reports import write_report

FACES = {"train": 64, "val": 48, "test": 60}


class Faces(Dataset):
    """Two modalities of live samples and attacks, with so much noise that nothing separates
    them.
    """

    @property
    def spec(self) -> DataSpec:
        return synthetic_spec(2, 2, "anti_spoofing")

    def fingerprint(self) -> str:
        return f"faces-{self.limit}"

    def counts(self) -> dict[str, int]:
        return dict(FACES)

    def load(self, split: str) -> Split:
        start = {"train": 0, "val": 64, "test": 112}[split]
        everything, rows = synthetic_split(self.spec, 172), slice(start, start + FACES[split])
        noise = torch.Generator().manual_seed(start)
        inputs = {
            name: x[rows] + 4 * torch.randn(x[rows].shape, generator=noise)
            for name, x in everything.inputs.items()
        }
        return Split(inputs, everything.target[rows], everything.available[rows])


def test_macro_accuracy_stands_beside_accuracy(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0]", "methods=[sf_md]")
    right = ladder(30)
    write_trial(plan, store, "sf_md", 0, right)
    table = long_table(plan, store)
    assert table.groupby("split", sort=False)["metric"].unique().map(list).to_dict() == {
        "val": ["accuracy", "accuracy_macro"],
        "test": ["accuracy", "accuracy_macro"],
        "test_last_epoch": ["accuracy"],
    }
    target = plan.dataset.load("test").target.numpy()
    macro = table[(table["split"] == "test") & (table["metric"] == "accuracy_macro")]
    assert macro["combination"].tolist() == list(NAMES)
    for value, row in zip(macro["value"], scores(target, right), strict=True):
        assert value == pytest.approx(
            100 * balanced_accuracy_score(target, row.argmax(1)), abs=1e-10
        )
    assert (
        set(macro["n"]) == {N}
        and set(macro["higher_is_better"]) == {True}
        and set(macro["status"]) == {"done"}
    )
    pd.testing.assert_frame_equal(
        read(plan, store).table, table[table["metric"] == "accuracy"].reset_index(drop=True)
    )


def test_two_rows_of_one_trial_both_have_them(tmp_path: Path) -> None:
    plan, store = planned(
        tmp_path, "methods=[{method: sf_md, label: one}, {method: sf_md, label: two}]", "seeds=[0]"
    )
    write_trial(plan, store, "one", 0, ladder(30))
    table = long_table(plan, store)
    assert (
        table[table["metric"] == "accuracy_macro"]["label"].tolist() == ["one"] * 14 + ["two"] * 14
    )


def test_damaged_evidence_gives_no_numbers_and_is_reported(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0,1]", "methods=[sf_md]")
    for seed in (0, 1):
        path = store.trial(write_trial(plan, store, "sf_md", seed, ladder(30)).id) / "scores.npz"
    path.write_bytes(b"\0" * path.stat().st_size)
    files = write_report(plan, store)
    table = pd.read_csv(files.folder / "report.csv")
    assert set(table[table["metric"] == "accuracy"]["seed"]) == {0, 1}
    assert set(table[table["metric"] == "accuracy_macro"]["seed"]) == {0}
    (problem,) = files.problems
    assert "scores.npz" in problem and "sf_md seed 1" in problem


@pytest.fixture
def faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "faces-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faces\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[harness.datasets]\nsynthetic = tests.analysis.test_evidence:Faces\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def plan_of(tmp_path: Path) -> Plan:
    return Plan(
        load_study(
            [
                "methods=[sf_md]",
                "dataset=synthetic",
                "seeds=[0]",
                "train.epochs=4",
                f"output={tmp_path}/runs",
            ]
        )
    )


@pytest.mark.usefixtures("faces")
def test_a_combination_without_live_samples_fails_the_trial_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Faces.load

    def holed(self: Faces, split: str) -> Split:
        samples = load(self, split)
        samples.available[samples.target == 1, 1] = split != "test"
        return samples

    monkeypatch.setattr(Faces, "load", holed)
    outcome = run_trial(plan_of(tmp_path).trials[0].job)
    assert outcome.status == "failed"
    assert (
        outcome.reason
        == "acer is not defined for m1: it needs live samples and attacks, and there are 0 and 30"
    )


@pytest.mark.usefixtures("faces")
def test_both_threshold_policies_are_in_the_report(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    store, (trial,) = Store.below(plan.study.output), plan.trials
    assert run_trial(trial.job).status == "done"
    assert verify(plan, store) == []
    table = pd.read_csv(write_report(plan, store).folder / "report.csv")
    arrays = store.trial(trial.id).scores()
    test = table[(table["split"] == "test") & (table["combination"] == "m0+m1")].set_index(
        "metric"
    )["value"]
    assert (
        list(test.index[:4]) == ["acer", "apcer", "bpcer", "acer_val_threshold"] and len(test) == 7
    )
    margin = {s: (arrays[s][2, :, 1] - arrays[s][2, :, 0]).astype(float) for s in ("val", "test")}
    labels = {s: arrays[f"{s}_target"] for s in ("val", "test")}
    assert test["acer"] == pytest.approx(
        100 - 100 * balanced_accuracy_score(labels["test"], margin["test"] > 0), abs=1e-9
    )
    assert test["acer"] == pytest.approx((test["apcer"] + test["bpcer"]) / 2)
    # Independently: the best cut of val by brute force; its error on val is what the table has for
    # val.
    cuts = np.concatenate([[-np.inf, 0.0], np.sort(margin["val"])])
    best = min(
        100 - 100 * balanced_accuracy_score(labels["val"], margin["val"] > cut) for cut in cuts
    )
    val = table[(table["split"] == "val") & (table["combination"] == "m0+m1")].set_index("metric")[
        "value"
    ]
    assert val["acer_val_threshold"] == pytest.approx(best, abs=1e-9)
    assert best < val["acer"]  # the policies differ here
    fpr, tpr, _ = roc_curve(labels["test"], margin["test"], drop_intermediate=False)
    assert (
        test["tpr_at_fpr_1e-2"]
        == test["tpr_at_fpr_1e-4"]
        == pytest.approx(100 * tpr[fpr == 0].max(), abs=1e-9)
    )
