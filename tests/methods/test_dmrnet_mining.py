"""DMRNet: mining of hard combinations (row T14) from constant variances, and its settings."""

from __future__ import annotations

import pytest
import torch

from harness.errors import UserError
from harness.method import Output, TrainBatch
from harness.protocol.seeds import Noise
from methods.dmrnet import DMRNet
from tests.support.dmrnet_model import COMBINATIONS, SPEC, begin, end, generator, losses, model_of


def feed(model: DMRNet, variances: dict[int, float], epochs: range = range(6)) -> None:
    """Training epochs in which every sample of combination j has sigma^2 = variances[j]
    everywhere.
    """
    rows = torch.tensor([[bool(j >> v & 1) for v in range(3)] for j in variances]).repeat(2, 1)
    constants = torch.tensor([*variances.values()] * 2)
    logvar = constants.log().reshape(-1, 1, 1, 1).expand(-1, 16, 2, 2)
    target = torch.zeros(len(rows), dtype=torch.int64)
    for epoch in epochs:
        begin(model, epoch)
        output = Output(
            torch.zeros(len(rows), 5),
            logvar,
            extra={"mu": torch.zeros_like(logvar), "logvar": logvar},
        )
        index = torch.arange(len(rows))
        batch = TrainBatch(
            {}, target, torch.ones_like(rows), rows, index, (), (epoch, 100), Noise(generator())
        )
        model.loss(output, batch)
        end(model, epoch)


def mined(model: DMRNet) -> list[int]:
    return model.hard.nonzero().flatten().tolist()


def test_T14_mining_returns_the_three_largest_variances() -> None:
    variances = {1: 0.9, 2: 1.7, 3: 0.4, 4: 2.5, 5: 1.1, 6: 3.0, 7: 0.2}
    model = model_of()
    feed(model, variances, range(5))
    assert mined(model) == []
    feed(model, variances, range(5, 6))
    assert mined(model) == [2, 4, 6]
    assert {j: model.mean_variance()[j].item() for j in variances} == pytest.approx(
        variances, rel=1e-5
    )


def test_T14_the_names_of_the_indices() -> None:
    model = model_of()
    feed(model, {1: 9.0, 2: 1.0, 3: 1.0, 4: 8.0, 5: 7.0, 6: 1.0, 7: 1.0})
    assert mined(model) == [1, 4, 5]
    assert model.remarks(100) == [
        "hard combinations (mined once, from the variances of the training epochs before HCR): m0,"
        " m2, m0+m2"
    ]
    logged = model.diagnostics()
    assert [key for key, value in logged.items() if key.startswith("hard/") and value] == [
        "hard/m0",
        "hard/m2",
        "hard/m0.m2",
    ]
    assert logged["sigma2/m0.m2"] == pytest.approx(7.0, rel=1e-5)


def test_T14_ties_go_to_the_lower_index_and_the_full_combination_competes() -> None:
    tied, full = model_of(), model_of()
    feed(tied, dict.fromkeys(range(1, 8), 1.0))
    assert mined(tied) == [1, 2, 3]
    feed(full, {j: float(j) for j in range(1, 8)})
    assert mined(full) == [5, 6, 7]


def test_T14_a_combination_that_never_occurs_is_not_chosen_and_poisons_nothing() -> None:
    model = model_of()
    feed(model, {1: 0.5, 7: 0.25})
    assert mined(model) == [1, 7]
    infinity = float("inf")
    assert model.mean_variance().tolist() == pytest.approx(
        [-infinity, 0.5, *[-infinity] * 5, 0.25], rel=1e-5
    )
    assert set(model.diagnostics()) & {"sigma2/m0", "sigma2/m1"} == {"sigma2/m0"}


def test_T14_mining_averages_over_epochs_and_then_stops() -> None:
    model = model_of()
    feed(model, {1: 1.0, 2: 2.0, 4: 3.0, 3: 4.0}, range(3))
    feed(model, {1: 9.0, 2: 2.0, 4: 1.0, 3: 1.0}, range(3, 6))
    assert model.mean_variance()[[1, 2, 4, 3]].tolist() == pytest.approx(
        [5.0, 2.0, 2.0, 2.5], rel=1e-5
    )
    assert mined(model) == [1, 2, 3]
    feed(model, {4: 100.0, 5: 100.0, 6: 100.0}, range(6, 20))
    assert mined(model) == [1, 2, 3]
    assert model.mean_variance()[4].item() == pytest.approx(2.0, rel=1e-5)


def test_T14_mining_takes_no_gradient() -> None:
    model = model_of().train()
    begin(model, 0)
    losses(model, epoch=0)
    assert not model.variance_sum.requires_grad
    assert model.variance_count.tolist() == [0.0] + [2.0] * 7


def test_T14_mining_sees_the_models_own_variances() -> None:
    model = model_of().train()
    begin(model, 0)
    _, output = losses(model, epoch=0)
    per_sample = output.extra["logvar"].detach().exp().mean((1, 2, 3))
    for row, combination in enumerate(COMBINATIONS):
        expected = (per_sample[row] + per_sample[row + 7]).item() / 2
        assert model.mean_variance()[combination.bits].item() == pytest.approx(expected, rel=1e-5)


# ---------------------------------------------------------------------- settings


def test_a_given_hard_set_is_kept_and_said() -> None:
    model = model_of(hard_set="m2, m0.m1")
    feed(model, {j: float(j) for j in range(1, 8)})
    assert mined(model) == [3, 4]
    assert model.remarks(100) == ["hard combinations (given): m2, m0+m1"]


def test_a_run_too_short_for_hcr_says_so() -> None:
    assert "HCR never ran: it starts at epoch 1 and training had 1" in model_of().remarks(1)


def test_a_misspelt_hard_set_is_refused_before_training() -> None:
    with pytest.raises(UserError, match=r"hparams.dmrnet.hard_set=m0,m9: unknown modality 'm9'"):
        DMRNet.check(SPEC, "paper", {"hard_set": "m0,m9"})


def test_only_the_variance_head_is_left_out_at_inference() -> None:
    counts = model_of().parameter_counts()
    one_head = 16 * 16 + 16 + 2 * 16
    assert counts["training"] - counts["inference"] == one_head
