"""The optimiser is torch's, to the bit; what a process imports by it is in test_worker_imports."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from harness.protocol.optimiser import SGD

FORMS = [
    {"lr": 0.1},
    {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3, "foreach": True},
    {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "foreach": True},
    {"lr": 0.05, "momentum": 0.9, "nesterov": True, "foreach": False},
    {"lr": 0.05, "momentum": 0.9, "fused": True},
]


def trained(optimiser: type[torch.optim.SGD], form: dict[str, Any]) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 2))
    made = optimiser(model.parameters(), **form)
    for step in range(5):
        for group in made.param_groups:
            group["lr"] = form["lr"] / (1 + step)
        made.zero_grad(set_to_none=True)
        model(torch.randn(8, 5)).square().mean().backward()
        made.step()
        if step == 2:
            made.load_state_dict(made.state_dict())
    return model, made


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_it_takes_the_steps_of_torch(form: dict[str, Any]) -> None:
    (ours, own), (theirs, torchs) = trained(SGD, form), trained(torch.optim.SGD, form)
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    held, expected = own.state_dict(), torchs.state_dict()
    assert held["param_groups"] == expected["param_groups"]
    momenta = [one["momentum_buffer"] for one in held["state"].values()]
    others = [one["momentum_buffer"] for one in expected["state"].values()]
    assert len(momenta) == len(others)
    both = zip(momenta, others, strict=True)
    assert all(a is b is None or torch.equal(a, b) for a, b in both)


def test_a_step_leaves_no_graph_behind() -> None:
    weight = nn.Parameter(torch.ones(3))
    made = SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    made.step()
    (kept,) = (one["momentum_buffer"] for one in made.state.values())
    assert weight.is_leaf and not kept.requires_grad
