"""Metrics of anti-spoofing: published counts, score files that others published, scikit-learn and
exhaustive search.
"""

from __future__ import annotations

import csv
import math
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, roc_curve
from torch import Tensor

from harness.dataset import Split
from harness.errors import TrialFailure
from harness.protocol.cells import score_cells
from harness.protocol.combinations import lattice
from harness.protocol.metrics import METRICS, Undefined, collapsed, metric, secondary
from harness.protocol.metrics.anti_spoofing import (
    acer,
    acer_val_threshold,
    apcer,
    bpcer,
    min_acer_threshold,
    tpr_at_fpr,
)


def from_counts(
    live_accepted: int, live_rejected: int, attacks_rejected: int, attacks_accepted: int
) -> tuple[Tensor, Tensor]:
    """Logits and labels with these counts at argmax."""
    predicted = (
        [1] * live_accepted + [0] * live_rejected + [0] * attacks_rejected + [1] * attacks_accepted
    )
    target = [1] * (live_accepted + live_rejected) + [0] * (attacks_rejected + attacks_accepted)
    return torch.eye(2)[torch.tensor(predicted)], torch.tensor(target)


@pytest.mark.parametrize(
    ("counts", "rates"),
    [
        # One run on CASIA-SURF's test split, 57,710 samples: RGB, all three modalities; depth, of
        # which only ACER is given.
        ((16238, 1220, 36436, 3816), (0.094803, 0.069882, 0.082342)),
        ((17416, 42, 39814, 438), (None, None, 0.006644)),
        ((17257, 201, 39092, 1160), (None, None, 0.020166)),
        # Two experiments on its val split, 9,608 samples.
        ((2994, 0, 6499, 115), (0.017387, 0.0, 0.008694)),
        ((2994, 0, 6542, 72), (0.010886, 0.0, 0.005443)),
    ],
)
def test_published_confusion_counts(
    counts: tuple[int, int, int, int], rates: tuple[float | None, ...]
) -> None:
    scores, target = from_counts(*counts)
    for compute, rate in zip((apcer, bpcer, acer), rates, strict=True):
        if rate is not None:
            assert round(compute(scores, target) / 100, 6) == rate


@pytest.mark.parametrize("live", [1, 30, 499])
@pytest.mark.parametrize("seed", range(3))
def test_error_rates_equal_scikit_learns(live: int, seed: int) -> None:
    scores, target = random_case(500, live, seed)
    (tn, fp), (fn, tp) = confusion_matrix(target, scores.argmax(1))
    assert apcer(scores, target) == pytest.approx(100 * fp / (fp + tn), abs=1e-12)
    assert bpcer(scores, target) == pytest.approx(100 * fn / (fn + tp), abs=1e-12)
    assert acer(scores, target) == pytest.approx(
        100 - 100 * balanced_accuracy_score(target, scores.argmax(1)), abs=1e-10
    )


def random_case(n: int, live: int, seed: int, levels: int | None = None) -> tuple[Tensor, Tensor]:
    """Logits that know something of the label.

    With ``levels``, rounded so that many margins are equal.
    """
    generator = torch.Generator().manual_seed(seed)
    target = (torch.arange(n) < live).long()[torch.randperm(n, generator=generator)]
    scores = torch.randn(n, 2, generator=generator)
    scores[:, 1] += 1.5 * target
    return (scores if levels is None else (scores * levels).round() / levels), target


@pytest.mark.parametrize("predicted", [0, 1])
@pytest.mark.parametrize("live", [1, 50, 99])
def test_one_class_for_everything_is_half_wrong_and_never_perfect(
    predicted: int, live: int
) -> None:
    scores, target = torch.eye(2)[predicted].repeat(100, 1), (torch.arange(100) < live).long()
    assert acer(scores, target) == 50.0
    assert acer_val_threshold(scores, target) == 50.0
    assert (apcer(scores, target), bpcer(scores, target)) == (
        100.0 * predicted,
        100.0 * (1 - predicted),
    )
    assert [tpr_at_fpr(scores, target, 10**k) for k in (2, 3, 4)] == [0.0] * 3
    assert collapsed(scores)


def test_equal_logits_are_an_attack() -> None:
    assert bpcer(torch.zeros(2, 2), torch.tensor([0, 1])) == 100.0


NAMES = (
    "acer",
    "apcer",
    "bpcer",
    "acer_val_threshold",
    "tpr_at_fpr_1e-2",
    "tpr_at_fpr_1e-3",
    "tpr_at_fpr_1e-4",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("label", [0, 1])
def test_a_split_without_one_of_the_classes_defines_nothing(name: str, label: int) -> None:
    with pytest.raises(Undefined, match="it needs live samples and attacks, and there are"):
        metric(name).compute(torch.randn(5, 2), torch.full((5,), label))


# ----------------------------------------------------------------- true positives at few false ones


@pytest.mark.parametrize("one_in", [100, 1000, 10000])
@pytest.mark.parametrize(
    ("n", "live", "levels"),
    [(3000, 1000, None), (3000, 1000, 4), (12000, 500, 8), (60, 50, 1), (21000, 10, None)],
)
def test_tpr_at_fpr_equals_scikit_learns_curve(
    one_in: int, n: int, live: int, levels: int | None
) -> None:
    scores, target = random_case(n, live, one_in, levels)
    margin = (scores[:, 1].double() - scores[:, 0].double()).numpy()
    fpr, tpr, _ = roc_curve(target, margin, drop_intermediate=False)
    # False positives as integers: 3 of 300 are one in a hundred, whatever the division gives.
    expected = tpr[np.rint(fpr * (n - live)) * one_in <= n - live].max()
    assert tpr_at_fpr(scores, target, one_in) == pytest.approx(100 * expected, abs=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_tpr_at_fpr_equals_torchmetrics(seed: int) -> None:
    from torchmetrics.functional.classification import binary_sensitivity_at_specificity

    scores, target = random_case(
        2137, 700, seed
    )  # 1437 attacks: no rate that is asked for is hit exactly
    for one_in in (100, 1000, 10000):
        expected, _ = binary_sensitivity_at_specificity(
            scores.double().softmax(1)[:, 1], target, 1 - 1 / one_in
        )
        assert tpr_at_fpr(scores, target, one_in) == pytest.approx(100 * float(expected), abs=1e-4)


def test_tpr_at_fpr_by_hand() -> None:
    # 200 attacks at margins 0 .. 199, so that one in a hundred are two: 199 and 198. Live at 197.5,
    # 198, 198.5, 300.
    margin = torch.cat([torch.arange(200.0), torch.tensor([197.5, 198.0, 198.5, 300.0])])
    scores, target = torch.stack([torch.zeros(204), margin], 1), (torch.arange(204) >= 200).long()
    # At 198 two attacks are accepted; at 197.5 the same two.
    assert tpr_at_fpr(scores, target, 100) == 100.0
    assert tpr_at_fpr(scores, target, 101) == 50.0  # one attack: above 198
    assert tpr_at_fpr(scores, target, 1000) == 25.0  # none: above 199
    assert tpr_at_fpr(scores, target, 1) == 100.0


def test_tpr_does_not_saturate_where_softmax_does() -> None:
    """In float32 the softmax of a margin of 20 and of 25 is 1 in both cases."""
    scores = torch.tensor([[0.0, 25.0], [0.0, 20.0]])
    assert scores.softmax(1)[:, 1].tolist() == [1.0, 1.0]
    assert tpr_at_fpr(scores, torch.tensor([1, 0]), 100) == 100.0


# ---------------------------------------------------------------------- the threshold of val


def exhaustive(scores: Tensor, target: Tensor) -> float:
    """The smallest ACER over all ways to cut the sorted margins."""
    margin = (scores[:, 1].double() - scores[:, 0].double()).tolist()
    label = target.tolist()
    best = 50.0
    for cut in [-math.inf, *margin]:
        attacks = [m > cut for m, t in zip(margin, label, strict=True) if t == 0]
        live = [m <= cut for m, t in zip(margin, label, strict=True) if t == 1]
        best = min(best, 50 * (sum(attacks) / len(attacks) + sum(live) / len(live)))
    return best


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_minimises_acer(seed: int, levels: int | None) -> None:
    scores, target = random_case(60, 25, seed, levels)
    assert acer_val_threshold(scores, target) == pytest.approx(
        exhaustive(scores, target), abs=1e-10
    )
    assert acer_val_threshold(scores, target) <= acer(scores, target)


@pytest.mark.parametrize(
    ("live", "attacks", "threshold"),
    [
        ([3.0, 5.0], [-2.0, -4.0], 0.0),  # argmax is right already
        ([3.0, 5.0], [1.0, -4.0], 2.0),  # in the middle of the gap
        ([-1.0, -2.0], [-5.0, -4.0], -3.0),
        ([-3.0, 3.0], [-3.0, 3.0], 0.0),  # nothing helps
        ([-1.0, 2.0], [-2.0, -0.5], 0.0),  # one error at -1.5, at 0 and at 0.75: argmax stays
        (
            [-2.0, 4.0, 4.0],
            [-4.0, 2.0, -4.0],
            3.0,
        ),  # one error at -3 and at 3, equally near: the higher
        ([5.0, 7.0], [4.0, 6.0], 4.5),  # 4.5 and 6.5 are equal: the nearer to 0
    ],
)
def test_ties_go_to_the_threshold_nearest_to_argmax(
    live: list[float], attacks: list[float], threshold: float
) -> None:
    margin = torch.tensor([*live, *attacks])
    target = torch.tensor([1] * len(live) + [0] * len(attacks))
    assert (
        min_acer_threshold(torch.stack([-margin, torch.zeros_like(margin)], 1), target) == threshold
    )


def test_the_threshold_of_test_comes_from_val_of_the_same_combination() -> None:
    combinations = lattice(("a", "b"))
    scores, target = random_case(40, 20, 0)
    available = torch.ones(40, 2, dtype=torch.bool)
    val_shift, test = torch.tensor([0.0, 3.0, -2.0]), torch.stack([scores] * 3)
    val = test.clone()
    val[:, :, 1] += val_shift[:, None]  # another calibration error for every combination
    split = Split({}, target, available)
    cells = score_cells(metric("acer_val_threshold"), val, split, combinations, (val, split))
    for position, combination in enumerate(combinations):
        assert cells[combination.name].value == pytest.approx(exhaustive(scores, target), abs=1e-10)
        threshold = min_acer_threshold(val[position], target)
        accepted = (scores[:, 1].double() - scores[:, 0].double()) > threshold
        expected = 100 - 100 * balanced_accuracy_score(target, accepted)
        found = score_cells(metric("acer_val_threshold"), test, split, combinations, (val, split))[
            combination.name
        ]
        assert found.value == pytest.approx(expected, abs=1e-10)


def test_what_is_not_defined_is_an_error_or_not_a_number() -> None:
    combinations, scores = lattice(("a", "b")), torch.randn(3, 6, 2)
    split = Split({}, torch.tensor([0, 1, 0, 1, 0, 1]), torch.ones(6, 2, dtype=torch.bool))
    split.available[split.target == 1, 1] = False  # no live sample has b
    with pytest.raises(
        TrialFailure,
        match="acer is not defined for b: it needs live samples and attacks, and there are 0 and 3",
    ):
        score_cells(metric("acer"), scores, split, combinations)
    cells = score_cells(metric("acer"), scores, split, combinations, strict=False)
    assert [(cell.n, math.isnan(cell.value)) for cell in cells.values()] == [
        (6, False),
        (3, True),
        (3, True),
    ]
    assert cells["a"].value == acer(scores[0], split.target)


def test_the_metrics_of_the_task() -> None:
    assert tuple(m.name for m in secondary("anti_spoofing", "acer")) == NAMES[1:]
    own = [m for m in METRICS.values() if m.task == "anti_spoofing"]
    assert {m.name for m in own if not m.higher_is_better} == set(NAMES[:4])
    assert {m.unit for m in own} == {"%"}


# ---------------------------------------------------------------- score files that others published

FOLDER = os.environ.get("HARNESS_ACCEPTANCE")
"""A copy of the folder ``data`` of the published repository
AlexanderParkin/ChaLearn_liveness_challenge: ``lists``, ``opts``.
"""


@pytest.mark.skipif(
    FOLDER is None, reason="HARNESS_ACCEPTANCE names no folder with published lists and scores"
)
@pytest.mark.parametrize(
    ("experiment", "wrong", "rates"),
    [
        ("exp1_2stage_seed1", (115, 0), (0.017387, 0.0, 0.008694, 1.0, 1.0, 0.998664)),
        ("exp2_seed1", (72, 0), (0.010886, 0.0, 0.005443, 1.0, 1.0, 0.986974)),
    ],
)
def test_published_scores(
    experiment: str, wrong: tuple[int, int], rates: tuple[float, ...]
) -> None:
    folder = Path(str(FOLDER))
    target = torch.tensor(
        [int(row["label"]) for row in read_csv(folder / "lists" / "phase1_list.txt")]
    )
    folds = [
        read_csv(folder / "opts" / experiment / f"fold{n}" / "tta_epoch31_val_score.txt")
        for n in (1, 2, 3)
    ]
    live = np.mean(
        [
            [np.mean([float(row["crop0"]), float(row["crop0_hflip"])]) for row in fold]
            for fold in folds
        ],
        axis=0,
    )
    scores = torch.tensor(np.stack([1 - live, live], 1))
    accepted = scores.argmax(1) == 1
    assert (int((accepted & (target == 0)).sum()), int((~accepted & (target == 1)).sum())) == wrong
    computed = [apcer, bpcer, acer, *(partial(tpr_at_fpr, one_in=10**k) for k in (2, 3, 4))]
    assert [round(compute(scores, target) / 100, 6) for compute in computed] == list(rates)


def read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))
