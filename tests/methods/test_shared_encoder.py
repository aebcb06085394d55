"""One encoder for all modalities: how ShaSpec runs it, and the stems that backbones give it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones import Backbone
from harness.backbones.small import AdaptiveMean, Small
from harness.conformance.synthetic import Case, synthetic_spec
from harness.dataset import DataSpec, Modality
from harness.errors import UserError
from harness.protocol.seeds import Streams
from methods.shaspec import ShaSpec

WIDTH = 8


def model_of(
    variant: str = "paper", aligned: bool = False, task: str = "classification"
) -> ShaSpec:
    with Streams(0).initialising("model"):
        return ShaSpec(Small(synthetic_spec(3, 5, task, aligned), {"width": WIDTH}), variant)


def case_of(model: ShaSpec) -> Case:
    return Case(ShaSpec, model.variant, model.spec, lambda spec: Small(spec, {"width": WIDTH}))


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def channels(*counts: int) -> DataSpec:
    modalities = tuple(Modality(f"m{v}", (count, 4, 4)) for v, count in enumerate(counts))
    return replace(synthetic_spec(len(counts), 5, aligned=True), modalities=modalities)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_in_evaluation_encode_all_agrees_with_encode(variant: str, aligned: bool) -> None:
    model = model_of(variant, aligned)
    case = case_of(model)
    case.lead(model, 0, 5)
    model.eval()
    together = model.encode_all(case.split.inputs)
    for (name, x), features in zip(case.split.inputs.items(), together, strict=True):
        alone = model.encode(name, x)
        for part in ("specific", "shared"):
            torch.testing.assert_close(features[part], alone[part], rtol=1e-5, atol=1e-6)
        assert bool(features["encoded"].all())


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("training", [True, False])
def test_rows_left_out_reach_no_encoder_and_come_back_as_zeros(
    variant: str, aligned: bool, training: bool
) -> None:
    model = model_of(variant, aligned).train(training)
    case = case_of(model)
    features = model.encode_all(case.replaced(case.mixed, torch.tensor(torch.nan)), case.mixed)
    reference = (
        model_of(variant, aligned)
        .train(training)
        .encode_all(case.replaced(case.mixed, torch.tensor(7.0)), case.mixed)
    )
    for v, (ours, theirs) in enumerate(zip(features, reference, strict=True)):
        kept = case.mixed[:, v]
        assert torch.equal(ours["encoded"], kept)
        for part in ("specific", "shared"):
            assert torch.equal(ours[part][0], theirs[part][0])
            assert not bool(ours[part][0][~kept].any()) and bool(
                ours[part][0][kept].flatten(1).any(1).all()
            )
    assert all(bool(b.isfinite().all()) for b in model.buffers())


def test_P06_the_shared_encoder_runs_once_and_normalises_over_all_modalities() -> None:
    model = model_of(aligned=True).train()
    case = case_of(model)
    before = {name: p.detach().clone() for name, p in model.shared.state_dict().items()}
    features = model.encode_all(case.split.inputs)
    fresh = Small(model.spec, {"width": WIDTH}).encoder("m0").train()
    fresh.load_state_dict(before)
    stacked = fresh(torch.cat(list(case.split.inputs.values())))[0]
    assert torch.equal(torch.cat([f["shared"][0] for f in features]), stacked)
    assert [int(norm.num_batches_tracked) for norm in norms(model.shared)] == [1, 1]
    released = model_of("released", aligned=True).train()
    released.encode_all(case.split.inputs)
    assert [int(norm.num_batches_tracked) for norm in norms(released.shared)] == [3, 3]


def test_T22_all_modalities_share_one_module_and_permuting_them_permutes_their_features() -> None:
    model = model_of(aligned=True).eval()
    case = case_of(model)
    names, order = list(model.spec.names), [2, 0, 1]
    assert all(isinstance(stem, nn.Identity) for stem in model.stems)
    swapped = {name: case.split.inputs[names[v]] for name, v in zip(names, order, strict=True)}
    first, second = model.encode_all(case.split.inputs), model.encode_all(swapped)
    for position, v in enumerate(order):
        torch.testing.assert_close(
            second[position]["shared"][0], first[v]["shared"][0], rtol=1e-6, atol=1e-6
        )
    assert sum(name.startswith("shared.") for name, _ in model.named_parameters()) == 6


@pytest.mark.parametrize(("seen", "counted"), [(1, 2), (2, 0), (0, 2)])
def test_a_modality_with_fewer_than_two_rows_uses_running_statistics_and_is_counted(
    seen: int, counted: int
) -> None:
    """Its specific encoder and its stem.

    The shared layers still have the other modalities' rows.
    """
    model = model_of().train()
    case = case_of(model)
    rows = torch.ones_like(case.mixed)
    rows[seen:, 1] = False
    model.encode_all(case.split.inputs, rows)
    assert model.starved_encoders == counted
    assert all(module.training for module in model.modules())
    assert [int(norm.num_batches_tracked) for norm in norms(model.stems[1])] == [int(counted == 0)]
    assert [int(norm.num_batches_tracked) for norm in norms(model.shared)] == [1]


def test_the_skips_of_a_pyramid_are_the_shared_maps_of_what_is_there() -> None:
    model = model_of(task="segmentation").eval()
    case = case_of(model)
    seen: list[tuple[Tensor, ...]] = []
    model.trunk.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    features = model.encode_all(case.split.inputs)
    logits = model.combine(model.prepare(features), case.mixed).logits
    assert tuple(logits.shape) == (case.size, 5, 32, 32)
    assert [tuple(maps.shape[1:]) for maps in seen[0]] == [
        (24, 16, 16),
        (48, 8, 8),
        (96, 4, 4),
        (192, 2, 2),
    ]
    for scale, maps in enumerate(seen[0][:-1]):
        blocks = maps.unflatten(1, (3, -1))
        for b, mask in enumerate(case.mixed.tolist()):
            for v, has in enumerate(mask):
                expected = features[v]["shared"][scale][b]
                assert torch.equal(blocks[b, v], expected if has else torch.zeros_like(expected))


# ---------------------------------------------------------------------- backbones


def test_stems_bring_unlike_inputs_to_one_shape() -> None:
    spec = synthetic_spec(4, 5)
    stems, shared = Small(spec, {"width": WIDTH}).shared_encoder()
    for stem, modality in zip(stems, spec.modalities, strict=True):
        common = stem(torch.randn(2, *modality.shape))
        assert tuple(common.shape) == (2, WIDTH, 6, 8)
        assert tuple(shared(common)[0].shape) == (2, WIDTH, 2, 2)


def test_inputs_that_differ_in_channels_alone_share_the_encoder_of_the_widest() -> None:
    spec = channels(1, 3, 3)
    stems, shared = Small(spec, {"width": WIDTH}).shared_encoder()
    assert [type(stem) for stem in stems] == [nn.Conv2d, nn.Identity, nn.Identity]
    assert tuple(stems[0](torch.randn(2, 1, 4, 4)).shape) == (2, 3, 4, 4)
    wanted = [tuple(p.shape) for p in Small(spec, {"width": WIDTH}).encoder("m1").parameters()]
    assert [tuple(p.shape) for p in shared.parameters()] == wanted


def test_a_backbone_without_stems_refuses_inputs_of_unlike_sizes() -> None:
    with pytest.raises(UserError, match="unlike sizes"):
        Backbone.shared_encoder(Small(synthetic_spec(2, 5)))


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (4, 8), (9, 3)])
def test_adaptive_mean_to_other_sizes_equals_torch(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        AdaptiveMean(4, 5, size)(x), F.adaptive_avg_pool2d(x, size), rtol=1e-6, atol=1e-6
    )
