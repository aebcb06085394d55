"""MMANet's losses and weak set a second time, by loops over samples, in plain Python."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from harness.method import EpochContext, Method
from methods.mmanet import MMANet
from tests.support.naive import Case, bottleneck, case, dense

Vector = list[float]


def pooled_logits(model: Method, z: Tensor, head: str) -> Vector:
    """Global average pooling and the linear layer ``head``."""
    means = [channel.mean() for channel in z]
    return [float(x) for x in dense(dict(model.state_dict()), f"{head}.linear", means)]


def probabilities(logits: Vector) -> Vector:
    top = max(logits)
    powers = [math.exp(x - top) for x in logits]
    return [p / sum(powers) for p in powers]


def relations(features: list[Vector]) -> list[Vector]:
    """Row-normalised Gram matrix."""
    gram = [[sum(a * b for a, b in zip(f, g, strict=True)) for g in features] for f in features]
    return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in gram]


def naive_mad(
    student: list[Vector], teacher: list[Vector], logits: list[Vector], columns: bool
) -> float:
    entropies = [-sum(p * math.log(p) for p in probabilities(row) if p > 0) for row in logits]
    mine, its = relations(student), relations(teacher)
    total = 0.0
    for i in range(len(student)):
        for j in range(len(student)):
            k = entropies[j if columns else i] / sum(entropies)
            total += k * (mine[i][j] - its[i][j]) ** 2
    return total


def naive_weak(scores: Tensor, names: tuple[str, ...]) -> set[tuple[str, ...]]:
    """From the predictions on val, the same in every mined epoch: the weakest V - 1 modalities and
    what is contained in them.
    """
    subsets = [c for size in range(1, len(names) + 1) for c in combinations(names, size)]
    histogram = {}
    for subset, rows in zip(subsets, scores.tolist(), strict=True):
        counts = [0.0] * len(rows[0])
        for row in rows:
            counts[row.index(max(row))] += 1 / len(rows)
        histogram[subset] = probabilities(counts)
    full = histogram[names]
    distance = {
        c: sum(p * math.log(p / q) for p, q in zip(histogram[c], full, strict=True))
        for c in subsets
    }
    worst = max((c for c in subsets if len(c) == len(names) - 1), key=lambda c: distance[c])
    return {c for c in subsets if set(c) <= set(worst)}


def naive_losses(
    made: Case, model: MMANet, present: Tensor, weak: set[tuple[str, ...]]
) -> dict[str, float]:
    """Task, MAD and MAR of one batch, sample by sample.

    The student has its running statistics.
    """
    names, teacher, inputs = made.spec.names, model._teacher[0], made.split.inputs
    student_maps, teacher_maps, teacher_logits, task, auxiliary, chosen = [], [], [], [], [], []
    for b, label in enumerate(made.split.target.tolist()):
        mask = tuple(present[b].tolist())
        z, whole = (
            bottleneck(model, inputs, mask, b),
            bottleneck(teacher, inputs, (True,) * len(names), b),
        )
        trunk, model.trunk = model.trunk, model.regulariser_trunk
        extra = bottleneck(model, inputs, mask, b)
        model.trunk = trunk
        student_maps.append(z.flatten().tolist())
        teacher_maps.append(whole.flatten().tolist())
        teacher_logits.append(pooled_logits(teacher, whole, "head"))
        task.append(-math.log(probabilities(pooled_logits(model, z, "head"))[label]))
        auxiliary.append(
            -math.log(probabilities(pooled_logits(model, extra, "regulariser_head"))[label])
        )
        chosen.append(tuple(n for n, shown in zip(names, mask, strict=True) if shown) in weak)
    size, released = len(task), made.variant == "released"
    mar = (
        sum(chosen) * sum(auxiliary) / size
        if released
        else sum(a for a, c in zip(auxiliary, chosen, strict=True) if c) / size
    )
    distillation = naive_mad(student_maps, teacher_maps, teacher_logits, columns=released)
    return {"task": sum(task) / size, "mad": 2.5 * distillation, "mar": 0.4 * mar}


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("v", [2, 3, 4])
@torch.no_grad()
def test_losses_equal_a_naive_second_implementation(v: int, variant: str) -> None:
    made = case(MMANet, v, mad=2.5, mar=0.4)
    made.variant = variant
    with torch.enable_grad():
        model = made.trained
    assert isinstance(model, MMANet)
    scores = torch.randn(2**v - 1, 23, 5, generator=torch.Generator().manual_seed(v))
    model.distance.zero_()
    for epoch in range(7):
        model.begin_epoch(EpochContext(epoch, 100, model.combinations))
        if epoch < 6:
            model.end_epoch(EpochContext(epoch, 100, model.combinations, scores))
    weak = naive_weak(scores, made.spec.names)
    assert {c.members for c in model.combinations if model.weak[c.bits] > 0} == weak
    found = {name: term.item() for name, term in made.losses(model, made.mixed)[0].items()}
    expected = naive_losses(made, model, made.mixed, weak)
    assert min(expected.values()) > 1e-3
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


@torch.no_grad()
def test_predictions_equal_the_naive_ones_for_every_combination() -> None:
    made = case(MMANet, 3)
    with torch.enable_grad():
        model = made.trained
    for mask in made.masks:
        found = made.logits(model, made.constant(mask))
        for b in range(0, made.size, 5):
            z = bottleneck(model, made.split.inputs, tuple(mask.tolist()), b)
            assert found[b].tolist() == pytest.approx(pooled_logits(model, z, "head"), abs=1e-5)
