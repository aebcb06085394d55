"""Dedicated models: one per combination, trained, selected and shown on it alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.analysis.results import read
from harness.method import TrainBatch
from harness.schedule.local import LocalExecutor
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.loop import Trainer
from harness.training.trial import run_trial
from methods.dedicated import Dedicated
from methods.sf_md import SFMD
from tests.methods.test_mmanet_trials import Silent
from tests.support.handmade import NAMES
from tests.support.naive import case

TINY = ("dataset.limit=96", "train.batch_size=32", "backbone.width=4")


def planned(output: Path, methods: str, *arguments: str) -> tuple[Plan, Store]:
    study = load_study([f"methods=[{methods}]", f"output={output}", *TINY, *arguments])
    return Plan(study), Store.below(study.output)


def test_a_row_has_one_trial_per_combination_and_seed(tmp_path: Path) -> None:
    plan = planned(tmp_path, "sf_md,dedicated", "seeds=[0,1]")[0]
    mine = [t for t in plan.trials if t.row.label == "dedicated"]
    assert [(t.seed, t.only) for t in mine] == [(seed, name) for seed in (0, 1) for name in NAMES]
    assert len({t.id for t in plan.trials}) == len(plan.trials) == plan.size == 2 * (7 + 1)
    assert mine[1].job.name == "dedicated seed 0 on spectrum"
    assert [t.only for t in plan.trials if t.row.label == "sf_md"] == [None, None]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    plan, store = planned(
        tmp_path_factory.mktemp("dedicated"), "dedicated", "seeds=[0,1]", "train.epochs=6"
    )
    seen = Silent()
    LocalExecutor(plan.study.resources, plan.study.folder).run(
        plan.to_run(plan.states(store)), seen
    )
    assert {outcome.status for outcome in seen.outcomes.values()} == {"done"}
    return plan, store


def test_each_model_is_selected_on_its_own_combination(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    otherwise = 0
    for trial in (t for t in plan.trials if t.only is not None):
        assert trial.only is not None
        record, history = store.trial(trial.id).record(), store.trial(trial.id).history()
        assert record is not None
        own = [line["values"][f"val/accuracy/{trial.only.replace('+', '.')}"] for line in history]
        means = [line["values"]["val/accuracy_mean"] for line in history]
        assert record["selected_epoch"] == own.index(max(own)) and record["val_mean"] == max(own)
        assert record["cells"]["val"][trial.only]["value"] == max(own)
        otherwise += means.index(max(means)) != own.index(max(own))
    assert otherwise > 0  # a selection on the mean would have been another one


def test_the_table_takes_the_diagonal(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    results = read(plan, store)
    table = results.table
    shares = torch.zeros(2, 7, dtype=torch.float64)
    for seed in (0, 1):
        for position, name in enumerate(NAMES):
            trial = next(t for t in plan.trials if t.seed == seed and t.only == name)
            # Accuracy by hand, from the stored per-sample scores of this combination's own model.
            arrays = store.trial(trial.id).scores()
            shares[seed, position] = (
                100.0
                * int((arrays["test"][position].argmax(1) == arrays["test_target"]).sum())
                / 96
            )
            rows = table[(table["trial_id"] == trial.id) & (table["split"] == "test")]
            assert rows[["label", "combination"]].values.tolist() == [["dedicated", name]]
            assert rows["value"].tolist() == [shares[seed, position].item()]
    assert len(table) == 2 * 7 * 3
    found = results.comparison()
    for position, name in enumerate(NAMES):
        assert found.cells["dedicated", name].mean == pytest.approx(
            shares[:, position].mean().item()
        )
    assert found.average["dedicated"].mean == pytest.approx(shares.mean().item())
    assert found.average["dedicated"].std == pytest.approx(shares.mean(1).std().item())
    assert found.worst["dedicated"].mean == pytest.approx(shares.min(1).values.mean().item())


def test_a_missing_model_is_a_hole_of_its_combination(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "dedicated", "seeds=[0]", "train.epochs=1")
    for trial in plan.trials[:2]:
        run_trial(trial.job)
    results = read(plan, store)
    assert [hole.name for hole in results.holes] == [
        f"dedicated seed 0 on {name}" for name in NAMES[2:]
    ]
    found = results.comparison()
    assert [found.cells["dedicated", name].seeds for name in NAMES] == [1, 1, 0, 0, 0, 0, 0]


def test_a_model_sees_its_combination_in_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, shown = Trainer._update, []

    def spied(self: Trainer, batch: TrainBatch, totals: dict[str, Tensor]) -> None:
        shown.append(batch.present)
        step(self, batch, totals)

    monkeypatch.setattr(Trainer, "_update", spied)
    plan = planned(tmp_path, "dedicated", "seeds=[0]", "train.epochs=2")[0]
    trial = next(t for t in plan.trials if t.only == "thumb+profile")
    assert run_trial(trial.job).status == "done"
    assert torch.cat(shown).unique(dim=0).tolist() == [[True, False, True]] and len(shown) == 6


def test_it_trains_on_the_samples_that_have_its_combination_and_says_so(tmp_path: Path) -> None:
    plan, store = planned(
        tmp_path,
        "dedicated",
        "seeds=[0]",
        "train.epochs=1",
        "missing.train=random",
        "missing.rate=0.4",
    )
    used = {}
    for trial in plan.trials:
        assert run_trial(trial.job).status == "done"
        record = store.trial(trial.id).record()
        assert record is not None
        (remark,) = record["remarks"]
        count, _, what = remark.removeprefix("trained on the ").partition(
            " of 96 training samples that have "
        )
        assert what == ("all modalities" if trial.only == NAMES[-1] else trial.only)
        used[trial.only] = int(count)
    thumb, spectrum, profile, first, second, third, full = (used[name] for name in NAMES)
    # Inclusion and exclusion: a sample keeps at least one modality.
    assert thumb + spectrum + profile - first - second - third + full == 96
    assert full < min(first, second, third) and max(first, second, third) < max(
        thumb, spectrum, profile
    )


def test_on_its_combination_it_is_the_baseline() -> None:
    dedicated, baseline = case(Dedicated), case(SFMD)
    for mask in dedicated.masks:
        present = dedicated.constant(mask)
        assert torch.equal(
            dedicated.logits(dedicated.fresh(), present), baseline.logits(baseline.fresh(), present)
        )
    assert dedicated.fresh().parameter_counts() == baseline.fresh().parameter_counts()
