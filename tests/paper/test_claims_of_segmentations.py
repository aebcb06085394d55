"""Statistics and robustness views of trained segmentations, from training to the claim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from harness.analysis import robustness, statistics
from harness.analysis.in_use.reliability import reliability
from harness.analysis.ranking import ranking
from harness.analysis.results import Results, read
from harness.protocol.label_maps import VOID
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.trial import run_trial
from tests.support.blocks import Blocks, install

SETTINGS = (
    "dataset=synthetic",
    "backbone.width=4",
    "train.epochs=1",
    "train.batch_size=8",
    "executor=local",
)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    install(tmp_path, monkeypatch)
    plan = Plan(
        load_study([f"output={tmp_path}/runs", "methods=[sf_md,hemis]", "seeds=[0,1,2]", *SETTINGS])
    )
    for trial in plan.trials:
        assert run_trial(trial.job).status == "done"
    return read(plan, Store.below(plan.study.output))


def test_claims_of_segmentations(results: Results) -> None:
    comparison = results.comparison()
    found = {one.summary: one for one in statistics.differences(results)}
    assert found["average"].value == pytest.approx(
        comparison.average["sf_md"].mean - comparison.average["hemis"].mean
    )
    assert found["worst"].value == pytest.approx(
        comparison.worst["sf_md"].mean - comparison.worst["hemis"].mean
    )
    for name in comparison.combinations:
        assert found[name].value == pytest.approx(
            comparison.cells["sf_md", name].mean - comparison.cells["hemis", name].mean
        )
        assert found[name].estimate.samples == 7 and found[name].estimate.variance > 0
    assert {place.label for place in ranking(results, found=list(found.values())).places} == {
        "sf_md",
        "hemis",
    }
    # all confidence is spent at full coverage: what is left is the error rate over all pixels
    table = results.long_table
    chosen = table[(table["metric"] == "pixel_accuracy") & (table["split"] == "test")]
    pixels = chosen.groupby(["label", "combination"])["value"].mean()
    for label, row in reliability(results).items():
        for name, one in row.cells.items():
            assert 100 - one.risk[-1] == pytest.approx(pixels[label, name], abs=1e-4)
    targets = {split: Blocks().load(split).target.numpy() for split in ("val", "test")}
    answer = np.bincount(targets["val"][targets["val"] != VOID]).argmax()
    shown = targets["test"][targets["test"] != VOID]
    blind = jaccard_score(shown, np.full_like(shown, answer), average="macro")
    assert robustness.row_robustness(results)["hemis"].blind == pytest.approx(100 * blind)
