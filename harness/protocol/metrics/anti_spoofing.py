"""Metrics of anti-spoofing, the primary one first; class 1 is live, class 0 an attack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from harness.protocol.metrics.definition import (
    Array,
    Compute,
    Influence,
    Metric,
    Undefined,
    class_wise,
)

HALVES = {0: 0.5, 1: 0.5}
"""ACER is the mean of both error rates."""


def acer(scores: Tensor, target: Tensor) -> float:
    """Average classification error rate of anti-spoofing at argmax, in percent.

    Class 1 is live, class 0 an attack.

    ACER = (APCER + BPCER) / 2, argmax of two logits being the threshold 0.5 on the softmax. One
    class predicted for everything gives 50. Undefined when one of the two classes has no sample.

    >>> acer(torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 0.0]]),
    ... torch.tensor([0, 1, 1, 0]))
    25.0
    """
    return sum(_error_rates(_margin(scores) > 0, target)) / 2


def apcer(scores: Tensor, target: Tensor) -> float:
    """Attacks taken for live over all attacks, at argmax, in percent.

    Pooled over the attack types, as CASIA-SURF's protocol has it; ISO 30107-3 takes the worst type.
    """
    return _error_rates(_margin(scores) > 0, target)[0]


def bpcer(scores: Tensor, target: Tensor) -> float:
    """Live samples rejected over all live ones, at argmax, in percent (some papers call it
    NPCER).
    """
    return _error_rates(_margin(scores) > 0, target)[1]


def acer_at(threshold: float) -> Compute:
    """ACER where a sample is taken for live if its margin, live minus attack logit, is above the
    threshold.
    """
    return lambda scores, target: sum(_error_rates(_margin(scores) > threshold, target)) / 2


def min_acer_threshold(scores: Tensor, target: Tensor) -> float:
    """The margin, live minus attack logit, above which accepting minimises ACER on these samples.

    Candidates are 0 (argmax), the midpoints between neighbouring distinct margins, and accepting
    all or nothing. Of equal ones the nearest to 0 is taken, then the higher.
    """
    margin = _margin(scores)
    live, attack = (margin[target == label].sort().values for label in (1, 0))
    _require_both(len(live), len(attack))
    distinct = torch.unique(margin)
    edges = margin.new_tensor([-torch.inf, torch.inf, 0.0])
    candidates = torch.cat([edges, (distinct[1:] + distinct[:-1]) / 2])
    accepted = len(attack) - torch.searchsorted(attack, candidates, right=True)
    rejected = torch.searchsorted(live, candidates, right=True)
    # ACER times 2 * live * attacks, in integers: ties are exact.
    error = accepted * len(live) + rejected * len(attack)
    best = candidates[error == error.min()].tolist()
    return float(min(best, key=lambda threshold: (abs(threshold), -threshold)))


def acer_val_threshold(scores: Tensor, target: Tensor) -> float:
    """ACER at the threshold that minimises it on these same samples, in percent.

    For test the threshold comes from val (``fit``).

    >>> acer_val_threshold(torch.tensor([[0.0, 3.0], [0.0, 5.0], [1.0, 0.0]]),
    ... torch.tensor([0, 1, 0]))
    0.0
    """
    return acer_at(min_acer_threshold(scores, target))(scores, target)


def _fit_acer(scores: Tensor, target: Tensor) -> Metric:
    """ACER at the threshold that is best on these samples."""
    threshold = min_acer_threshold(scores, target)
    influence = _rates(HALVES, threshold)
    return replace(_TUNED, compute=acer_at(threshold), influence=influence, fit=None)


def tpr_at_fpr(scores: Tensor, target: Tensor, one_in: int) -> float:
    """Largest share of live samples accepted at any threshold that accepts at most one in
    ``one_in`` attacks, in percent.

    The step-wise definition, without interpolation; equal margins are accepted together. Undefined
    when one of the two classes has no sample.

    >>> tpr_at_fpr(torch.tensor([[0.0, 3.0], [0.0, 5.0], [1.0, 0.0]]),
    ... torch.tensor([0, 1, 1]), one_in=100)
    50.0
    """
    margin = _margin(scores)
    live, attack = margin[target == 1], margin[target == 0]
    _require_both(len(live), len(attack))
    allowed = len(attack) // one_in
    # Above the first attack that is too many.
    strictest = (
        attack.kthvalue(len(attack) - allowed).values if allowed < len(attack) else -torch.inf
    )
    return 100.0 * int((live > strictest).sum()) / len(live)


def _margin(scores: Tensor) -> Tensor:
    """Live minus attack logit, (n,) float64: orders samples as softmax does, without its saturation
    at 1.
    """
    return scores[:, 1].double() - scores[:, 0].double()


def _error_rates(accepted: Tensor, target: Tensor) -> tuple[float, float]:
    """(APCER, BPCER) in percent."""
    from torchmetrics.functional.classification import binary_stat_scores

    tp, fp, tn, fn, _ = binary_stat_scores(accepted.long(), target).tolist()
    _require_both(tp + fn, fp + tn)
    return 100.0 * fp / (fp + tn), 100.0 * fn / (fn + tp)


def _require_both(live: int, attacks: int) -> None:
    if live == 0 or attacks == 0:
        raise Undefined(f"it needs live samples and attacks, and there are {live} and {attacks}")


def _rates(weights: Mapping[int, float], threshold: float = 0.0) -> Influence:
    """Error rates of attacks (0) and live samples (1), weighted.

    Accepted where the margin is above the threshold.
    """

    def influence(scores: Tensor, target: Tensor) -> Array:
        accepted = scores[:, 1].double() - scores[:, 0].double() > threshold
        wrong = 100.0 * (accepted != (target == 1)).double().numpy()
        return class_wise(wrong, target.numpy(), weights)

    return influence


def _tuned_rates(scores: Tensor, target: Tensor) -> Array:
    return _rates(HALVES, min_acer_threshold(scores, target))(scores, target)


_TUNED = Metric(
    "acer_val_threshold",
    "anti_spoofing",
    higher_is_better=False,
    definition=(
        "ACER at the threshold that minimises it on val, of the same combination, in percent"
    ),
    compute=acer_val_threshold,
    influence=_tuned_rates,
    fit=_fit_acer,
)

METRICS = (
    Metric(
        "acer",
        "anti_spoofing",
        higher_is_better=False,
        definition="mean of attacks accepted and live samples rejected, at argmax, in percent",
        compute=acer,
        influence=_rates(HALVES),
    ),
    Metric(
        "apcer",
        "anti_spoofing",
        higher_is_better=False,
        definition="attacks accepted / all attacks, at argmax, in percent",
        compute=apcer,
        influence=_rates({0: 1.0}),
    ),
    Metric(
        "bpcer",
        "anti_spoofing",
        higher_is_better=False,
        definition="live samples rejected / all live samples, at argmax, in percent",
        compute=bpcer,
        influence=_rates({1: 1.0}),
    ),
    _TUNED,
    *(
        Metric(
            f"tpr_at_fpr_1e-{exponent}",
            "anti_spoofing",
            higher_is_better=True,
            definition=(
                f"largest share of live samples accepted while at most 1e-{exponent} of the "
                "attacks are, in percent"
            ),
            compute=partial(tpr_at_fpr, one_in=10**exponent),
        )
        for exponent in (2, 3, 4)
    ),
)
