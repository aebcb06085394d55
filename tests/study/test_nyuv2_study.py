"""The study nyuv2_segmentation: planned without data, and two of its methods trained on the
synthetic copy.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets.samples import nyuv2 as sample
from harness.registry import METHODS
from harness.session import Session
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan

SETTINGS = ("study=nyuv2_segmentation", "executor=local", "tracking.enabled=false")


def test_the_study_plans_without_data_and_has_every_method_that_segments() -> None:
    plan = Plan(load_study(SETTINGS))
    assert plan.size == (12 + 3) * 5 and not plan.spec.synthetic
    able = {
        name
        for name in METHODS.names()
        if "segmentation" in METHODS.get(name).tasks and METHODS.get(name).separate
    }
    assert {row.method for row in plan.rows} == able
    train = plan.study.train
    assert (train.epochs, train.batch_size, train.lr, train.weight_decay, train.clip_norm) == (
        300,
        8,
        0.01,
        1e-4,
        20.0,
    )


def test_the_joint_network_has_the_same_recipe_in_a_study_of_its_own() -> None:
    parallel, joint = (
        load_study((f"study={name}",)) for name in ("nyuv2_segmentation", "nyuv2_esanet_joint")
    )
    for part in ("train", "seeds", "dataset", "evaluation"):
        assert getattr(joint, part) == getattr(parallel, part)
    assert joint.presets["smoke"]["train"] == parallel.presets["smoke"]["train"]
    assert [row.label for row in Plan(joint).rows] == [
        "esanet_md",
        "esanet_md:released",
        "sf_dmr",
        "dmrnet",
    ]
    assert joint.hparams == {name: parallel.hparams[name] for name in ("dmrnet", "sf_dmr")}
    assert (joint.published_table, parallel.published_table) == (5, None)


@pytest.mark.slow
def test_two_methods_on_the_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample.write(tmp_path / "copy", size=(64, 96))
    places = (f"dataset.root={tmp_path / 'copy'}", f"output={tmp_path / 'runs'}")
    small = (
        "preset=smoke",
        "methods=[sf_md,dmrnet]",
        "train.epochs=2",
        "dataset.limit=16",
        "dataset.options.height=64",
    )
    study = load_study((*SETTINGS, *places, *small))
    plan = Plan(study)
    store = Store.below(study.output)
    assert Session(plan, store, ()).run(plan.states(store)) == 0
    shown = capsys.readouterr().out
    assert "nyuv2 (synthetic), miou" in shown and "class weights of 16 training images" in shown
    for trial in plan.trials:
        record = store.trial(trial.id).record()
        assert (
            record is not None
            and record["synthetic"]
            and record["counts"] == {"train": 16, "val": 8, "test": 16}
        )
        assert all(0 <= cell["value"] <= 100 for cell in record["cells"]["test"].values())
