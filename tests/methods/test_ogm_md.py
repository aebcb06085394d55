"""OGM-MD: coefficients in closed form, scaled gradients, noise, and a second implementation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.backbones.small import Small
from harness.conformance.synthetic import Case, backward
from harness.errors import UserError
from harness.method import EpochContext, Method, Output, TrainBatch
from harness.protocol.hyperparameters import Value
from harness.study.config import load_study
from harness.study.plan import Plan
from methods.hemis import HeMIS
from methods.ogm_md import OGMMD, coefficients
from methods.sf_md import SFMD
from tests.support.av import SMALL, av_case, heard_and_seen, narrow, on_narrow

Hparams = dict[str, Value]

# ---------------------------------------------------------------------- coefficients


def logits_for(*right: float) -> Tensor:
    """Logits (B, 2) whose softmax gives class 1 these probabilities."""
    p = torch.tensor(right, dtype=torch.float64)
    return torch.stack([(1 - p).log(), p.log()], 1)


def k_of(first: Tensor, second: Tensor, both: list[bool], alpha: float = 0.8) -> list[float]:
    target = torch.ones(len(first), dtype=torch.long)
    return coefficients([first, second], target, torch.tensor(both), torch.tensor(alpha)).tolist()


def test_the_leading_modality_is_held_back_by_the_ratio_of_summed_probabilities() -> None:
    audio, visual = logits_for(0.9, 0.6, 0.3), logits_for(0.2, 0.3, 0.1)
    held = 1 - math.tanh(0.8 * (1.8 / 0.6))
    assert k_of(audio, visual, [True] * 3) == pytest.approx([held, 1.0], rel=1e-5)
    assert k_of(visual, audio, [True] * 3) == pytest.approx([1.0, held], rel=1e-5)
    assert k_of(visual, audio, [True] * 3, alpha=0.1) == pytest.approx(
        [1.0, 1 - math.tanh(0.3)], rel=1e-5
    )


def test_samples_that_lack_a_modality_do_not_count() -> None:
    audio, visual = logits_for(0.9, 0.1, 0.9), logits_for(0.4, 0.2, 0.01)
    assert k_of(audio, visual, [False, True, False]) == pytest.approx(
        [1.0, 1 - math.tanh(0.8 * 2)], rel=1e-5
    )
    assert k_of(audio, visual, [False] * 3) == [1.0, 1.0]


def test_a_tie_holds_the_first_modality_back() -> None:
    assert k_of(logits_for(0.5), logits_for(0.5), [True]) == pytest.approx(
        [1 - math.tanh(0.8), 1.0], rel=1e-5
    )


def test_coefficients_are_finite_whatever_the_logits() -> None:
    wrong, right = torch.tensor([[200.0, -200.0]]), torch.tensor([[-200.0, 200.0]])
    for alpha in (0.0, 0.8, 5.0):
        free = [1.0, 1.0] if alpha == 0 else [0.0, 1.0]
        assert (
            k_of(right, wrong, [True], alpha) == free
            and k_of(wrong, right, [True], alpha) == free[::-1]
        )
        assert k_of(wrong, wrong, [True], alpha) == pytest.approx(
            [1 - math.tanh(alpha), 1.0], abs=1e-6
        )


# ---------------------------------------------------------------------- gradients


def stepped(
    variant: str = "paper", epoch: int = 0, epochs: int = 100, **hparams: Value
) -> tuple[Method, Output, TrainBatch]:
    """A narrow model with gradients in place, before they are modulated."""
    case = av_case(OGMMD, variant, hparams, shapes=SMALL)
    model = case.fresh()
    model.train()
    model.begin_epoch(EpochContext(epoch, epochs, model.combinations))
    terms, output, batch = case.losses(model, case.mixed, epoch, noise=case.noise(3))
    backward(model, terms)
    batch.phase = (epoch, epochs)
    return model, output, batch


def grads(model: Method) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def naive_k(model: Any, output: Output, batch: TrainBatch) -> list[float]:
    """Coefficients from the model's weights, sample by sample."""
    weight, bias = model.head.linear.weight.detach(), model.head.linear.bias.detach()
    scores = [0.0, 0.0]
    for b in range(len(batch.target)):
        if not bool(batch.present[b, 0]) or not bool(batch.present[b, 1]):
            continue
        for u in (0, 1):
            half = slice(32 * u, 32 * u + 32)
            logits = (weight[:, half] @ output.z[b, half, 0, 0].detach() + bias / 2).tolist()
            scores[u] += math.exp(logits[int(batch.target[b])]) / sum(
                math.exp(value) for value in logits
            )
    rho = [scores[0] / scores[1], scores[1] / scores[0]]
    held = [1 - math.tanh(float(model.alpha) * ratio) for ratio in rho]
    return [1.0, held[1]] if rho[1] > 1 else [held[0], 1.0]


def is_modulated(name: str, gradient: Tensor) -> bool:
    return name.startswith("encoders.") and gradient.dim() == 4


def test_ogm_scales_the_convolutions_of_the_leading_encoder_and_nothing_else() -> None:
    model, output, batch = stepped(modulation="ogm")
    before, k = grads(model), naive_k(model, output, batch)
    assert sorted(k)[0] < 0.9 and sorted(k)[1] == 1.0
    model.scale_gradients(batch, output)
    after = grads(model)
    convolutions = [name for name in before if is_modulated(name, before[name])]
    assert len(convolutions) == 2 * 20
    for name, gradient in before.items():
        factor = k[int(name.split(".")[1])] if name in convolutions else 1.0
        torch.testing.assert_close(after[name], gradient * factor, rtol=1e-4, atol=0.0)


def test_ogm_ge_adds_noise_as_large_as_the_gradient_to_both_encoders() -> None:
    model, output, batch = stepped()
    before, k = grads(model), naive_k(model, output, batch)
    state = torch.get_rng_state()
    model.scale_gradients(batch, output)
    assert torch.equal(state, torch.get_rng_state())
    after, checked = grads(model), 0
    for name, gradient in before.items():
        if not is_modulated(name, gradient):
            assert torch.equal(after[name], gradient)
            continue
        noise = ((after[name] - gradient * k[int(name.split(".")[1])]) / gradient.std()).flatten()
        n = len(noise)
        assert float(noise.std()) == pytest.approx(1.0, abs=5 / math.sqrt(2 * n))
        assert float(noise.mean()) == pytest.approx(0.0, abs=5 / math.sqrt(n))
        checked += 1
    assert checked == 2 * 20


def test_naive_second_implementation_of_whole_steps() -> None:
    """Ten steps of SGD, the second model's gradients modulated by loops with the same noise
    stream.
    """
    case = av_case(OGMMD, shapes=SMALL)
    ours, naive = case.fresh(), case.fresh()
    for epoch in range(10):
        for model in (ours, naive):
            case.begin(model, epoch)
            terms, output, batch = case.losses(model, case.mixed, epoch)
            backward(model, terms)
            if model is ours:
                model.scale_gradients(batch, output)
            else:
                k, stream = naive_k(model, output, batch), batch.noise.generator
                for name, p in model.named_parameters():
                    assert p.grad is not None
                    if is_modulated(name, p.grad):
                        noise = torch.randn(p.grad.shape, generator=stream)
                        p.grad = p.grad * k[int(name.split(".")[1])] + noise * (p.grad.std() + 1e-8)
            torch.optim.SGD(model.parameters(), lr=0.01).step()
    for (name, a), b in zip(ours.named_parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, msg=name)


def changes(epoch: int, epochs: int, **hparams: Value) -> bool:
    model, output, batch = stepped(epoch=epoch, epochs=epochs, **hparams)
    before = grads(model)
    model.scale_gradients(batch, output)
    after = grads(model)
    return any(not torch.equal(after[name], before[name]) for name in before)


def test_it_acts_in_epochs_0_to_50_of_100_and_in_their_fraction_of_shorter_runs() -> None:
    assert [changes(epoch, 100) for epoch in (0, 50, 51)] == [True, True, False]
    assert [changes(epoch, 30) for epoch in (14, 15)] == [True, False]
    assert [changes(epoch, 100, begin=10, end=20) for epoch in (9, 10, 20, 21)] == [
        False,
        True,
        True,
        False,
    ]
    assert changes(0, 1)


def test_it_reports_its_epochs_and_mean_coefficients() -> None:
    model, output, batch = stepped()
    k = naive_k(model, output, batch)
    model.scale_gradients(batch, output)
    model.scale_gradients(batch, output)
    assert model.diagnostics() == pytest.approx({"k/audio": k[0], "k/visual": k[1]}, rel=1e-4)
    model.begin_epoch(EpochContext(1, 100, model.combinations))
    assert model.diagnostics() == {}
    assert model.remarks(100) == ["gradients were modulated (ogm_ge) in epochs 0 to 50 of 100"]
    assert model.remarks(30) == ["gradients were modulated (ogm_ge) in epochs 0 to 14 of 30"]
    late = on_narrow(OGMMD, hparams={"begin": 90, "end": 91})
    assert late.remarks(3) == [
        "no gradient was modulated: the run is too short for any epoch of the modulation"
    ]


# ---------------------------------------------------------------------- variants and refusals


def led(cls: type[Method], variant: str, **hparams: Value) -> tuple[Case, Method]:
    case = av_case(cls, variant, hparams)
    return case, case.trained


@pytest.mark.parametrize(
    ("variant", "hparams"), [("released", {}), ("paper", {"modulation": "ogm", "alpha": 0.0})]
)
def test_released_and_alpha_0_are_sf_md(variant: str, hparams: Hparams) -> None:
    case, baseline = led(SFMD, "paper")
    ours = led(OGMMD, variant, **hparams)[1].state_dict()
    assert ours.keys() == baseline.state_dict().keys()
    assert all(torch.equal(ours[key], value) for key, value in baseline.state_dict().items())
    assert not torch.equal(
        case.logits(baseline, case.mixed), case.logits(led(OGMMD, "paper")[1], case.mixed)
    )


def refusal(variant: str = "paper", modalities: int = 2, **hparams: Value) -> str:
    with pytest.raises(UserError) as caught:
        OGMMD.check(heard_and_seen((*SMALL, SMALL[0])[:modalities]), variant, hparams)
    return str(caught.value)


def test_settings_that_cannot_work_are_refused() -> None:
    assert (
        "weighs two modalities against each other and av has 3 (audio, visual, more2)"
        in refusal(modalities=3)
    )
    assert refusal("released", alpha=0.1).startswith(
        "hparams.ogm_md.alpha does not apply to ogm_md:released"
    )
    assert refusal(begin=60) == "hparams.ogm_md.begin=60 is after hparams.ogm_md.end=50"


@pytest.mark.parametrize("fusion", ["film", "gated"])
def test_networks_without_readouts_are_refused(fusion: str) -> None:
    for network in (narrow(fusion=fusion), Small(heard_and_seen(SMALL))):
        with pytest.raises(UserError, match="each modality alone, and this network"):
            OGMMD(network)
    with pytest.raises(UserError, match="method 'hemis' fuses modalities to moments"):
        HeMIS(narrow(fusion=fusion))


DATASET = """
from harness.dataset import Dataset, DataSpec, Modality, Split


class HeardAndSeen(Dataset):
    @property
    def spec(self) -> DataSpec:
        shapes = (Modality("audio", (1, 33, 40)), Modality("visual", (3, 32, 32)))
        return DataSpec("av", "classification", shapes, ("a", "b"), "accuracy", aligned=False)

    def fingerprint(self) -> str:
        raise AssertionError("planning needs no data")

    def load(self, split: str) -> Split:
        raise AssertionError("planning needs no data")

    def counts(self) -> dict[str, int]:
        raise AssertionError("planning needs no data")
"""


def test_a_study_is_refused_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "heard_and_seen.py"
    file.write_text(DATASET)

    def plan(methods: str, *settings: str) -> Plan:
        return Plan(
            load_study([f"dataset={file}", f"methods=[{methods}]", f"output={tmp_path}", *settings])
        )

    with pytest.raises(UserError, match="compares the logits of each modality alone"):
        plan("ogm_md")
    with pytest.raises(UserError, match="compares the logits of each modality alone"):
        plan("ogm_md", "backbone.name=audio_visual", "backbone.fusion=gated")
    with pytest.raises(UserError, match="fuses modalities to moments"):
        plan("hemis", "backbone.name=audio_visual", "backbone.fusion=film")
    accepted = plan(
        "ogm_md,ogm_md:released,hemis", "backbone.name=audio_visual", "backbone.fusion=sum"
    )
    assert [row.label for row in accepted.rows] == ["ogm_md", "ogm_md:released", "hemis"]
    assert accepted.backbone == {
        "name": "audio_visual",
        "depth": 18,
        "width": 64,
        "fusion": "sum",
        "frames": 1,
    }
