"""Evaluation on every combination: encode once, fuse all. C = 2^V - 1 combinations, N samples, K classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from harness.combinations import Combination
from harness.dataset import Split
from harness.method import Method
from harness.metrics import Metric, collapsed


@dataclass(frozen=True)
class Cell:
    """One metric of one combination: its value, on how many samples, and whether one class was predicted for all of them."""

    value: float
    n: int
    collapsed: bool


class NotSeparable(RuntimeError):
    """A method's cached features do not give what its plain forward pass gives."""


@torch.no_grad()
def predict(model: Method, split: Split, batch_size: int, device: torch.device) -> Tensor:
    """Scores of every combination, (C, N, K) float32 on the CPU, in the order of ``model.combinations``.

    Each modality of each sample is encoded once. On the first batch one combination is compared with the plain forward pass;
    they must agree bit for bit (NotSeparable otherwise).
    """
    training = model.training
    model.eval()
    masks = [torch.tensor(combination.mask, device=device) for combination in model.combinations]
    batches = []
    for start in range(0, len(split), batch_size):
        index = torch.arange(start, min(start + batch_size, len(split)))
        inputs = {name: x.to(device) for name, x in split.batch(index)[0].items()}
        cache = model.prepare(model.encode_all(inputs))
        fused = [model.combine(cache, mask.expand(len(index), -1)).logits for mask in masks]
        if start == 0:
            _check_separable(model, inputs, masks[len(masks) // 2], fused[len(masks) // 2])
        batches.append(torch.stack(fused))
    model.train(training)
    return torch.cat(batches, 1).float().cpu()


def _check_separable(model: Method, inputs: Mapping[str, Tensor], mask: Tensor, fused: Tensor) -> None:
    rows = next(iter(inputs.values())).shape[0]
    plain = model(inputs, mask.expand(rows, -1)).logits
    if not torch.equal(plain.nan_to_num(), fused.nan_to_num()):
        raise NotSeparable(
            f"{type(model).__name__}: logits fused from cached features differ from a plain forward pass by up to "
            f"{float((plain - fused).abs().max()):.3g}; encode or prepare depends on more than its own modality"
        )


def score_cells(metric: Metric, scores: Tensor, split: Split, combinations: Sequence[Combination]) -> dict[str, Cell]:
    """The metric of each combination over the samples that have all its modalities; combination name -> cell."""
    target = split.target.cpu()
    cells = {}
    for position, combination in enumerate(combinations):
        has = split.available[:, torch.tensor(combination.mask)].all(1)
        chosen = scores[position][has]
        value = metric.compute(chosen, target[has]) if len(chosen) else float("nan")
        cells[combination.name] = Cell(value, len(chosen), collapsed(chosen))
    return cells


def mean_value(cells: Mapping[str, Cell]) -> float:
    """Plain mean over the combinations that a sample has, from unrounded values."""
    values = [cell.value for cell in cells.values() if cell.n]
    return sum(values) / len(values)


def as_json(cells: Mapping[str, Cell]) -> dict[str, dict[str, Any]]:
    """The cells as plain data; the value of a combination that no sample has is None."""
    return {name: asdict(cell) | ({} if cell.n else {"value": None}) for name, cell in cells.items()}
