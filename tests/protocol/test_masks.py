"""Masks: their distribution against the uniform one, and the streams that all methods share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from harness.method import TrainBatch
from harness.protocol.masks import combination_index, draw_present, drop_modalities
from harness.protocol.seeds import Streams
from harness.registry import METHODS
from harness.training.loop import Trainer
from harness.training.trial import run_trial
from tests.conftest import MakeJob
from tests.support.registered import ON_SMALL

DRAWS = 70_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def everything(samples: int, count: int) -> Tensor:
    return torch.ones(samples, count, dtype=torch.bool)


def naive_index(present: Tensor) -> list[int]:
    return [sum(2**v for v, has in enumerate(row) if has) for row in present.tolist()]


def test_T03_uniform_over_the_seven_combinations() -> None:
    present = draw_present(everything(DRAWS, 3), generator())
    counts = np.bincount(naive_index(present), minlength=8)
    assert counts[0] == 0
    assert (abs(counts[1:] - 10_000) <= 300).all()
    assert present.double().mean(0).tolist() == pytest.approx(
        [4 / 7] * 3, abs=3 * math.sqrt(12 / 49 / DRAWS)
    )


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_T03_uniform_for_any_number_of_modalities(count: int, seed: int) -> None:
    counts = np.bincount(
        naive_index(draw_present(everything(DRAWS, count), generator(seed))), minlength=2**count
    )
    assert counts[0] == 0
    assert chisquare(counts[1:]).pvalue > 1e-3


def test_T03_draws_are_independent_of_their_neighbours() -> None:
    drawn = np.array(naive_index(draw_present(everything(DRAWS, 3), generator())))
    pairs = np.bincount(drawn[::2] * 8 + drawn[1::2], minlength=64).reshape(8, 8)[1:, 1:]
    assert chisquare(pairs.ravel()).pvalue > 1e-3


def test_uniform_over_the_subsets_of_what_is_available() -> None:
    patterns = torch.tensor(
        [[True, False, True], [False, True, False], [True, True, True], [False, True, True]]
    )
    present = draw_present(patterns.repeat(DRAWS // 4, 1), generator())
    assert bool((present <= patterns.repeat(DRAWS // 4, 1)).all())
    for row, legal in enumerate(([1, 4, 5], [2], [1, 2, 3, 4, 5, 6, 7], [2, 4, 6])):
        counts = np.bincount(naive_index(present[row::4]), minlength=8)
        assert counts[legal].sum() == DRAWS // 4
        assert chisquare(counts[legal]).pvalue > 1e-3 or len(legal) == 1


def test_a_samples_mask_does_not_depend_on_what_other_samples_have() -> None:
    available = everything(50, 3)
    holes = available.clone()
    holes[:25, 1] = False
    assert torch.equal(
        draw_present(available, generator())[25:], draw_present(holes, generator())[25:]
    )


def test_a_sample_without_any_modality_is_refused() -> None:
    available = everything(4, 3)
    available[2] = False
    with pytest.raises(ValueError, match="without any modality"):
        draw_present(available, generator())


def test_combination_index_is_the_sum_of_bits() -> None:
    present = draw_present(everything(500, 4), generator())
    assert combination_index(present).tolist() == naive_index(present)
    assert combination_index(
        torch.tensor([[True, False, False], [False, False, True], [True, False, True]])
    ).tolist() == [1, 4, 5]


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("count", [2, 3])
def test_drop_modalities_loses_each_at_the_rate_and_never_all(rate: float, count: int) -> None:
    kept = drop_modalities(everything(DRAWS, count), rate, generator())
    assert bool(kept.any(1).all())
    # A modality stays by its own draw, or is the one in `count` that is given back when all are
    # lost.
    share = (1 - rate) + rate**count / count
    error = 3 * math.sqrt(share * (1 - share) / DRAWS)
    assert kept.double().mean(0).tolist() == pytest.approx([share] * count, abs=error)
    full = (1 - rate) ** count
    assert float(kept.all(1).double().mean()) == pytest.approx(
        full, abs=3 * math.sqrt(full * (1 - full) / DRAWS)
    )


def test_drop_modalities_adds_nothing_that_a_sample_lacks() -> None:
    available = torch.tensor([[True, False, False], [True, False, True]]).repeat(5_000, 1)
    kept = drop_modalities(available, 0.8, generator())
    assert bool((kept <= available).all())
    assert bool(kept[::2, 0].all())
    # Two available: each stays with 0.2 + 0.8^2 / 2.
    assert kept[1::2, [0, 2]].double().mean(0).tolist() == pytest.approx(
        [0.52, 0.52], abs=3 * math.sqrt(0.25 / 5_000)
    )


def test_drop_modalities_is_a_fixed_pattern_of_its_seed() -> None:
    first, again, other = (
        drop_modalities(everything(200, 3), 0.5, Streams(s).generator("missing")) for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_one_modality_is_always_shown() -> None:
    assert bool(draw_present(everything(1_000, 1), generator()).all())


@pytest.mark.parametrize(
    "name", [n for n in ON_SMALL if n != "sf_md" and not METHODS.get(n).per_combination]
)
def test_T29_all_methods_see_the_same_samples_and_masks_in_the_same_order(
    name: str, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert batches_of(name, make_job, monkeypatch) == batches_of("sf_md", make_job, monkeypatch)


def batches_of(
    name: str, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[list[int], list[int]]]:
    """Sample indices and combinations of every training batch of a whole trial, as the method's
    loss sees them.
    """
    seen = []
    original = Trainer._update

    def recording(self: Trainer, batch: TrainBatch, totals: dict[str, Tensor]) -> None:
        seen.append((batch.index.tolist(), naive_index(batch.present)))
        original(self, batch, totals)

    entry = (
        {"method": name, "hparams": {"hard_set": "thumb"}} if name == "sf_md_reweighted" else name
    )
    job = make_job(entry, seed=4, epochs=3)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", recording)
        assert run_trial(job).status == "done"
    assert len(seen) == 9
    for epoch in range(3):
        assert sorted(i for index, _ in seen[3 * epoch : 3 * epoch + 3] for i in index) == list(
            range(60)
        )
    return seen
