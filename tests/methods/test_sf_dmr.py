"""SF-DMR is DMRNet with beta = 0: the same loss, the same trial."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.analysis.results import read
from harness.errors import UserError
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.trial import run_trial
from methods.dmrnet import DMRNet
from methods.sf_dmr import SFDMR
from tests.support.naive import case

TINY = (
    "dataset.limit=64",
    "train.epochs=2",
    "train.batch_size=32",
    "seeds=[0]",
    "backbone.width=4",
)


def planned(*arguments: str) -> Plan:
    return Plan(load_study([*TINY, *arguments]))


def test_it_shares_the_trial_of_dmrnet_without_hcr(tmp_path: Path) -> None:
    both = "methods=[sf_dmr,{method: dmrnet, hparams: {beta: 0.0}}]"
    plan = planned(both, f"output={tmp_path}")
    ablation, dmrnet = plan.trials
    assert (
        ablation.id == dmrnet.id
        and ablation.job.spec.method == "dmrnet"
        and ablation.job.spec.hparams["beta"] == 0.0
    )
    store = Store.below(tmp_path)
    assert len(plan.to_run(plan.states(store))) == 1
    assert run_trial(ablation.job).status == "done"
    assert plan.to_run(plan.states(store)) == []
    table = read(plan, store).table
    values = [table[table["label"] == row.label]["value"].tolist() for row in plan.rows]
    assert len(values[0]) == 21 and values[0] == values[1]
    losses = [line["values"]["train/hcr"] for line in store.trial(ablation.id).history()]
    assert losses == [0.0, 0.0]


def test_alpha_is_its_own_and_beta_is_not_its_to_set() -> None:
    ablation = planned(
        "methods=[sf_dmr]", "hparams.sf_dmr.alpha=0.01", "hparams.dmrnet.alpha=0.5"
    ).trials[0]
    same = planned("methods=[dmrnet]", "hparams.dmrnet.alpha=0.01", "hparams.dmrnet.beta=0").trials[
        0
    ]
    assert (
        ablation.id
        == same.id
        != planned("methods=[dmrnet]", "hparams.dmrnet.alpha=0.01").trials[0].id
    )
    with pytest.raises(UserError, match="beta"):
        planned("methods=[sf_dmr]", "hparams.sf_dmr.beta=0.5")


def test_its_loss_is_dmrnets_without_the_third_term() -> None:
    made, full = case(SFDMR, alpha=0.02), case(DMRNet, alpha=0.02, beta=0.7, hard_set="m0,m2")
    for epoch in (0, 50):
        models = made.fresh(), full.fresh()
        for owner, model in zip((made, full), models, strict=True):
            owner.begin(model, epoch)
        models[0].hard.fill_(1.0)  # type: ignore[operator, union-attr]  # as if everything had been mined
        mine, its = (
            made.losses(models[0], made.mixed, epoch)[0],
            full.losses(models[1], full.mixed, epoch)[0],
        )
        assert torch.equal(mine["task"], its["task"]) and torch.equal(mine["kl"], its["kl"])
        assert mine["hcr"].item() == 0.0 and (its["hcr"].item() > 0) == (epoch == 50)
    assert models[0].parameter_counts() == models[1].parameter_counts()
