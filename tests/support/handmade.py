"""Trials written by hand through the real store, so that every expectation can be counted.

The numbers of correct predictions are known. Called by tests of most rooms, and by archives.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.robust.catalogue import Condition
from harness.robust.evidence import code_of, facts_of, keep
from harness.store import RECORD_FORMAT, Store, write_atomically, write_json
from harness.study.config import load_study
from harness.study.plan import Plan, PlannedTrial

NAMES = (
    *("thumb", "spectrum", "profile"),
    *("thumb+spectrum", "thumb+profile", "spectrum+profile", "thumb+spectrum+profile"),
)
MARKS = ("●○○", "○●○", "○○●", "●●○", "●○●", "○●●", "●●●")
"""The headings of these combinations in a table."""
N = 60
"""Samples per split of digits at limit 60."""

LADDER = tuple(range(0, 21, 3))
"""+0, +3, ... +18 correct predictions, combination by combination: +0 %, +5 %, ... +30 % of 60
samples, +15 % on average.
"""

ENVIRONMENT = {
    "device": "cpu",
    "device_name": "x",
    "threads": 1,
    "cpus": 2,
    "platform": "p",
    "python": "3",
    "torch": "2",
    "numpy": "2",
}


def planned(output: Path, *arguments: str) -> tuple[Plan, Store]:
    """The quick start at 60 samples per split, below ``output``."""
    study = load_study(["study=quickstart", "dataset.limit=60", f"output={output}", *arguments])
    return Plan(study), Store.below(study.output)


def trial_of(plan: Plan, label: str, seed: int) -> PlannedTrial:
    """One planned trial."""
    return next(trial for trial in plan.trials if trial.row.label == label and trial.seed == seed)


def scores(target: np.ndarray[Any, Any], correct: Sequence[int | None]) -> np.ndarray[Any, Any]:
    """(C, N, 10) scores whose argmax is right for the first ``correct`` samples only.

    None in ``correct``: always class 0.
    """
    predicted = [
        np.zeros(N, dtype=int)
        if count is None
        else np.where(np.arange(N) < count, target, (target + 1) % 10)
        for count in correct
    ]
    return np.eye(10, dtype=np.float32)[np.stack(predicted)]


def cells(target: np.ndarray[Any, Any], correct: Sequence[int | None]) -> dict[str, dict[str, Any]]:
    """What the record must say about such scores."""
    counts = [int((target == 0).sum()) if count is None else count for count in correct]
    return {
        name: {"value": 100.0 * count / N, "n": N, "collapsed": asked is None}
        for name, count, asked in zip(NAMES, counts, correct, strict=True)
    }


def write_trial(
    plan: Plan,
    store: Store,
    label: str,
    seed: int,
    correct: Sequence[int | None],
    last: Sequence[int] | None = None,
    groups: Sequence[int] | None = None,
    **changes: object,
) -> PlannedTrial:
    """Store a finished trial with ``correct`` predictions per combination on test and val.

    ``last``: those with the last epoch's weights. ``groups``: the group of each sample, none of
    which is in train. ``changes`` replaces entries of the record.
    """
    trial = trial_of(plan, label, seed)
    folder = store.trial(trial.id)
    write_json(folder / "spec.json", asdict(trial.job.spec) | {"label": label})
    targets = {split: plan.dataset.load(split).target.numpy() for split in ("val", "test")}
    arrays = {split: scores(target, correct) for split, target in targets.items()}
    arrays |= {f"{split}_target": target for split, target in targets.items()}
    arrays |= {f"{split}_available": np.ones((N, 3), dtype=bool) for split in targets}
    if groups is not None:
        arrays |= {f"{split}_groups": np.array(groups, np.int32) for split in targets}
        count = len(set(groups))
        facts = {
            "are": "people",
            "count": {"train": 9, "val": count, "test": count},
            "also_in_train": {"val": 0, "test": 0},
        }
        changes = {"groups": facts} | changes
    write_atomically(folder / "scores.npz", lambda stream: np.savez(stream, **arrays))
    write_atomically(
        folder / "weights.pt", lambda stream: torch.save({"w": torch.zeros(2)}, stream)
    )
    found: Mapping[str, Any] = {split: cells(target, correct) for split, target in targets.items()}
    record = {
        "format": RECORD_FORMAT,
        "trial_id": trial.id,
        "spec": asdict(trial.job.spec),
        "code": trial.job.code(),
        "metric": "accuracy",
        "combinations": list(NAMES),
        "synthetic": False,
        "counts": plan.dataset.counts(),
        "epochs": 30,
        "selected_epoch": 10 + seed,
        "val_mean": 50.0,
        "cells": {
            **found,
            "test_last_epoch": cells(targets["test"], correct if last is None else last),
        },
        "parameters": {"training": 23994, "inference": 22874},
        "starved_encoder_batches": 0,
        "remarks": [],
        "train_seconds": 1.5,
        "seconds": 2.0,
        "test_evaluation": {"samples": 100, "encode_seconds": 0.2, "fuse_seconds": 2.1},
        "peak_memory_bytes": 100 * 2**20,
        "environment": ENVIRONMENT,
        "files": folder.describe_files("scores.npz", "weights.pt"),
    }
    write_json(folder / "record.json", record | changes)
    return trial


def write_condition(
    plan: Plan, store: Store, label: str, seed: int, condition: Condition, correct: Sequence[int]
) -> None:
    """Evidence under a corruption of a trial that is there.

    ``correct`` predictions on each combination with the corrupted modality.
    """
    trial = trial_of(plan, label, seed)
    folder = store.trial(trial.id)
    record = folder.record()
    assert record is not None
    target = plan.dataset.load("test").target.numpy()
    evidence = torch.from_numpy(scores(target, correct))
    keep(folder, facts_of(record, condition, code_of(trial.job)), evidence, 0.5)


def ladder(start: int) -> list[int]:
    """``start`` correct predictions for the first combination, three more for each next one."""
    return [start + step for step in LADDER]
