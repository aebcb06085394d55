"""Evaluation on every combination: encode once, fuse all.

C = 2^V - 1 combinations, N samples, K classes.

Evidence is what metrics are computed from and what the store keeps: scores (C, N, K) float32, or of
a segmentation confusion counts (C, N, K, K) int32 (see segmentation.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.dataset import Split
from harness.errors import TrialFailure
from harness.method import Method
from harness.protocol.combinations import Combination
from harness.protocol.label_maps import VOID
from harness.protocol.segmentation import counted
from harness.training.fusion import Fusion
from harness.training.heartbeat import beat
from harness.training.precision import computing_in, forward_in

NOT_SHARED = (
    "evaluated with a call for each combination: in calls that combinations share its scores were"
    " not the same"
)


@dataclass
class Stopwatch:
    """What evaluation costs: seconds of encoding each modality once and of fusing every
    combination, and of how many samples.

    A GPU is waited for at each reading, so that work is counted where it is done. The first batch,
    which pays for starting up, does not count where there are more.
    """

    device: torch.device
    encode: float = 0.0
    fuse: float = 0.0
    samples: int = 0

    def now(self) -> float:
        """Seconds on a clock that only goes forward."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def restart(self) -> None:
        """Forget what was counted."""
        self.encode, self.fuse, self.samples = 0.0, 0.0, 0


def predict(
    model: Method,
    split: Split,
    batch_size: int,
    device: torch.device,
    precision: str = "float32",
    remarks: list[str] | None = None,
) -> Tensor:
    """The evidence of every combination on the CPU, in the order of ``model.combinations``.

    See ``gather``.
    """
    evidence = gather(model, split, batch_size, device, precision=precision, remarks=remarks)
    return evidence["scores"]


@torch.no_grad()
def gather(
    model: Method,
    split: Split,
    batch_size: int,
    device: torch.device,
    calibration: bool = False,
    watch: Stopwatch | None = None,
    at_once: int | None = None,
    precision: str = "float32",
    remarks: list[str] | None = None,
) -> dict[str, Tensor]:
    """``scores``: the evidence; of a segmentation also ``calibration`` (C, N, 15, 3) if asked for.

    All on the CPU; each array is moved there once, when the split is over.

    Each modality of each sample is encoded once, and every combination fused from that; ``at_once``
    is Fusion's. On the first batch one combination is compared with the plain forward pass; they
    must agree bit for bit (NotSeparable otherwise). A segmentation's logits are counted batch by
    batch and combination by combination; TrialFailure when they are not finite, or when a target is
    neither a class nor void. ``watch`` is set going. ``remarks`` gets a sentence where combinations
    may not share a call.
    """
    watch = watch or Stopwatch(torch.device("cpu"))
    training = model.training
    model.eval()
    fusion = Fusion(model, device, at_once, precision)
    batches: list[dict[str, Tensor]] = []
    for start in range(0, len(split), batch_size):
        beat()
        index = torch.arange(start, min(start + batch_size, len(split)))
        loaded, target = split.batch(index)
        inputs = {name: x.to(device) for name, x in loaded.items()}
        target = target.to(device)
        with computing_in(precision):
            begun = watch.now()
            with forward_in(precision, device):
                cache = model.prepare(model.encode_all(inputs))
            watch.encode += watch.now() - begun
            of_each, looked_at = _fuse_all(fusion, cache, target, calibration, watch)
            if start == 0 and not fusion.check(inputs, cache, looked_at):
                # Again: from here on each combination has a call of its own.
                _remark(remarks)
                of_each, _ = _fuse_all(fusion, cache, target, calibration, watch)
        watch.samples += len(index)
        if start == 0 and len(index) < len(split):
            watch.restart()
        # Per combination (B, ...) -> (C, B, ...).
        batches.append({name: torch.stack([one[name] for one in of_each]) for name in of_each[0]})
    model.train(training)
    whole = {name: torch.cat([batch[name] for batch in batches], 1).cpu() for name in batches[0]}
    return _checked(whole, model.combinations)


def _fuse_all(
    fusion: Fusion, cache: Any, target: Tensor, calibration: bool, watch: Stopwatch
) -> tuple[list[dict[str, Tensor]], Tensor]:
    """The evidence of each combination on a batch, and the logits of the one that is looked at.

    No other logits stay in memory than those of one call.
    """
    evidence: list[dict[str, Tensor]] = []
    looked_at = target
    for call in fusion.calls(cache, len(target)):
        begun = watch.now()
        shared = fusion.logits(cache, call, len(target))
        watch.fuse += watch.now() - begun
        for logits in shared:
            if len(evidence) == fusion.looked_at:
                looked_at = logits
            if logits.dim() == 4:  # of a segmentation
                evidence.append(counted(logits.float(), target, calibration))
            else:
                evidence.append({"scores": logits.float()})
    return evidence, looked_at


def _remark(remarks: list[str] | None) -> None:
    if remarks is not None and NOT_SHARED not in remarks:
        remarks.append(NOT_SHARED)


def _checked(evidence: dict[str, Tensor], combinations: Sequence[Combination]) -> dict[str, Tensor]:
    """The evidence without what it is checked by.

    Non-finite scores of a classification are left to the caller, who sees them.
    """
    if "finite" not in evidence:
        return evidence
    finite, labelled = evidence.pop("finite"), evidence.pop("labelled")  # (C, N) each
    for combination, images in zip(combinations, finite, strict=True):
        if not bool(images.all()):
            broken = f"{int((~images).sum())} of {len(images)} images"
            raise TrialFailure(f"the scores of {combination.name} are not finite on {broken}")
    # Labels are the same in all combinations. A label that is no class has no row to count in.
    counts = evidence["scores"][0].sum((1, 2))
    wrong = int((labelled[0] - counts).sum())
    if wrong:
        raise TrialFailure(
            f"{wrong} pixels have a label that is neither a class nor {VOID}, the label of pixels"
            " without one"
        )
    return evidence
