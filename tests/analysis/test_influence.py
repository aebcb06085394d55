"""Values per sample: their mean is the recorded metric, and their spread the textbook variance of
its kind.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.analysis.statistics.influence import sample_values
from harness.dataset import Split
from harness.errors import UserError
from harness.protocol.cells import score_cells
from harness.protocol.combinations import lattice
from harness.protocol.metrics import METRICS

LATTICE = lattice(["a", "b"])
N = 40


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def classification(classes: int, missing: bool = False, seed: int = 0) -> tuple[Tensor, Split]:
    noise = random(seed)
    target = torch.arange(N) % classes
    scores = torch.randn(3, N, classes, generator=noise) + torch.nn.functional.one_hot(
        target, classes
    )
    available = torch.ones(N, 2, dtype=torch.bool)
    if missing:
        available[:13, 0], available[30:, 1] = False, False
    return scores, Split({}, target, available)


def segmentation(missing: bool = False) -> tuple[Tensor, Split]:
    counts = torch.randint(0, 9, (3, N, 4, 4), generator=random(3), dtype=torch.int32)
    counts[:, :, 3] = 0  # a class that no target has
    available = torch.ones(N, 2, dtype=torch.bool)
    available[:7, 1] = not missing
    return counts, Split({}, torch.empty(0), available)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "accuracy",
        "accuracy_macro",
        "acer",
        "apcer",
        "bpcer",
        "acer_val_threshold",
        "miou",
        "miou_all",
        "pixel_accuracy",
    ],
)
def test_the_mean_is_what_the_record_has(name: str, missing: bool) -> None:
    segments = name in {"miou", "miou_all", "pixel_accuracy"}
    classes = 2 if "cer" in name else 3
    scores, split = segmentation(missing) if segments else classification(classes, missing)
    val = None if segments else classification(classes, missing, seed=5)
    values = sample_values(METRICS[name], scores, split, LATTICE, val)
    cells = score_cells(METRICS[name], scores, split, LATTICE, val)
    assert values.shape == (3, N)
    assert values.mean(1) == pytest.approx([cells[c.name].value for c in LATTICE], abs=1e-10)


def test_the_variance_of_accuracy_is_binomial() -> None:
    scores, split = classification(3)
    values = sample_values(METRICS["accuracy"], scores, split, LATTICE)
    share = values.mean(1) / 100
    assert values.var(1) / N == pytest.approx(1e4 * share * (1 - share) / N)


def test_the_variance_of_acer_is_that_of_two_independent_rates() -> None:
    scores, split = classification(2)
    wrong = (scores.argmax(2) != split.target).numpy()
    live = split.target.numpy() == 1
    rates = [(wrong[:, group].mean(1), group.sum()) for group in (live, ~live)]
    expected = sum(50**2 * rate * (1 - rate) / count for rate, count in rates)
    values = sample_values(METRICS["acer"], scores, split, LATTICE)
    assert values.var(1) / N == pytest.approx(expected)


def test_the_variance_is_that_of_the_samples_that_have_the_modalities() -> None:
    scores, split = classification(3, missing=True)
    values = sample_values(METRICS["accuracy"], scores, split, LATTICE)
    for position, has in enumerate(
        [split.available[:, 0], split.available[:, 1], split.available.all(1)]
    ):
        n = int(has.sum())
        share = float((scores[position].argmax(1) == split.target)[has].double().mean())
        assert n < N
        assert values[position].var() / N == pytest.approx(1e4 * share * (1 - share) / n)


def test_mean_iou_has_the_jackknife_of_images_left_out_one_by_one() -> None:
    counts, split = segmentation()
    counts[0, 5, 2] = 400  # one image that matters
    values = sample_values(METRICS["miou"], counts, split, LATTICE)
    for position in range(3):
        whole = METRICS["miou"].compute(counts[position], split.target)
        without = [
            METRICS["miou"].compute(
                torch.cat([counts[position, :i], counts[position, i + 1 :]]), split.target
            )
            for i in range(N)
        ]
        variance = (N - 1) / N * sum((one - np.mean(without)) ** 2 for one in without)
        assert values[position].var(ddof=1) / N == pytest.approx(variance)
        assert np.argsort(values[position]).tolist() == np.argsort(-np.array(without)).tolist()
        assert values[position].mean() == pytest.approx(whole)


def test_pixel_accuracy_is_a_ratio_of_sums() -> None:
    counts = torch.tensor(
        [[[[3, 1], [0, 0]], [[1, 1], [0, 2]]]], dtype=torch.int32
    )  # 3 of 4 and 3 of 4 right: no spread
    split = Split({}, torch.empty(0), torch.ones(2, 1, dtype=torch.bool))
    assert sample_values(METRICS["pixel_accuracy"], counts, split, lattice(["a"])).tolist() == [
        [75.0, 75.0]
    ]
    counts[0, 1] = torch.tensor(
        [[1, 3], [3, 5]]
    )  # 3 of 4, 6 of 12: 9 of 16 = 56.25 %; 2 (3 - 2.25) / 16 = 9.375 %
    values = sample_values(METRICS["pixel_accuracy"], counts, split, lattice(["a"]))
    assert values[0] == pytest.approx([56.25 + 9.375, 56.25 - 9.375])


def test_the_threshold_of_val_decides_on_test() -> None:
    margin = torch.tensor([-1.0, 0.5, 1.5, 3.0])
    scores = torch.stack([torch.zeros(4), margin], 1)[None]
    everything = torch.ones(4, 1, dtype=torch.bool)
    test, val = (
        Split({}, torch.tensor(labels), everything) for labels in ([0, 1, 1, 0], [0, 0, 1, 1])
    )
    values = sample_values(
        METRICS["acer_val_threshold"], scores, test, lattice(["a"]), (scores, val)
    )
    # val accepts above 1: on test the live sample at 0.5 is rejected and the attack at 3 accepted,
    # half of each class.
    assert values.tolist() == [[0.0, 100.0, 0.0, 100.0]]


def test_a_combination_without_samples_is_nan() -> None:
    scores, split = classification(3)
    split.available[:, 1] = False
    values = sample_values(METRICS["accuracy"], scores, split, LATTICE)
    assert np.isnan(values).all(1).tolist() == [False, True, True]


def test_a_quantile_has_no_values_per_sample() -> None:
    with pytest.raises(UserError, match=r"tpr_at_fpr_1e-2 is not known sample by sample.*accuracy"):
        sample_values(METRICS["tpr_at_fpr_1e-2"], *classification(2), LATTICE)
