"""The studies on CREMA-D and Kinetics-Sounds: planned without data, the published recipe, and a
real run on a sample.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from datasets import sample
from harness.protocol.schedules import learning_rate_factor
from harness.registry import METHODS
from harness.run import main
from harness.study.config import load_study
from harness.study.plan import Plan
from tests.support.av import heard_and_seen, narrow
from tests.support.registered import methods_on

SHAPES = {"crema_d": (1, 257, 299), "kinetics_sounds": (1, 257, 1004)}


@cache
def plan_of(name: str) -> Plan:
    """The study's plan without a root; made once, because every row's network is looked at."""
    return Plan(load_study([f"study={name}_all_methods"]))


@pytest.mark.parametrize("name", list(SHAPES))
def test_the_study_has_the_published_recipe_and_plans_without_data(name: str) -> None:
    plan = plan_of(name)
    train, study = plan.study.train, plan.study
    assert (train.epochs, train.batch_size, train.lr, train.momentum, train.weight_decay) == (
        100,
        64,
        1e-3,
        0.9,
        1e-4,
    )
    assert not train.nesterov and [
        learning_rate_factor(train.schedule, e, 100) for e in (0, 69, 70, 99)
    ] == [1.0, 1.0, 0.1, 0.1]
    assert [modality.shape for modality in plan.spec.modalities] == [SHAPES[name], (3, 224, 224)]
    assert (plan.backbone["depth"], plan.backbone["width"], plan.backbone["fusion"]) == (
        18,
        64,
        "concat",
    )
    # Fifteen rows of one model each, and three models of `dedicated`.
    assert study.seeds == [0, 1, 2, 3, 4] and plan.size == 5 * (15 + 3)


@pytest.mark.parametrize("name", list(SHAPES))
def test_the_study_compares_every_method_that_the_network_has(name: str) -> None:
    rows = {row.method: row.hparams for row in plan_of(name).rows}
    able = [
        method
        for method in methods_on(narrow(heard_and_seen()))
        if "classification" in METHODS.get(method).tasks
    ]
    assert sorted(rows) == sorted(able)
    assert rows["dmrnet"]["alpha"] == 1e-3 and rows["dmrnet"]["beta"] == 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SHAPES))
def test_the_study_runs_on_the_sample_and_says_that_it_is_synthetic(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, output = tmp_path / "copy", tmp_path / "runs"
    assert sample.main([name, str(root)]) == 0
    study = [
        f"study={name}_all_methods",
        "preset=smoke",
        f"dataset.root={root}",
        f"output={output}",
        "executor=local",
    ]
    arguments = [
        *study,
        "methods=[ogm_md,dmrnet]",
        "train.epochs=2",
        "dataset.limit=40",
        "tracking.enabled=false",
    ]
    assert main(arguments) == 0
    report = pd.read_csv(output / f"{name}_all_methods" / "report.csv")
    assert set(report["method"]) == {"ogm_md", "dmrnet"} and {
        "audio",
        "visual",
        "audio+visual",
    } <= set(report["combination"])
    assert f"{name} (synthetic)" in capsys.readouterr().out
    # Everything is there: nothing is prepared or trained a second time.
    assert main(arguments) == 0
    assert "preparing" not in capsys.readouterr().out
