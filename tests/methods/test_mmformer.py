"""mmFormer: rows of the test matrix, closed forms of section 5.7, a second implementation."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.backbones.small import Small
from methods.mmformer import MMFormer
from methods.sf_md import SFMD
from tests.support.mmformer_model import SIZES, WIDTH, case_of, model_of, naive_logits, trained

VARIANTS = pytest.mark.parametrize("variant", ["paper", "released"])
COUNTS = pytest.mark.parametrize("count", [2, 3, 4])
NONE = torch.tensor(0.0)


# ---------------------------------------------------------------------- naive second implementation


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("settings", [{}, {"missing_tokens": "key_mask"}, {"variant": "released"}])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_logits_equal_a_naive_loop(count: int, settings: dict[str, Any], task: str) -> None:
    model = trained(model_of(count=count, task=task, **settings))
    case = case_of(model)
    with torch.no_grad():
        ours = case.logits(model, case.mixed)
        for b, mask in enumerate(case.mixed[: len(case.masks)].tolist()):
            row = {name: x[b : b + 1] for name, x in case.split.inputs.items()}
            torch.testing.assert_close(
                ours[b : b + 1], naive_logits(model, row, mask), rtol=1e-4, atol=1e-5
            )


@COUNTS
@pytest.mark.parametrize("sep_head", ["trunk", "linear"])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_losses_equal_naive_loops(count: int, sep_head: str, task: str) -> None:
    """A run over modalities: each one's zeroed maps, put below each other, go through a copy of the
    shared predictor.
    """
    model = model_of(count=count, task=task, sep_head=sep_head, aux_scale=0.5, dropout=0.0)
    case = case_of(model)
    copied = copy.deepcopy(model).train()
    terms, _, batch = case.losses(model.train(), case.mixed)
    rows = [
        tuple(m if has else torch.zeros_like(m) for m in [scale[b : b + 1] for scale in f["maps"]])
        for v, f in enumerate(batch.features)
        for b, has in enumerate(case.mixed[:, v].tolist())
    ]
    stacked = tuple(torch.cat([row[scale] for row in rows]) for scale in range(len(rows[0])))
    head = copied.auxiliary["head"]
    size = case.split.target.shape[1:]
    logits = (
        head(copied.auxiliary["trunk"](stacked), stacked)
        if sep_head == "trunk"
        else head(stacked[-1], size)
    )
    for v, name in enumerate(model.spec.names):
        total = torch.zeros(())
        for b in range(case.size):
            if case.mixed[b, v]:
                position = v * case.size + b
                total = total + F.cross_entropy(
                    logits[position : position + 1], case.split.target[b : b + 1]
                )
        torch.testing.assert_close(
            terms[f"sep_{name}"], 0.5 * total / case.size, rtol=1e-5, atol=1e-6
        )


def test_deep_supervision_of_a_pyramid_equals_naive_loops() -> None:
    """1x1 predictors, resized, on the fused deepest map and on the decoder's maps at every scale
    but the finest.
    """
    model = model_of(task="segmentation", dropout=0.0, aux_scale=0.5)
    case = case_of(model)
    seen: list[Tensor] = []
    model.trunk.register_forward_pre_hook(lambda module, given: seen.append(given[0][-1]))
    for scale in (2, 1):
        model.head.merges[scale].register_forward_hook(
            lambda module, given, output: seen.append(output)
        )
    terms, _, _ = case.losses(model, case.mixed)
    for number, maps in enumerate(seen[:3]):
        layer = model.auxiliary["deep"][number].layer
        total = torch.zeros(())
        for b in range(case.size):
            scores = (
                torch.einsum("kc,chw->khw", layer.weight[:, :, 0, 0], maps[b])
                + layer.bias[:, None, None]
            )
            full = F.interpolate(scores[None], size=(32, 32), mode="bilinear", align_corners=False)
            total = total + F.cross_entropy(full, case.split.target[b : b + 1])
        torch.testing.assert_close(
            terms[f"deep{number}"], 0.5 * total / case.size, rtol=1e-5, atol=1e-6
        )
    assert sorted(terms) == ["deep0", "deep1", "deep2", "sep_m0", "sep_m1", "sep_m2", "task"]


@VARIANTS
def test_deep_supervision_and_the_released_auxiliary_equal_naive_loops(variant: str) -> None:
    model = model_of(variant, dropout=0.0, aux_scale=0.5)
    case = case_of(model)
    seen: list[Tensor] = []
    model.trunk.register_forward_pre_hook(lambda module, given: seen.append(given[0][-1]))
    copied = copy.deepcopy(model.auxiliary).train()
    terms, _, _ = case.losses(model, case.mixed)
    total = torch.zeros(())
    if variant == "released":
        logits = copied["head"](copied["stage"]((seen[0],)), (seen[0],))
        for b, mask in enumerate(case.mixed.tolist()):
            for has in mask:
                if has:  # the same output, once for each modality that is there
                    total = total + F.cross_entropy(logits[b : b + 1], case.split.target[b : b + 1])
        assert set(terms) == {"task", "weak"}
        torch.testing.assert_close(terms["weak"], 0.5 * total / case.size, rtol=1e-5, atol=1e-6)
        return
    layer = model.auxiliary["deep"][0].layer
    for b in range(case.size):
        pooled = seen[0][b].mean((1, 2))
        pooled = (pooled - pooled.mean()) / (pooled.var(correction=0) + 1e-5).sqrt()
        total = total + F.cross_entropy(
            (layer.weight @ pooled + layer.bias)[None], case.split.target[b : b + 1]
        )
    torch.testing.assert_close(terms["deep0"], 0.5 * total / case.size, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------- test matrix


@pytest.mark.parametrize("settings", [{}, {"missing_tokens": "key_mask"}, {"variant": "released"}])
def test_matrix_01_leak(settings: dict[str, Any]) -> None:
    model = trained(model_of(**settings))
    case = case_of(model)
    clean = case.logits(model, case.mixed)
    for _, inputs in case.disturbed(case.mixed):
        assert torch.equal(case.logits(model, case.mixed, inputs), clean)


@VARIANTS
def test_matrix_02_gradients_reach_present_inputs_and_no_others(variant: str) -> None:
    model = trained(model_of(variant))
    case = case_of(model)
    inputs = {name: x.clone().requires_grad_() for name, x in case.split.inputs.items()}
    loss = F.cross_entropy(model(inputs, case.mixed).logits, case.split.target)
    for v, gradient in enumerate(torch.autograd.grad(loss, list(inputs.values()))):
        for b in range(case.size):
            assert bool(gradient[b].any()) == bool(case.mixed[b, v])


def encoder_gradients(model: MMFormer, present: Tensor) -> list[bool]:
    case = case_of(model)
    terms = case.losses(model.train(), present)[0]
    model.zero_grad()
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    return [
        any(p.grad is not None and bool(p.grad.any()) for p in encoder.parameters())
        for encoder in model.encoders
    ]


@VARIANTS
def test_matrix_03_auxiliary_losses_train_absent_encoders_only_when_asked_to(variant: str) -> None:
    model = model_of(variant)
    only = case_of(model).only(1)
    assert encoder_gradients(model, only) == [False, True, False]
    if variant == "paper":
        assert encoder_gradients(model_of(unmask_aux=True), only) == [True, True, True]


def permuted(model: MMFormer, order: list[int]) -> MMFormer:
    """The same network for modalities in another order.

    The channels of the re-projection move with them.
    """
    other, d, c = copy.deepcopy(model), SIZES["d"], WIDTH
    for name in ("encoders", "tokenisers", "positions", "intra"):
        for slot, v in enumerate(order):
            getattr(other, name)[slot] = getattr(model, name)[v]
    blocks = model.reproject.weight.detach().unflatten(0, (-1, c)).unflatten(2, (-1, d))
    other.reproject.weight = torch.nn.Parameter(
        blocks[order][:, :, order].flatten(2, 3).flatten(0, 1)
    )
    assert model.reproject.bias is not None
    other.reproject.bias = torch.nn.Parameter(
        model.reproject.bias.detach().unflatten(0, (-1, c))[order].flatten()
    )
    convolution = other.trunk.layers[0]
    convolution.weight = torch.nn.Parameter(
        convolution.weight.detach().unflatten(1, (-1, c))[:, order].flatten(1, 2)
    )
    return other


def test_matrix_05_and_06_permuting_modalities() -> None:
    model = trained(model_of(aligned=True))
    case = case_of(model)
    names, order = model.spec.names, [2, 0, 1]
    inputs = {name: case.split.inputs[names[v]] for name, v in zip(names, order, strict=True)}
    present, expected = case.mixed[:, order], case.logits(model, case.mixed)
    with torch.no_grad():
        assert float((model(inputs, present).logits - expected).abs().max()) > 1e-3
        torch.testing.assert_close(
            permuted(model, order)(inputs, present).logits, expected, rtol=1e-4, atol=1e-4
        )


@VARIANTS
@COUNTS
def test_matrix_10_shapes(variant: str, count: int) -> None:
    model = model_of(variant, count).eval()
    case = case_of(model)
    seen: list[tuple[int, ...]] = []
    model.trunk.register_forward_pre_hook(
        lambda module, given: seen.append(tuple(given[0][-1].shape))
    )
    assert tuple(case.logits(model, case.mixed).shape) == (case.size, 5)
    assert seen == [(case.size, count * WIDTH, 2, 2)]


def layer_parameters(d: int, m: int) -> int:
    return 4 * d * d + 2 * d * m + 6 * d + m


def fusion_parameters(count: int, c: int, n: int, d: int, m: int) -> int:
    return (
        count * (c * d + d)
        + count * n * d
        + (count + 1) * layer_parameters(d, m)
        + count * d * count * c
        + count * c
    )


PUBLISHED = [
    ((128, 196, 512, 4096), 16_345_344, 22_089_600),
    ((256, 49, 512, 4096), 16_588_288, 22_650_624),
    ((512, 49, 512, 4096), 17_375_232, 24_224_256),
    ((128, 196, 256, 1024), 2_664_704, 3_700_864),
    ((256, 49, 256, 1024), 2_786_304, 3_981_568),
    ((512, 49, 256, 1024), 3_180_032, 4_768_768),
]


@pytest.mark.parametrize(("shape", "two", "three"), PUBLISHED)
def test_matrix_11_the_formula_gives_the_tables_differences(
    shape: tuple[int, int, int, int], two: int, three: int
) -> None:
    assert (fusion_parameters(2, *shape), fusion_parameters(3, *shape)) == (two, three)
    assert (layer_parameters(512, 4096), layer_parameters(256, 1024)) == (5_250_048, 788_992)


@COUNTS
@pytest.mark.parametrize("sep_head", ["trunk", "linear"])
def test_matrix_11_and_17_parameters_by_formula(count: int, sep_head: str) -> None:
    for sizes in (SIZES, {"d": 256, "heads": 8, "mlp": 1024}):
        counts = model_of(count=count, sep_head=sep_head, **sizes).parameter_counts()
        baseline = SFMD(
            Small(case_of(model_of(count=count)).spec, {"width": WIDTH})
        ).parameter_counts()["inference"]
        assert counts["inference"] - baseline == fusion_parameters(
            count, WIDTH, 4, sizes["d"], sizes["mlp"]
        )
        alone = (
            9 * WIDTH * 2 * WIDTH + 4 * WIDTH + 2 * WIDTH * 5 + 5
            if sep_head == "trunk"
            else 5 * WIDTH + 5
        )
        assert counts["training"] - counts["inference"] == alone + 5 * count * WIDTH + 5


@COUNTS
def test_matrix_11_released_parameters_by_formula(count: int) -> None:
    def added(modalities: int, c: int, n: int, d: int, m: int) -> int:
        return modalities * (2 * c + 9 * c * d + d + n * d + layer_parameters(d, m) + 9 * c * d + c)

    assert round(added(3, 128, 196, 512, 4096) / 1e6, 2) == 19.59
    counts = model_of("released", count).parameter_counts()
    baseline = SFMD(
        Small(case_of(model_of(count=count)).spec, {"width": WIDTH})
    ).parameter_counts()["inference"]
    assert counts["inference"] - baseline == added(count, WIDTH, 4, SIZES["d"], SIZES["mlp"])


@VARIANTS
@pytest.mark.parametrize(("count", "classes"), itertools.product((2, 3, 4), (2, 6, 40)))
def test_matrix_12_any_v_and_k(variant: str, count: int, classes: int) -> None:
    model = model_of(variant, count, classes=classes)
    case = case_of(model)
    terms, output, _ = case.losses(model, case.mixed)
    assert tuple(output.logits.shape) == (case.size, classes)
    assert all(bool(term.isfinite()) for term in terms.values())


@pytest.mark.parametrize("settings", [{}, {"missing_tokens": "key_mask"}, {"variant": "released"}])
def test_matrix_13_a_row_without_modalities_raises(settings: dict[str, Any]) -> None:
    model = model_of(**settings).eval()
    case = case_of(model)
    with pytest.raises(ValueError, match="without any present modality"):
        model(case.split.inputs, torch.zeros_like(case.mixed))


@VARIANTS
def test_matrix_16_bfloat16_stays_finite_with_features_times_100(variant: str) -> None:
    model = model_of(variant)
    case = case_of(model)
    inputs = {name: 100 * x for name, x in case.split.inputs.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert bool(case.logits(model.eval(), case.mixed, inputs).isfinite().all())
        terms = case.losses(model.train(), case.mixed, inputs=inputs)[0]
    assert all(bool(term.isfinite()) for term in terms.values())
