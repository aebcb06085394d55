"""Metrics of regression, the primary one first. Labels are numbers, predictions (n, 1).

Two-class accuracy is what the literature on sentiment reports beside the error, of labels whose
sign means something (CMU-MOSI and CMU-MOSEI: -3 to 3). It has two definitions, which differ in what
a label of 0 is, and MMSA (Yu et al., AAAI 2021) reports both.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.protocol.metrics.definition import Array, Metric, Undefined

UNIT = "label units"


def mae(predicted: Tensor, target: Tensor) -> float:
    """Mean absolute error.

    >>> mae(torch.tensor([[1.0], [2.0]]), torch.tensor([1.5, 4.0]))
    1.25
    """
    return float(np.abs(_errors(predicted, target)).mean())


def rmse(predicted: Tensor, target: Tensor) -> float:
    """Root of the mean squared error.

    >>> rmse(torch.tensor([[1.0], [2.0]]), torch.tensor([4.0, 6.0]))
    3.5355339059327378
    """
    return float(np.sqrt(np.square(_errors(predicted, target)).mean()))


def correlation(predicted: Tensor, target: Tensor) -> float:
    """Pearson's correlation of predictions and labels; Undefined where either is constant.

    >>> round(correlation(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([2.0, 4.0, 8.0])), 12)
    1.0
    """
    x, y = _standardised(predicted, target)
    return float((x * y).mean())


def accuracy_nonnegative(predicted: Tensor, target: Tensor) -> float:
    """Two-class accuracy negative against non-negative, in percent: 0 is non-negative, and every
    sample counts (Zadeh et al., EMNLP 2017, and those before).

    Undefined unless both are among the labels.

    >>> accuracy_nonnegative(torch.tensor([[-1.0], [0.0], [-0.1]]), torch.tensor([-2.0, 0.0, 0.0]))
    66.66666666666667
    """
    return float(_same_side(predicted, target)[0].mean())


def accuracy_positive(predicted: Tensor, target: Tensor) -> float:
    """Two-class accuracy negative against positive, in percent: samples whose label is 0 do not
    count, and a prediction of 0 is negative (Tsai et al., ACL 2019, and their released code).

    Undefined unless both are among the labels.

    >>> accuracy_positive(torch.tensor([[-1.0], [0.0], [0.2]]), torch.tensor([-2.0, 3.0, 0.0]))
    50.0
    """
    hits, counted = _same_sign(predicted, target)
    return float(hits[counted].mean())


def _errors(predicted: Tensor, target: Tensor) -> Array:
    """Prediction less label, (n,) float64."""
    return np.asarray((predicted[:, 0].double() - target.double()).numpy())


def _standardised(predicted: Tensor, target: Tensor) -> tuple[Array, Array]:
    """Predictions and labels with mean 0 and (population) deviation 1, (n,) float64 each."""
    found = []
    for what, values in (("the prediction", predicted[:, 0]), ("the label", target)):
        x = values.double().numpy()
        if len(x) < 2 or x.min() == x.max():
            raise Undefined(f"{what} is the same for all samples")
        found.append((x - x.mean()) / x.std())
    return found[0], found[1]


def _same_side(predicted: Tensor, target: Tensor) -> tuple[Array, Array]:
    """Hits (n,) in percent, and that all samples count."""
    negative = target < 0
    if not bool(negative.any()) or bool(negative.all()):
        raise Undefined("it needs labels below 0 and others")
    hits = 100.0 * torch.eq(predicted[:, 0] < 0, negative).double().numpy()
    return hits, np.ones(len(hits), dtype=bool)


def _same_sign(predicted: Tensor, target: Tensor) -> tuple[Array, Array]:
    """Hits (n,) in percent, and which samples count."""
    if not bool((target < 0).any()) or not bool((target > 0).any()):
        raise Undefined("it needs labels below and above 0")
    hits = 100.0 * torch.eq(predicted[:, 0] > 0, target > 0).double().numpy()
    return hits, np.asarray((target != 0).numpy())


# ---------------------------------------------------------------------- values per sample


def _absolute(predicted: Tensor, target: Tensor) -> Array:
    return np.abs(_errors(predicted, target))


def _root(predicted: Tensor, target: Tensor) -> Array:
    """theta + (e^2 - theta^2) / (2 theta): the influence function of the root of a mean."""
    squares = np.square(_errors(predicted, target))
    value = np.sqrt(squares.mean())
    return np.asarray(
        value + (squares - value**2) / (2 * value) if value else np.zeros_like(squares)
    )


def _product(predicted: Tensor, target: Tensor) -> Array:
    """r + x y - r (x^2 + y^2) / 2 of standardised x and y (Devlin et al., Biometrika 62, 1975)."""
    x, y = _standardised(predicted, target)
    value = (x * y).mean()
    return np.asarray(value + x * y - value * (x**2 + y**2) / 2)


def _hits(predicted: Tensor, target: Tensor) -> Array:
    return _same_side(predicted, target)[0]


def _counted_hits(predicted: Tensor, target: Tensor) -> Array:
    """A mean over the samples that count, as a mean over all: theta + n / m (hit - theta)."""
    hits, counted = _same_sign(predicted, target)
    value = hits[counted].mean()
    return np.asarray(value + np.where(counted, len(hits) / counted.sum() * (hits - value), 0.0))


METRICS = (
    Metric(
        "mae",
        "regression",
        higher_is_better=False,
        definition="mean absolute error, in the labels' unit",
        compute=mae,
        influence=_absolute,
        unit=UNIT,
        decimals=3,
    ),
    Metric(
        "rmse",
        "regression",
        higher_is_better=False,
        definition="root of the mean squared error, in the labels' unit",
        compute=rmse,
        influence=_root,
        unit=UNIT,
        decimals=3,
    ),
    Metric(
        "correlation",
        "regression",
        higher_is_better=True,
        definition="Pearson's correlation of predictions and labels",
        compute=correlation,
        influence=_product,
        unit="",
        decimals=3,
    ),
    Metric(
        "accuracy_nonnegative",
        "regression",
        higher_is_better=True,
        definition="same side of 0 as the label, negative or non-negative, in percent",
        compute=accuracy_nonnegative,
        influence=_hits,
    ),
    Metric(
        "accuracy_positive",
        "regression",
        higher_is_better=True,
        definition="same sign as the label, over the labels that are not 0, in percent",
        compute=accuracy_positive,
        influence=_counted_hits,
    ),
)
