"""A row's values per sample: what comparisons of rows are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from harness.analysis.evidence import Evidence, stored_evidence
from harness.analysis.results import Finished, Results
from harness.analysis.statistics.groups import Groups
from harness.analysis.statistics.influence import sample_values
from harness.store import EVIDENCE, file_sha256

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class RowSamples:
    """A row's values (C, S, N) per sample: each mean over n is the metric of one combination of one
    seed's trial.
    """

    label: str
    seeds: tuple[int, ...]
    values: Array
    counted: Array | None = None
    """(C, N) bool: the samples that each combination is scored on; None for all."""
    groups: Array | None = None
    """(N,) int: the number of each sample's group; None where groups are not known."""

    def grouping(self, weights: Array) -> Groups:
        """The groups that a mean over combinations with these weights (C,) rests on; bool for a
        plain mean over some.
        """
        if self.counted is not None:
            # Combinations without a weight may be scored on no sample at all.
            on = weights > 0
            return Groups.resting_on(self.counted[on], self.groups, weights[on].astype(float))
        if self.groups is None:
            return Groups.independent(self.values.shape[2])
        return Groups.of(self.groups)

    def on(self, seeds: Sequence[int]) -> Array:
        """The values of some seeds, in their order."""
        return self.values[:, self.at(seeds)]

    def at(self, seeds: Sequence[int]) -> list[int]:
        """Where some seeds are."""
        return [self.seeds.index(seed) for seed in seeds]


def row_samples(results: Results, split: str = "test") -> dict[str, RowSamples]:
    """The rows that can be compared, by label: those with a finished trial whose evidence is what
    was recorded.

    Reference rows with one model per combination are left out: they are never ranked.
    """
    found = {}
    for row in results.plan.rows:
        if row.method_class.per_combination:
            continue
        usable = [done for done in results.of(row.label) if intact(results, done)]
        if usable:
            found[row.label] = _row(results, row.label, usable, split)
    # All rows have the same samples; trials of an older version did not record their groups.
    known = next((row.groups for row in found.values() if row.groups is not None), None)
    return {label: replace(row, groups=known) for label, row in found.items()}


def _row(results: Results, label: str, usable: Sequence[Finished], split: str) -> RowSamples:
    """The samples of one row, from the evidence of its trials."""
    evidence = [stored_evidence(results.store.trial(done.trial.id)) for done in usable]
    # The same samples in every trial of a study: which they have is read from the first.
    has = evidence[0].splits[split].available
    masks = torch.tensor([combination.mask for combination in results.plan.combinations])
    counted = torch.stack([has[:, mask].all(1) for mask in masks]).numpy()
    groups = [one.groups[split].numpy() for one in evidence if split in one.groups]
    return RowSamples(
        label,
        seeds=tuple(done.trial.seed for done in usable),
        values=np.stack([_values(results, one, split) for one in evidence], 1),
        counted=None if counted.all() else counted,
        groups=groups[0] if groups else None,
    )


def intact(results: Results, done: Finished) -> bool:
    """Whether a trial's evidence is what was recorded."""
    stored = file_sha256(results.store.trial(done.trial.id) / EVIDENCE)
    return stored == str(done.record["files"][EVIDENCE]["sha256"])


def _values(results: Results, evidence: Evidence, split: str) -> Array:
    """The values (C, N) of one trial; val is what metrics with a fitted constant are fitted on."""
    val = evidence.scores["val"], evidence.splits["val"]
    return sample_values(
        results.metric,
        evidence.scores[split],
        evidence.splits[split],
        results.plan.combinations,
        val,
    )
