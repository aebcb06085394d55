"""Metrics as data: definition, unit and direction, with torchmetrics as the arithmetic of counts.

What a metric is computed from, its evidence, depends on the task. Classification and anti-spoofing:
(n, K) scores and (n,) targets. Segmentation: (n, K, K) integer confusion counts per image, rows =
target, columns = prediction; the target is unused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from harness.errors import unknown

Compute = Callable[[Tensor, Tensor], float]


class Undefined(ValueError):
    """The given samples do not define the metric: one of two classes has no sample, or no pixel has
    a class.
    """


@dataclass(frozen=True)
class Metric:
    """One number from evidence and targets.

    ``fit`` belongs to metrics with a constant that val decides: it receives the evidence and
    targets of val, of the same combination, and returns what to use instead of ``compute``;
    ``compute`` decides the constant on the samples that it is given.
    """

    name: str
    unit: str
    higher_is_better: bool
    definition: str
    compute: Compute
    fit: Callable[[Tensor, Tensor], Compute] | None = None

    def worst(self, values: Mapping[str, float]) -> float:
        """The worst of several values in this metric's direction."""
        return min(values.values()) if self.higher_is_better else max(values.values())


# ---------------------------------------------------------------------- classification


def accuracy(scores: Tensor, target: Tensor) -> float:
    """Share of samples whose largest score is the target's, in percent (micro average; ties go to
    the lower class).

    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 0.0]]), torch.tensor([0, 1, 1, 0]))
    75.0
    """
    from torchmetrics.functional.classification import multiclass_stat_scores

    counts = multiclass_stat_scores(
        scores.argmax(1), target, num_classes=scores.shape[1], average="micro"
    )
    # Integer counts, divided once in double precision: the value does not depend on batch or order.
    return 100.0 * int(counts[0]) / len(target)


def accuracy_macro(scores: Tensor, target: Tensor) -> float:
    """Accuracy within each class that has samples, averaged over these classes, in percent.

    >>> accuracy_macro(torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 0.0]]), torch.tensor([0, 0, 1, 0]))
    33.33333333333333
    """
    from torchmetrics.functional.classification import multiclass_stat_scores

    counts = multiclass_stat_scores(
        scores.argmax(1), target, num_classes=scores.shape[1], average="none"
    ).double()
    found, support = counts[:, 0], counts[:, 4]
    return 100.0 * float((found / support)[support > 0].mean())


# ---------------------------------------------------------------------- anti-spoofing: class 1 is live, class 0 an attack


def acer(scores: Tensor, target: Tensor) -> float:
    """Average classification error rate of anti-spoofing at argmax, in percent; class 1 is live,
    class 0 an attack.

    ACER = (APCER + BPCER) / 2, argmax of two logits being the threshold 0.5 on the softmax. One
    class predicted for everything gives 50. Undefined when one of the two classes has no sample.

    >>> acer(torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 0.0]]), torch.tensor([0, 1, 1, 0]))
    25.0
    """
    return sum(_error_rates(_margin(scores) > 0, target)) / 2


def apcer(scores: Tensor, target: Tensor) -> float:
    """Attacks taken for live over all attacks, at argmax, in percent.

    Pooled over the attack types, as CASIA-SURF's protocol has it; ISO 30107-3 takes the worst type.
    """
    return _error_rates(_margin(scores) > 0, target)[0]


def bpcer(scores: Tensor, target: Tensor) -> float:
    """Live samples rejected over all live ones, at argmax, in percent (some papers call it NPCER)."""
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
    """ACER at the threshold that minimises it on these same samples, in percent; for test the
    threshold comes from val (``fit``).

    >>> acer_val_threshold(torch.tensor([[0.0, 3.0], [0.0, 5.0], [1.0, 0.0]]), torch.tensor([0, 1, 0]))
    0.0
    """
    return _fit_acer(scores, target)(scores, target)


def _fit_acer(scores: Tensor, target: Tensor) -> Compute:
    return acer_at(min_acer_threshold(scores, target))


def tpr_at_fpr(scores: Tensor, target: Tensor, one_in: int) -> float:
    """Largest share of live samples accepted at any threshold that accepts at most one in
    ``one_in`` attacks, in percent.

    The step-wise definition, without interpolation; equal margins are accepted together. Undefined
    when one of the two classes has no sample.

    >>> tpr_at_fpr(torch.tensor([[0.0, 3.0], [0.0, 5.0], [1.0, 0.0]]), torch.tensor([0, 1, 1]), one_in=100)
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


# ---------------------------------------------------------------------- segmentation


def miou(counts: Tensor, _target: Tensor) -> float:
    """Mean intersection over union, in percent: one confusion matrix over all images, mean over the
    classes that occur in targets.

    IoU = TP / (targets + predictions - TP) per class; pixels that are void in the target are in no
    count (ESANet's definition). Undefined when no pixel has a class.

    >>> miou(torch.tensor([[[2, 0, 0], [0, 1, 1], [0, 0, 0]]]), torch.empty(0))
    75.0
    """
    iou, pixels = _iou(counts)
    return 100.0 * float(iou[pixels > 0].mean())


def miou_all(counts: Tensor, _target: Tensor) -> float:
    """As ``miou``, but the mean is over all K classes, 0 for a class in neither targets nor
    predictions, in percent.

    >>> miou_all(torch.tensor([[[2, 0, 0], [0, 1, 1], [0, 0, 0]]]), torch.empty(0))
    50.0
    """
    return 100.0 * float(_iou(counts)[0].mean())


def pixel_accuracy(counts: Tensor, _target: Tensor) -> float:
    """Correct pixels over all pixels that are not void, in percent; Undefined when there is none.

    >>> pixel_accuracy(torch.tensor([[[2, 0, 0], [0, 1, 1], [0, 0, 0]]]), torch.empty(0))
    75.0
    """
    matrix = _pooled(counts)
    return 100.0 * int(matrix.diagonal().sum()) / int(matrix.sum())


def _iou(counts: Tensor) -> tuple[Tensor, Tensor]:
    """IoU (K,) float64, 0 for 0/0, and the pixels (K,) of each class in the targets."""
    matrix = _pooled(counts)
    hits, pixels = matrix.diagonal(), matrix.sum(1)
    union = pixels + matrix.sum(0) - hits
    return hits.double() / union.clamp_min(1), pixels


def _pooled(counts: Tensor) -> Tensor:
    """One (K, K) int64 matrix over the images."""
    matrix = counts.sum(0, dtype=torch.int64)
    if not bool(matrix.any()):
        raise Undefined("it needs a pixel that is not void, and there is none")
    return matrix


# ---------------------------------------------------------------------- all of them

_ALL = (
    Metric("accuracy", "%", True, "correct argmax predictions / all samples, in percent", accuracy),
    Metric(
        "accuracy_macro",
        "%",
        True,
        "accuracy within each class, averaged over the classes, in percent",
        accuracy_macro,
    ),
    Metric(
        "acer",
        "%",
        False,
        "mean of attacks accepted and live samples rejected, at argmax, in percent",
        acer,
    ),
    Metric("apcer", "%", False, "attacks accepted / all attacks, at argmax, in percent", apcer),
    Metric(
        "bpcer",
        "%",
        False,
        "live samples rejected / all live samples, at argmax, in percent",
        bpcer,
    ),
    Metric(
        "acer_val_threshold",
        "%",
        False,
        "ACER at the threshold that minimises it on val, of the same combination, in percent",
        acer_val_threshold,
        _fit_acer,
    ),
    *(
        Metric(
            f"tpr_at_fpr_1e-{exponent}",
            "%",
            True,
            f"largest share of live samples accepted while at most 1e-{exponent} of the attacks are, in percent",
            partial(tpr_at_fpr, one_in=10**exponent),
        )
        for exponent in (2, 3, 4)
    ),
    Metric(
        "miou",
        "%",
        True,
        "mean IoU over the classes in the targets, one confusion matrix over all images, in percent",
        miou,
    ),
    Metric(
        "miou_all",
        "%",
        True,
        "mean IoU over all classes, 0 for a class that never occurs, in percent",
        miou_all,
    ),
    Metric(
        "pixel_accuracy",
        "%",
        True,
        "correct pixels / pixels that are not void, in percent",
        pixel_accuracy,
    ),
)
METRICS = {one.name: one for one in _ALL}

TASK_METRICS = {
    "classification": ("accuracy", "accuracy_macro"),
    "anti_spoofing": (
        *("acer", "apcer", "bpcer", "acer_val_threshold"),
        *("tpr_at_fpr_1e-2", "tpr_at_fpr_1e-3", "tpr_at_fpr_1e-4"),
    ),
    "segmentation": ("miou", "miou_all", "pixel_accuracy"),
}
"""The metrics of each task, its usual primary one first: the one that selects weights and that
tables show.
"""


def metric(name: str) -> Metric:
    """The metric called ``name``; UserError naming the nearest one."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


def secondary(task: str, primary: str) -> tuple[Metric, ...]:
    """The metrics that are reported beside the primary one of a dataset."""
    return tuple(METRICS[name] for name in TASK_METRICS[task] if name != primary)


def collapsed(evidence: Tensor) -> bool:
    """Whether one class is predicted for all of several samples, or for all pixels of a
    segmentation.
    """
    if evidence.dim() == 3:
        predicted = evidence.sum((0, 1))
        return int(predicted.sum()) > 1 and int((predicted > 0).sum()) == 1
    return len(evidence) > 1 and int(torch.unique(evidence.argmax(1)).numel()) == 1
