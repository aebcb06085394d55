"""Evaluating a trained model with one modality corrupted: only what changed is encoded again.

Every modality of every sample is encoded once as it is. For each condition the corrupted modality
is encoded again, and fused with the kept features of the others on the combinations that contain
it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from harness.data.raw import Raw
from harness.dataset import Split
from harness.errors import TrialFailure
from harness.method import Features, Method
from harness.protocol.segmentation import counted
from harness.robust.catalogue import CLEAN, Condition, corruption_of
from harness.robust.definition import corrupt
from harness.robust.evidence import combinations_with
from harness.training.precision import computing_in, forward_in

FEATURES_KEPT = 1 << 30
"""Bytes of features that stay in memory; where there are more, they are computed once for each
modality instead of once.
"""

INPUTS_KEPT = 1 << 29
"""Bytes of corrupted inputs that stay in memory for the next trial."""


@dataclass
class Inputs:
    """What encoders receive of a split, as it is and corrupted; the same for every trial.

    ``raws`` are the split's modalities in the dataset's order.
    """

    split: Split
    raws: Mapping[str, Raw]
    limit: int = INPUTS_KEPT
    _kept: dict[tuple[Condition, int, int], Tensor] = field(default_factory=dict)
    _bytes: int = 0

    def __post_init__(self) -> None:
        available = self.split.available
        self._having = {
            name: available[:, at].nonzero().squeeze(1).tolist()
            for at, name in enumerate(self.raws)
        }

    def clean(self, index: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Every modality of the samples ``index`` (B,) and their targets.

        Raw values make the whole way to what encoders receive, so that nothing but the corruption
        differs between severity 0 and the others.
        """
        loaded, target = self.split.batch(index)
        return {name: self._through(name, index, loaded[name], None) for name in self.raws}, target

    def corrupted(self, condition: Condition, index: Tensor) -> Tensor:
        """The corrupted modality (B, C, H, W) of the samples ``index``."""
        key = condition, int(index[0]), len(index)
        if key in self._kept:
            return self._kept[key]
        loaded = self.split.batch(index)[0][condition.modality]
        found = self._through(condition.modality, index, loaded, condition)
        size = found.numel() * found.element_size()
        if self._bytes + size <= self.limit:
            self._kept[key] = found
            self._bytes += size
        return found

    def _through(
        self, name: str, index: Tensor, loaded: Tensor, condition: Condition | None
    ) -> Tensor:
        """A modality by way of its raw values; what stands for those that lack it stays."""
        raw, having = self.raws[name], self._having[name]
        position = list(self.raws).index(name)
        has = self.split.available[index, position].nonzero().squeeze(1)
        if not len(has):
            return loaded
        numbers = index[has].tolist()
        if condition is None:
            values = [raw.read(n) for n in numbers]
        else:
            corruption = corruption_of(condition)
            assert corruption is not None
            values = [corrupt(corruption, condition.level, raw, n, name, having) for n in numbers]
        received = raw.receive(values).to(loaded.device)
        if len(has) == len(index):
            return received
        return loaded.index_copy(0, has.to(loaded.device), received)


@dataclass(frozen=True)
class _Batch:
    """Some samples with the features of all modalities as they are."""

    index: Tensor
    target: Tensor
    features: Sequence[Features]


@torch.no_grad()
def evaluate(
    model: Method,
    inputs: Inputs,
    wanted: Sequence[Condition],
    batch_size: int,
    device: torch.device,
    done: Callable[[Condition, Tensor, float], None],
    step: Callable[[], None] = lambda: None,
    precision: str = "float32",
) -> None:
    """Hand the evidence (C, N, ...) of each condition to ``done``, with the seconds that it took.

    ``precision`` is that of the trial's evaluation. ``step`` is called for each condition and
    batch. TrialFailure where a score is not finite.
    """
    model.eval()
    clean = _Clean(model, inputs, batch_size, device, precision)
    for group in clean.groups(wanted):
        parts: dict[Condition, list[Tensor]] = {condition: [] for condition in group}
        seconds = dict.fromkeys(group, 0.0)
        for batch in clean.batches():
            for condition in group:
                begun = time.perf_counter()
                parts[condition].append(_fused(clean, condition, batch))
                seconds[condition] += time.perf_counter() - begun
                step()
        for condition in group:
            done(condition, torch.cat(parts[condition], 1), seconds[condition])


class _Clean:
    """Batches with clean features: kept where they fit into memory."""

    def __init__(
        self,
        model: Method,
        inputs: Inputs,
        batch_size: int,
        device: torch.device,
        precision: str,
    ) -> None:
        self.model, self.inputs, self.device, self.precision = model, inputs, device, precision
        samples = torch.arange(len(inputs.split))
        self.indices = torch.split(samples, batch_size)
        self.kept = [self._encoded(self.indices[0])]
        self.fits = _bytes(self.kept[0].features) * len(self.indices) <= FEATURES_KEPT

    def groups(self, wanted: Sequence[Condition]) -> list[list[Condition]]:
        """What is evaluated in one pass over the samples: single conditions, or a modality's."""
        if self.fits:
            return [[condition] for condition in wanted]
        of_modality: dict[str, list[Condition]] = {}
        for condition in wanted:
            of_modality.setdefault(condition.modality, []).append(condition)
        return list(of_modality.values())

    def batches(self) -> Iterator[_Batch]:
        """All samples, in the batches in which trials are evaluated."""
        for at, index in enumerate(self.indices):
            if at < len(self.kept):
                yield self.kept[at]
                continue
            batch = self._encoded(index)
            if self.fits:
                self.kept.append(batch)
            yield batch

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Around forward passes: the arithmetic of the trial's evaluation."""
        with computing_in(self.precision), forward_in(self.precision, self.device):
            yield

    def _encoded(self, index: Tensor) -> _Batch:
        loaded, target = self.inputs.clean(index)
        received = {name: x.to(self.device) for name, x in loaded.items()}
        with self.forward():
            features = self.model.encode_all(received)
        return _Batch(index, target.to(self.device), features)


def _bytes(features: Any) -> int:
    tensors = [leaf for leaf in tree_leaves(features) if isinstance(leaf, Tensor)]
    return sum(x.numel() * x.element_size() for x in tensors)


def _fused(clean: _Clean, condition: Condition, batch: _Batch) -> Tensor:
    """The evidence (C, B, ...) of one batch on the CPU."""
    model, device, features = clean.model, clean.device, list(batch.features)
    if condition != CLEAN:
        x = clean.inputs.corrupted(condition, batch.index).to(device)
        at = model.spec.names.index(condition.modality)
        with clean.forward():
            features[at] = model.encode(condition.modality, x)
    with clean.forward():
        cache = model.prepare(features)
    found = []
    for _, combination in combinations_with(model.combinations, condition):
        mask = torch.tensor(combination.mask, device=device)
        with clean.forward():
            logits = model.combine(cache, mask.expand(len(batch.index), -1)).logits.float()
        logits = model.predicted(logits)
        if not bool(logits.isfinite().all()):
            raise TrialFailure(
                f"scores of {combination.name} are not finite with {_named(condition)}"
            )
        dense = logits.dim() == 4
        found.append(counted(logits, batch.target)["scores"] if dense else logits)
    return torch.stack(found).cpu()


def _named(condition: Condition) -> str:
    if condition == CLEAN:
        return "nothing corrupted"
    return f"{condition.modality} under {condition.corruption} at severity {condition.severity}"
