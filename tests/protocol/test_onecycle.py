"""The recipe of ESANet: one-cycle rates and momenta as torch has them, and gradients clipped to a
norm.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.backbones.small import Small
from harness.conformance.synthetic import Case, synthetic_spec
from harness.conformance.training_checks import _trainer
from harness.errors import UserError
from harness.method import Method
from harness.protocol.schedules import SCHEDULES, learning_rate_factor, momentum_in
from harness.study.config import load_study
from harness.training.loop import Trainer
from harness.training.recipe import TrainConfig
from methods.sf_md import SFMD

LR = 0.01


def published(epochs: int) -> list[tuple[float, float]]:
    """Rates and momenta of torch's own schedule with the published settings, stepped once per
    epoch.
    """
    optimiser = torch.optim.SGD(
        [torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.9, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        LR,
        total_steps=epochs,
        pct_start=0.1,
        div_factor=25,
        final_div_factor=1e4,
        anneal_strategy="cos",
    )
    found = []
    for epoch in range(epochs):
        group = optimiser.param_groups[0]
        found.append((float(group["lr"]), float(group["momentum"])))
        optimiser.step()
        if epoch + 1 < epochs:
            schedule.step()
    return found


@pytest.mark.parametrize(("epoch", "rate"), [(0, 4e-4), (49, 1e-2), (250, 5.8e-3), (499, 4e-8)])
def test_published_rates_of_500_epochs(epoch: int, rate: float) -> None:
    assert LR * learning_rate_factor("onecycle", epoch, 500) == pytest.approx(rate, rel=0.01)


def test_momentum_goes_down_to_085_and_back() -> None:
    assert [momentum_in("onecycle", epoch, 500, 0.9) for epoch in (0, 49, 499)] == pytest.approx(
        [0.95, 0.85, 0.95]
    )
    others = [name for name in SCHEDULES if name != "onecycle"]
    assert {momentum_in(name, epoch, 10, 0.7) for name in others for epoch in range(10)} == {0.7}


@pytest.mark.parametrize("epochs", [11, 15, 20, 40, 300, 500])
def test_rates_and_momenta_are_torchs(epochs: int) -> None:
    ours = [
        (LR * learning_rate_factor("onecycle", e, epochs), momentum_in("onecycle", e, epochs, 0.9))
        for e in range(epochs)
    ]
    for found, expected in zip(ours, published(epochs), strict=True):
        assert found == pytest.approx(expected, rel=1e-9)


# ---------------------------------------------------------------------- in the training loop


def trainer(**recipe: Any) -> Trainer:
    case = Case(SFMD, "paper", synthetic_spec(2, 3), lambda spec: Small(spec, {"width": 4}))
    settings = {"epochs": 1, "batch_size": 160, "schedule": "constant", "lr": LR, **recipe}
    return replace(
        _trainer(case, case.fresh(), lambda report: None), recipe=TrainConfig(**settings)
    )


def test_the_training_loop_follows_torchs_one_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    run, seen = trainer(epochs=20, schedule="onecycle"), []
    original = run.optimiser.step

    def step() -> None:
        group = run.optimiser.param_groups[0]
        assert group["nesterov"]
        seen.append((group["lr"], group["momentum"]))
        original()

    monkeypatch.setattr(run.optimiser, "step", step)
    run.fit()
    assert len(seen) == 20
    for found, expected in zip(seen, published(20), strict=True):
        assert found == pytest.approx(expected, rel=1e-9)


def change(clip: float | None) -> float:
    """The norm of what one plain SGD step of rate LR changes."""
    run = trainer(momentum=0.0, nesterov=False, weight_decay=0.0, clip_norm=clip)
    before = weights(run.model)
    run.fit()
    return float((weights(run.model) - before).norm())


def weights(model: Method) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).double()


def test_a_step_is_no_longer_than_the_clipped_norm_allows() -> None:
    free = change(None)
    assert free > LR * 0.1
    assert change(0.01) == pytest.approx(LR * 0.01, rel=1e-3)
    assert change(1e6) == pytest.approx(free, rel=1e-6)


def test_clip_norm_is_a_setting_without_a_limit_by_default() -> None:
    assert load_study(["study=quickstart"]).train.clip_norm is None
    assert (
        load_study(
            ["study=quickstart", "train.clip_norm=20", "train.schedule=onecycle"]
        ).train.clip_norm
        == 20.0
    )
    with pytest.raises(UserError, match="clip_norm"):
        load_study(["study=quickstart", "train.clip_norm=-1"])
