"""What the store's evidence still says after training: recorded cells computed again, and metrics
beside the primary one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness.dataset import DataSpec, Split
from harness.protocol.cells import Cell, as_json, score_cells
from harness.protocol.combinations import Combination
from harness.protocol.metrics import Metric, metric, secondary
from harness.store import EVIDENCE, VAL_EVIDENCE, Json, TrialDirectory, file_sha256

EVIDENCE_SPLITS = ("val", "test")
"""The splits whose evidence is kept: that of the selected weights."""


@dataclass(frozen=True)
class Evidence:
    """The evidence (C, N, ...) of one finished trial, by split, and what each sample is and has."""

    scores: dict[str, Tensor]
    splits: dict[str, Split]
    groups: dict[str, Tensor] = field(default_factory=dict)
    """Split -> the number (N,) of each sample's group, where groups were recorded."""

    def cells(
        self, what: Metric, split: str, combinations: Sequence[Combination], strict: bool = True
    ) -> dict[str, Cell]:
        """A metric's cells on val or test, as ``score_cells`` gives them.

        A constant that val decides comes from val.
        """
        val = self.scores["val"], self.splits["val"]
        return score_cells(what, self.scores[split], self.splits[split], combinations, val, strict)


def stored_evidence(trial: TrialDirectory, splits: Sequence[str] = EVIDENCE_SPLITS) -> Evidence:
    """The evidence that a finished trial left, or one of which only val was asked for."""
    arrays = {name: torch.from_numpy(array) for name, array in trial.scores(_file(splits)).items()}
    nothing = torch.empty(0)
    return Evidence(
        {split: arrays[split] for split in splits},
        {
            split: Split({}, arrays.get(f"{split}_target", nothing), arrays[f"{split}_available"])
            for split in splits
        },
        {
            split: arrays[f"{split}_groups"].long()
            for split in splits
            if f"{split}_groups" in arrays
        },
    )


def _file(splits: Sequence[str]) -> str:
    return EVIDENCE if "test" in splits else VAL_EVIDENCE


def secondary_cells(
    spec: DataSpec, trial: TrialDirectory, record: Json, combinations: Sequence[Combination]
) -> Iterator[tuple[Metric, str, dict[str, Cell]]]:
    """The cells of every metric beside the primary one, on val and test.

    None when the evidence is not what was recorded.
    """
    others = secondary(spec.task, record["metric"])
    if not others or file_sha256(trial / EVIDENCE) != record["files"][EVIDENCE]["sha256"]:
        return
    evidence = stored_evidence(trial)
    for other in others:
        for split in EVIDENCE_SPLITS:
            yield other, split, evidence.cells(other, split, combinations, strict=False)


def different_cells(
    trial: TrialDirectory,
    record: Json,
    combinations: Sequence[Combination],
    splits: Sequence[str] = EVIDENCE_SPLITS,
) -> str | None:
    """The first cell of val or test that the evidence gives otherwise than the record has it, as a
    sentence; None if all agree.
    """
    evidence = stored_evidence(trial, splits)
    for split in splits:
        again = as_json(evidence.cells(metric(record["metric"]), split, combinations))
        recorded = record["cells"][split]
        wrong = [name for name in again if not _agree(again[name], recorded[name])]
        if wrong:
            said, computed = (_cell_text(cells[wrong[0]]) for cells in (recorded, again))
            return (
                f"for {wrong[0]} on {split}, record.json says {said}, and {_file(splits)} gives"
                f" {computed}"
            )
    return None


def _agree(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two cells are the same.

    Another machine may add up in another order, which a value's last bits show.
    """
    if first == second:
        return True
    values = first["value"], second["value"]
    close = None not in values and math.isclose(*values, rel_tol=1e-12, abs_tol=1e-12)
    return close and {**first, "value": 0} == {**second, "value": 0}


def _cell_text(cell: Mapping[str, Any]) -> str:
    value = "nothing" if cell["value"] is None else f"{cell['value']:.6g}"
    return f"{value} on {cell['n']} samples{' (collapsed)' if cell['collapsed'] else ''}"
