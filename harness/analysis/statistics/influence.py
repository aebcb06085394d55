"""Values per sample whose mean is a metric and whose spread is its sampling noise.

Statistics resample and sum them. C combinations, N samples; a metric says how its values are made.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from harness.dataset import Split
from harness.errors import UserError
from harness.protocol.combinations import Combination
from harness.protocol.metrics import METRICS, Metric
from harness.protocol.metrics.definition import Array, Influence


def sample_values(
    metric: Metric,
    scores: Tensor,
    split: Split,
    combinations: Sequence[Combination],
    val: tuple[Tensor, Split] | None = None,
) -> Array:
    """Values (C, N) float64 whose mean over n is the metric of each combination.

    A combination that no sample has is NaN.

    A sample that lacks a modality of a combination has the combination's metric as its value, and
    the others are spread by N / n, so that the mean stays and the spread is that of n samples.
    UserError for a metric whose noise is not known sample by sample.
    """
    values = np.full(scores.shape[:2], np.nan)
    for position, combination in enumerate(combinations):
        has = _having(split, combination)
        if not bool(has.any()):
            continue
        tuning = None
        if val is not None:
            val_scores, val_split = val
            val_has = _having(val_split, combination)
            tuning = val_scores[position][val_has], _targets(val_split, val_has)
        influence = _influence(metric.fitted(tuning))
        of_scored = influence(scores[position][has], _targets(split, has))
        values[position] = _spread(of_scored, has.numpy())
    return values


def _having(split: Split, combination: Combination) -> Tensor:
    """(N,) bool: the samples that have every modality of a combination."""
    return split.available[:, torch.tensor(combination.mask)].all(1)


def _targets(split: Split, has: Tensor) -> Tensor:
    """The targets of some samples; of a segmentation none, whose scores are counts."""
    target = split.target.cpu()
    return target[has] if len(target) else target


def _spread(values: Array, has: Array) -> Array:
    """The values (n,) of the samples that count, as values (N,) of all of them."""
    mean = values.mean()
    everywhere = np.full(len(has), mean)
    everywhere[has] += len(has) / len(values) * (values - mean)
    return everywhere


def _influence(metric: Metric) -> Influence:
    if metric.influence is None:
        known = ", ".join(name for name, other in METRICS.items() if other.influence is not None)
        raise UserError(
            f"the sampling noise of {metric.name} is not known sample by sample, so no interval "
            f"can be given; choose a primary metric among {known}"
        )
    return metric.influence
