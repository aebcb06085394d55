"""mmFormer: closed forms of section 5.7, dropout from a given stream, refused settings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.errors import UserError
from harness.protocol.seeds import Noise
from methods._mmformer import TransformerLayer, to_map, to_tokens
from methods.mmformer import MMFormer
from tests.support.mmformer_model import SIZES, WIDTH, case_of, model_of, trained

COUNTS = pytest.mark.parametrize("count", [2, 3, 4])
NONE = torch.tensor(0.0)


# ---------------------------------------------------------------------- section 5.7


def silenced(model: MMFormer) -> MMFormer:
    """With the last linear maps of attention and MLP at zero every layer is x -> x."""
    for layer in model.modules():
        if isinstance(layer, TransformerLayer):
            for linear in (layer.projection, layer.narrow):
                torch.nn.init.zeros_(linear.weight)
                torch.nn.init.zeros_(linear.bias)
    return model


@pytest.mark.parametrize("missing_tokens", ["zero_pos", "key_mask"])
def test_5_7_silent_layers_leave_token_plus_twice_the_position_and_the_position_alone(
    missing_tokens: str,
) -> None:
    model = silenced(trained(model_of(missing_tokens=missing_tokens)))
    case = case_of(model)
    seen: list[Tensor] = []
    model.reproject.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    case.logits(model, case.mixed)
    slots = seen[0].unflatten(1, (3, SIZES["d"]))
    for v, name in enumerate(model.spec.names):
        position = model.positions[v][0].T.unflatten(1, (2, 2))
        tokens = model.tokenisers[v](model.encoders[v](case.split.inputs[name])[0])
        for b, has in enumerate(case.mixed[:, v].tolist()):
            torch.testing.assert_close(
                slots[b, v], tokens[b] + 2 * position if has else position, rtol=1e-5, atol=1e-5
            )


@COUNTS
def test_5_7_aligned_reshape_keeps_modalities_in_their_channels(count: int) -> None:
    d, h, w = 3, 2, 5
    tokens = torch.cat([torch.full((1, h * w, d), float(v)) for v in range(count)], 1)
    blocks = to_map(tokens, count, h, w).unflatten(1, (count, d))
    for v in range(count):
        assert bool((blocks[:, v] == v).all())
    official = tokens.reshape(1, h, w, count * d).permute(0, 3, 1, 2).unflatten(1, (count, d))
    assert not all(bool((official[:, v] == v).all()) for v in range(count))


def test_9_9_places_survive_flattening() -> None:
    ramp = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    assert torch.equal(to_map(to_tokens(ramp), 1, 4, 5), ramp)
    assert to_tokens(ramp)[0, 6].tolist() == ramp[0, :, 1, 1].tolist()


def test_5_7_key_mask_equals_running_with_the_available_tokens_alone() -> None:
    torch.manual_seed(0)
    layer, tokens = TransformerLayer(12, 3, 20), torch.randn(1, 12, 12)
    keys = torch.arange(12)[None] // 4 != 1
    kept = layer(tokens, NONE, None, keys)[:, keys[0]]
    torch.testing.assert_close(kept, layer(tokens[:, keys[0]], NONE), rtol=1e-5, atol=1e-6)
    assert (kept - layer(tokens, NONE)[:, keys[0]]).abs().max().item() > 1e-3


def test_5_5_tokens_of_missing_modalities_dilute_attention_to_a_third() -> None:
    """At the start zeros and zero positions have logit 0 and value 0 (measured: 0.35)."""
    torch.manual_seed(0)
    layer, there = TransformerLayer(64, 8, 128), torch.randn(4, 16, 64)
    tokens = torch.cat([there, torch.zeros(4, 32, 64)], 1)
    keys = (torch.arange(48) < 16).expand(4, 48)
    with torch.no_grad():
        normed = layer.attention_norm(tokens)
        diluted = layer._attend(normed, NONE, None, None)[:, :16]
        masked = layer._attend(normed, NONE, None, keys)[:, :16]
    assert (diluted.norm() / masked.norm()).item() == pytest.approx(0.35, abs=0.03)


def test_5_7_positions_are_zero_at_first_and_of_another_length_are_refused() -> None:
    model = model_of()
    assert [tuple(p.shape) for p in model.positions] == [(1, 4, SIZES["d"])] * 3
    assert not any(bool(p.any()) for p in model.positions)
    with pytest.raises(RuntimeError, match="size of tensor"):
        model._intra(0, torch.zeros(1, WIDTH, 3, 3), None)


@pytest.mark.parametrize(("tanh_gelu", "at_one"), [(False, 0.8413447461), (True, 0.8411919906)])
def test_gelu_is_exact_or_in_its_tanh_form(tanh_gelu: bool, at_one: float) -> None:
    """The layer is x + gelu(1) with these weights; Phi(1), and its approximation."""
    layer = TransformerLayer(4, 2, 1, tanh_gelu).double()
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(layer.widen.bias)
    torch.nn.init.ones_(layer.narrow.weight)
    added = layer(torch.zeros(1, 3, 4, dtype=torch.float64), NONE.double())
    torch.testing.assert_close(added, torch.full_like(added, at_one), rtol=0, atol=1e-9)


def test_only_the_released_branches_have_the_tanh_form() -> None:
    for variant, form in (("paper", "none"), ("released", "tanh")):
        layers = [m for m in model_of(variant).modules() if isinstance(m, TransformerLayer)]
        assert layers and {layer.gelu for layer in layers} == {form}


# ---------------------------------------------------------------------- dropout and settings


@pytest.mark.parametrize("masking", [True, False])
def test_the_training_form_without_dropout_is_the_evaluation_form(masking: bool) -> None:
    torch.manual_seed(0)
    layer, tokens = TransformerLayer(12, 3, 20), torch.randn(4, 12, 12)
    keys = torch.rand(4, 12) > 0.4 if masking else None
    noise = Noise(torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        layer(tokens, NONE, noise, keys), layer(tokens, NONE, None, keys), rtol=1e-5, atol=1e-6
    )


def test_dropout_draws_from_the_noise_and_keeps_the_mean() -> None:
    def dropped(p: float | Tensor) -> Tensor:
        return Noise(torch.Generator().manual_seed(3)).dropout(torch.ones(200_000), p)

    assert torch.equal(dropped(0.25), dropped(torch.tensor(0.25)))
    assert float(dropped(0.25).mean()) == pytest.approx(1.0, abs=0.006)
    assert sorted(dropped(0.25).unique().tolist()) == pytest.approx([0.0, 4 / 3])
    case = case_of(model_of())
    first, again, other = (
        case.losses(model_of(), case.mixed, noise=case.noise(seed))[0]["task"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_settings_that_cannot_work_are_refused() -> None:
    spec = model_of().spec
    with pytest.raises(UserError, match="missing_tokens does not apply to mmformer:released"):
        MMFormer.check(spec, "released", {"missing_tokens": "key_mask"})


def test_the_report_says_that_a_released_model_has_other_sizes() -> None:
    assert "d=16" in model_of("released").remarks(30)[0]
    assert (
        model_of("released", d=512, heads=8, mlp=4096).remarks(30) == model_of().remarks(30) == []
    )
