"""ShaSpec: rows T1 and T19-T22 of the method spec, its losses, second implementations."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.backbones.small import Small
from harness.conformance.synthetic import Case, synthetic_spec
from harness.method import Losses, TrainBatch
from harness.protocol.combinations import lattice
from harness.protocol.seeds import Streams
from methods.sf_md import SFMD
from methods.shaspec import (
    ShaSpec,
    alignment,
    domain_classification,
    fill,
    mean_of_present,
    released_fill,
)

WIDTH = 8
VARIANTS = pytest.mark.parametrize("variant", ["paper", "released"])
COUNTS = pytest.mark.parametrize("count", [2, 3, 4])


def model_of(
    variant: str = "paper",
    count: int = 3,
    aligned: bool = False,
    classes: int = 5,
    task: str = "classification",
) -> ShaSpec:
    with Streams(0).initialising("model"):
        return ShaSpec(
            Small(synthetic_spec(count, classes, task, aligned), {"width": WIDTH}), variant
        )


def case_of(model: ShaSpec) -> Case:
    return Case(ShaSpec, model.variant, model.spec, lambda spec: Small(spec, {"width": WIDTH}))


def trained(model: ShaSpec) -> ShaSpec:
    """With running statistics that are not those of the start, in evaluation mode."""
    case_of(model).lead(model, 0, 5)
    return model.eval()


def gradients(model: ShaSpec, term: Tensor) -> set[str]:
    """The top-level modules that get a gradient which is not zero."""
    model.zero_grad()
    term.backward()  # type: ignore[no-untyped-call]
    return {
        name.split(".")[0]
        for name, p in model.named_parameters()
        if p.grad is not None and bool(p.grad.any())
    }


def as_mask(text: str) -> Tensor:
    return torch.tensor([[bit == "1" for bit in text]])


def scalars(*values: float) -> list[Tensor]:
    return [torch.full((1, 1, 1, 1), float(value)) for value in values]


# ---------------------------------------------------------------------- T1


def expected_parameters(
    count: int, c: int, classes: int, encoder: int, shared: int, trunk: int, z: int, released: bool
) -> int:
    """V specific encoders, the shared one, projections 2c -> c, trunk, head, modality
    classifier.
    """
    projections = count * (2 * c * c + c) if released else 2 * c * c
    return (
        count * encoder
        + shared
        + projections
        + trunk
        + (z * classes + classes)
        + (c * count + count)
    )


def test_T01_the_formula_gives_the_published_totals() -> None:
    network = {
        "count": 3,
        "c": 128,
        "classes": 2,
        "encoder": 677_576,
        "shared": 677_576,
        "trunk": 2_755_072 + 8_393_728,
        "z": 512,
    }
    assert expected_parameters(**network, released=False) == 13_893_285
    # The port counts 258 weights of a linear layer that it never uses.
    assert expected_parameters(**network, released=True) == 13_959_463 - 258


@VARIANTS
@COUNTS
@pytest.mark.parametrize("aligned", [True, False])
def test_T01_parameters_by_formula(variant: str, count: int, aligned: bool) -> None:
    model = model_of(variant, count, aligned)
    baseline = SFMD(Small(model.spec, {"width": WIDTH})).parameter_counts()["inference"]
    # Stems are a convolution from each modality's channels and a batch norm; what follows them is
    # shared.
    stems = sum(9 * m.shape[0] * WIDTH + 2 * WIDTH for m in model.spec.modalities)
    shared = (
        9 * 2 * WIDTH + 2 * WIDTH + 9 * WIDTH**2 + 2 * WIDTH
        if aligned
        else stems + 9 * WIDTH**2 + 2 * WIDTH
    )
    projections = count * (2 * WIDTH**2 + WIDTH) if variant == "released" else 2 * WIDTH**2
    counts = model.parameter_counts()
    assert counts["inference"] == baseline + shared + projections
    assert counts["training"] == counts["inference"] + WIDTH * count + count


# ---------------------------------------------------------------------- T19, T20


FILLS = [
    ("001", (100, 100, 100), (100, 200, 100)),
    ("110", (1, 10, 5.5), (1, 10, 0.5)),
    ("101", (1, 50.5, 100), (1, 50.5, 100)),
    ("011", (55, 10, 100), (55, 10, 100)),
    ("100", (1, 1, 1), (1, 1, 1)),
    ("010", (10, 10, 10), (10, 10, 10)),
    ("111", (1, 10, 100), (1, 10, 100)),
]


@pytest.mark.parametrize(("mask", "paper", "released"), FILLS)
def test_T19_shaspec_fill(mask: str, paper: tuple[float, ...], released: tuple[float, ...]) -> None:
    r, present = scalars(1, 10, 100), as_mask(mask)
    assert [float(x) for x in fill(r, mean_of_present(r, present), present)] == pytest.approx(paper)
    assert [float(x) for x in released_fill(r, present)] == pytest.approx(released)


def test_T19_what_stands_in_an_absent_place_does_not_matter() -> None:
    r, present = scalars(1, math.nan, 100), as_mask("101")
    assert [float(x) for x in fill(r, mean_of_present(r, present), present)] == [1, 50.5, 100]
    assert [float(x) for x in released_fill(r, present)] == [1, 50.5, 100]


def test_T19_released_fill_of_two_modalities_copies_the_other() -> None:
    for mask, expected in (("10", [1, 1]), ("01", [10, 10]), ("11", [1, 10])):
        assert [float(x) for x in released_fill(scalars(1, 10), as_mask(mask))] == expected


def test_P8_a_present_feature_that_is_zero_is_not_taken_for_missing() -> None:
    r, present = scalars(0, 10, 100), as_mask("111")
    assert [float(x) for x in fill(r, mean_of_present(r, present), present)] == [0, 10, 100]
    assert [float(x) for x in released_fill(r, present)] == [0, 10, 100]


def fused_map(model: ShaSpec, case: Case, present: Tensor) -> tuple[list[Tensor], Tensor]:
    """r_v of every modality, and the map that the trunk receives, (B, V, c, h, w)."""
    seen: list[Tensor] = []
    hook = model.trunk.register_forward_pre_hook(lambda module, given: seen.append(given[0][-1]))
    features = model.encode_all(case.split.inputs)
    model.combine(model.prepare(features), present)
    hook.remove()
    return [f["shared"][-1] for f in features], seen[0].unflatten(1, (len(features), -1))


@COUNTS
def test_T20_shaspec_residual_without_projection_is_the_shared_feature_or_the_mean(
    count: int,
) -> None:
    model = model_of(count=count)
    torch.nn.init.zeros_(model.projections[0].weight)
    case = case_of(model)
    r, fused = fused_map(trained_but_unprojected(model), case, case.mixed)
    for b, mask in enumerate(case.mixed.tolist()):
        there = [r[v][b] for v in range(count) if mask[v]]
        for v in range(count):
            torch.testing.assert_close(fused[b, v], r[v][b] if mask[v] else sum(there) / len(there))


def trained_but_unprojected(model: ShaSpec) -> ShaSpec:
    trained(model)
    torch.nn.init.zeros_(model.projections[0].weight)
    return model


def test_T20_without_projection_the_task_sends_no_gradient_to_specific_encoders() -> None:
    model = model_of()
    torch.nn.init.zeros_(model.projections[0].weight)
    case = case_of(model)
    terms, _, _ = case.losses(model, case.mixed)
    assert "encoders" not in gradients(model, terms["task"])
    other = model_of()
    assert "encoders" in gradients(other, case.losses(other, case.mixed)[0]["task"])


# ---------------------------------------------------------------------- T21


def test_T21_dco_at_zero_weights_is_the_log_of_v_whatever_is_shown() -> None:
    for count in (2, 3, 4):
        classifier = torch.nn.Linear(WIDTH, count)
        torch.nn.init.zeros_(classifier.weight)
        torch.nn.init.zeros_(classifier.bias)
        shown = torch.tensor([c.mask for c in lattice("abcd"[:count])])
        features = list(torch.randn(count, len(shown), WIDTH, 2, 2))
        assert domain_classification(classifier, features, shown).item() == pytest.approx(
            math.log(count), rel=1e-6
        )
    assert math.log(3) == pytest.approx(1.0986, abs=1e-4)


@VARIANTS
def test_T21_gradients_of_dco_and_dao_go_where_they_belong(variant: str) -> None:
    model = model_of(variant)
    case = case_of(model)
    assert gradients(model, case.losses(model, case.mixed)[0]["dco"]) == {
        "encoders",
        "modality_classifier",
    }
    assert gradients(model, case.losses(model, case.mixed)[0]["dao"]) == {"shared", "stems"}
    alike = model_of(variant, aligned=True)
    assert gradients(alike, case_of(alike).losses(alike, case.mixed)[0]["dao"]) == {"shared"}


@pytest.mark.parametrize("power", [1, 2])
def test_T21_dao_is_zero_for_equal_features_and_for_single_modalities(power: int) -> None:
    pairs = list(itertools.combinations(range(3), 2))
    same, other = [torch.full((7, 2, 2, 2), 0.7)] * 3, list(torch.randn(3, 7, 2, 2, 2))
    shown = torch.tensor([c.mask for c in lattice("abc")])
    assert float(alignment(same, shown, pairs, power)) == 0.0
    assert (
        float(alignment(other, torch.eye(3, dtype=torch.bool)[torch.arange(7) % 3], pairs, power))
        == 0.0
    )
    assert float(alignment(other, shown, pairs, power)) > 0.0


def test_A20_dao_closed_form() -> None:
    r = [
        torch.tensor([x]).reshape(-1, 1, 1, 1) for x in ([1.0, 2.0], [10.0, 5.0], [100.0, math.nan])
    ]
    shown = torch.tensor([[True, True, True], [True, True, False]])
    # Pair (0, 1): both samples, (9 + 3) / 2; pairs with 2: the first sample alone, 99 and 90.
    assert float(alignment(r, shown, [(0, 1), (0, 2), (1, 2)], 1)) == pytest.approx(6 + 99 + 90)
    assert float(alignment(r, shown, [(0, 1), (1, 2)], 2)) == pytest.approx((81 + 9) / 2 + 8100)


# ---------------------------------------------------------------------- naive second implementation


def naive_logits(model: ShaSpec, inputs: dict[str, Tensor], mask: list[bool]) -> Tensor:
    """One sample: only what is there is encoded.

    The port's fill is written out for its three slots.
    """
    maps: dict[int, tuple[Tensor, ...]] = {}
    s: dict[int, Tensor] = {}
    for v, (name, has) in enumerate(zip(model.spec.names, mask, strict=True)):
        if has:
            maps[v], s[v] = (
                model.shared(model.stems[v](inputs[name])),
                model.encoders[v](inputs[name])[-1],
            )
    r = {v: own[-1] for v, own in maps.items()}
    fused = []
    for scale, like in enumerate(next(iter(maps.values()))[:-1]):
        fused.append(
            torch.cat(
                [maps[v][scale] if v in maps else torch.zeros_like(like) for v in range(len(mask))],
                1,
            )
        )
    fused.append(
        torch.cat(
            naive_paper(model, r, s) if model.variant == "paper" else naive_released(model, r, s), 1
        )
    )
    logits: Tensor = model.head(model.trunk(tuple(fused)), tuple(fused))
    return logits


def naive_paper(model: ShaSpec, r: dict[int, Tensor], s: dict[int, Tensor]) -> list[Tensor]:
    weight, parts = model.projections[0].weight[:, :, 0, 0], []
    for v in range(len(model.spec.names)):
        if v in r:
            parts.append(r[v] + torch.einsum("oi,bihw->bohw", weight, torch.cat([r[v], s[v]], 1)))
        else:
            parts.append(sum(r.values()) / len(r))
    return parts


def naive_released(model: ShaSpec, r: dict[int, Tensor], s: dict[int, Tensor]) -> list[Tensor]:
    nothing, n, count = torch.zeros_like(next(iter(r.values()))), len(r), len(model.spec.names)
    filled = [r.get(v, nothing) for v in range(count)]
    for v in range(count):
        if v not in r:
            terms = [filled[j] for j in range(count) if j != v]
            if count == 3 and v == 2:
                terms = [filled[0]]
            filled[v] = sum(terms) / n
    parts = []
    for v, projection in enumerate(model.projections):
        own = s.get(v, nothing)
        joint = torch.einsum(
            "oi,bihw->bohw", projection.weight[:, :, 0, 0], torch.cat([own, filled[v]], 1)
        )
        parts.append(own + joint + projection.bias[:, None, None])
    return parts


@VARIANTS
@COUNTS
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_logits_equal_a_naive_loop_over_samples(variant: str, count: int, task: str) -> None:
    model = trained(model_of(variant, count, task=task))
    case = case_of(model)
    with torch.no_grad():
        ours = case.logits(model, case.mixed)
        for b, mask in enumerate(case.mixed.tolist()):
            row = {name: x[b : b + 1] for name, x in case.split.inputs.items()}
            torch.testing.assert_close(
                ours[b : b + 1], naive_logits(model, row, mask), rtol=1e-5, atol=1e-5
            )


def naive_losses(model: ShaSpec, batch: TrainBatch, shown: list[list[bool]]) -> Losses:
    """alpha * DAO and beta * DCO by loops over samples and modalities."""
    count, size = len(model.spec.names), len(shown)
    r = [f["shared"][-1] for f in batch.features]
    entropies = []
    for b, v in itertools.product(range(size), range(count)):
        if shown[b][v]:
            logits = model.modality_classifier(batch.features[v]["specific"][-1][b].mean((1, 2)))
            entropies.append(F.cross_entropy(logits[None], torch.tensor([v])))
    released = model.variant == "released"
    dao = torch.zeros(())
    for i, j in (
        [(v, v + 1) for v in range(count - 1)]
        if released
        else itertools.combinations(range(count), 2)
    ):
        both = [b for b in range(size) if shown[b][i] and shown[b][j]]
        distances = [
            F.mse_loss(r[i][b], r[j][b]) if released else F.l1_loss(r[i][b], r[j][b]) for b in both
        ]
        dao = dao + (sum(distances) / len(both) if both else 0)
    return {"dao": 0.1 * dao, "dco": 0.02 * sum(entropies) / len(entropies)}


@VARIANTS
@COUNTS
def test_losses_equal_naive_loops(variant: str, count: int) -> None:
    model = model_of(variant, count)
    case = case_of(model)
    available = case.mixed | case.mixed.roll(1, 0)
    terms, _, batch = case.losses(model, case.mixed, available=available)
    # The port's losses do not look at the mask: they see everything that there is.
    expected = naive_losses(
        model, batch, (case.mixed if variant == "paper" else available).tolist()
    )
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-5, atol=1e-6)
