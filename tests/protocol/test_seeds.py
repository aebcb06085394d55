"""Random streams: a function of the seed and the purpose alone, and what is drawn from them."""

from __future__ import annotations

import hashlib
import math
import random
from pathlib import Path

import pytest
import torch

from harness.protocol.seeds import Noise, Streams, derive
from harness.registry import BACKBONES, DATASETS, METHODS
from harness.store import Store
from harness.training.trial import run_trial
from tests.conftest import MakeJob
from tests.support.registered import ON_SMALL


def test_a_seed_is_the_leading_bits_of_a_sha256() -> None:
    first_eight_bytes = hashlib.sha256(b"3/mask/17").hexdigest()[:16]
    assert derive(3, "mask", 17) == int(first_eight_bytes, 16) // 2


def test_streams_of_other_seeds_purposes_and_epochs_differ() -> None:
    keys = [(s, p, e) for s in range(12) for p in ("mask", "noise", "order") for e in range(12)]
    assert len({derive(s, p, e) for s, p, e in keys}) == len(keys)
    # The parts are separated: seed 1 in epoch 23 is not seed 12 in epoch 3.
    assert derive(1, 23) != derive(12, 3)
    assert all(0 <= derive(s, "x") < 2**63 for s in range(100))


def test_a_generator_depends_on_its_key_alone() -> None:
    torch.manual_seed(1)
    first = torch.rand(5, generator=Streams(7).generator("noise", 3))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = torch.rand(5, generator=Streams(7).generator("noise", 3))
    assert torch.equal(first, again)
    assert torch.equal(state, torch.get_rng_state())


def test_initialising_seeds_layers_and_restores_the_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with Streams(0).initialising("model"):
        first = torch.nn.Linear(4, 4).weight
    assert torch.equal(torch.rand(3), expected)
    with Streams(0).initialising("model"):
        again = torch.nn.Linear(4, 4).weight
    with Streams(1).initialising("model"):
        other = torch.nn.Linear(4, 4).weight
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_initialising_restores_the_global_generator_after_an_error() -> None:
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError), Streams(0).initialising("model"):
        raise RuntimeError
    assert torch.equal(state, torch.get_rng_state())


def test_normal_draws_have_the_moments_of_a_standard_normal() -> None:
    x = Noise(Streams(0).generator("noise")).normal_like(torch.empty(200, 500))
    n = x.numel()
    assert float(x.mean()) == pytest.approx(0.0, abs=4 / math.sqrt(n))
    assert float(x.var()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / n))
    assert float((x.abs() < 1).float().mean()) == pytest.approx(
        0.682689, abs=4 * math.sqrt(0.217 / n)
    )


def test_dropout_zeroes_the_share_p_and_divides_the_rest_by_1_minus_p() -> None:
    x = torch.full((300, 300), 2.0)
    dropped = Noise(Streams(0).generator("noise")).dropout(x, 0.25)
    zero = dropped == 0
    assert float(zero.float().mean()) == pytest.approx(0.25, abs=4 * math.sqrt(0.1875 / x.numel()))
    torch.testing.assert_close(dropped[~zero], torch.full_like(dropped[~zero], 2.0 / 0.75))
    unknown = Noise(Streams(0).generator("noise")).dropout(torch.full((300, 300), torch.nan), 0.25)
    assert torch.equal(unknown.isnan(), ~zero)


def test_no_dropout_draws_nothing() -> None:
    noise, x = Noise(Streams(0).generator("noise")), torch.ones(10, 10)
    assert noise.dropout(x, 0.0) is x
    assert torch.equal(noise.normal_like(x), Noise(Streams(0).generator("noise")).normal_like(x))


@pytest.mark.parametrize("name", ON_SMALL)
def test_T29_methods_with_one_seed_start_from_the_same_encoders(name: str) -> None:
    def encoders(method: str) -> dict[str, torch.Tensor]:
        backbone = BACKBONES.get("small")(DATASETS.get("digits")().spec)
        with Streams(11).initialising("model"):
            return METHODS.get(method)(backbone).encoders.state_dict()

    ours, baseline = encoders(name), encoders("sf_md")
    assert ours.keys() == baseline.keys()
    assert all(torch.equal(ours[key], baseline[key]) for key in ours)


def test_T29_the_same_seed_gives_the_same_run_whatever_the_global_generators_hold(
    make_job: MakeJob, tmp_path: Path
) -> None:
    curves, weights = [], []
    for state in (1, 2):
        torch.manual_seed(state)
        random.seed(state)
        job = make_job("dmrnet", seed=3, epochs=3, output=str(tmp_path / str(state)))
        assert run_trial(job).status == "done"
        trial = Store(Path(job.store)).trial(job.spec.id)
        curves.append([entry["values"] for entry in trial.history()])
        weights.append(trial.weights())
    assert len(curves[0]) == 3
    assert curves[0] == curves[1]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0] | weights[1])


def test_T29_the_same_seed_gives_two_variants_the_same_losses_until_they_differ(
    make_job: MakeJob,
) -> None:
    curves = []
    for variant in ("paper", "released"):
        # On digits the variants differ in L_HCR alone, which starts in epoch 1 of 4 (6 of 100,
        # never before epoch 1).
        job = make_job({"method": "dmrnet", "variant": variant}, seed=3, epochs=4)
        assert run_trial(job).status == "done"
        curves.append(
            [entry["values"] for entry in Store(Path(job.store)).trial(job.spec.id).history()]
        )
    paper, released = curves
    assert paper[0] == released[0]
    assert paper[1]["train/hcr"] != released[1]["train/hcr"]
    assert paper[3]["train/task"] != released[3]["train/task"]


def test_T29_another_seed_gives_another_run(make_job: MakeJob) -> None:
    losses = []
    for seed in (3, 4):
        job = make_job("sf_md", seed=seed, epochs=1)
        run_trial(job)
        losses.append(
            Store(Path(job.store)).trial(job.spec.id).history()[0]["values"]["train/loss"]
        )
    assert losses[0] != losses[1]
