"""What a trained model leaves behind: first its part on val, which is all that a search asks for,
then its part on test.

Neither depends on who asked for it, or on whether both were written at once: the last checkpoint
stays until both are there.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.dataset import Dataset, Split
from harness.errors import TrialFailure
from harness.method import Method
from harness.protocol.cells import as_json, score_cells
from harness.protocol.metrics import metric
from harness.store import (
    EVIDENCE,
    PARTIAL,
    RECORD_FORMAT,
    VAL_EVIDENCE,
    Json,
    TrialDirectory,
    write_atomically,
)
from harness.training.evaluation import Stopwatch, gather
from harness.training.executed_code import environment
from harness.training.loop import Fit
from harness.training.recipe import EvaluationConfig
from harness.training.spec import Job
from harness.training.split_cache import CACHE


@dataclass
class Run:
    """The parts of one trial while it runs."""

    job: Job
    trial: TrialDirectory
    dataset: Dataset
    model: Method
    device: torch.device
    network_remarks: list[str]
    started: float = field(default_factory=time.perf_counter)

    @property
    def evaluation(self) -> EvaluationConfig:
        """How it is evaluated."""
        return EvaluationConfig(**self.job.spec.evaluation)

    def split(self, name: str) -> Split:
        """A split that hands out batches on the device."""
        return CACHE.split(self.job, self.dataset, name, self.device)


def conclude(run: Run, fit: Fit) -> None:
    """Write evidence, weights and record: of val alone and without reading test if the job asks for
    no more, else of both.
    """
    if run.job.test:
        _conclude(run, fit)
    else:
        _validate(run, fit)


def _validate(run: Run, fit: Fit) -> None:
    """The part on val.

    The checkpoint stays, from which the part on test is made when somebody asks for it.
    """
    run.model.load_state_dict(fit.best_state)
    arrays, cells = _evidence(run, fit, "val")
    _write(run, fit, VAL_EVIDENCE, arrays)
    run.trial.save_record("selection.json", _record(run, fit, {"val": cells}, VAL_EVIDENCE))


def _conclude(run: Run, fit: Fit) -> None:
    """Both parts, the last epoch's cells among them."""
    # The model still has the last epoch's weights.
    _, last_cells = _cells(run, fit, run.split("test"))
    run.model.load_state_dict(fit.best_state)
    watch = Stopwatch(run.device)
    val_arrays, val_cells = _evidence(run, fit, "val")
    test_arrays, test_cells = _evidence(run, fit, "test", watch)
    _write(run, fit, EVIDENCE, val_arrays | test_arrays)
    cells = {"val": val_cells, "test": test_cells, "test_last_epoch": last_cells}
    record = _record(run, fit, cells, EVIDENCE)
    record["test_evaluation"] = {
        "samples": watch.samples,
        "encode_seconds": watch.encode,
        "fuse_seconds": watch.fuse,
    }
    run.trial.save_record("record.json", record)
    for name in ("checkpoint.pt", *PARTIAL):
        (run.trial / name).unlink(missing_ok=True)


def _evidence(
    run: Run, fit: Fit, name: str, watch: Stopwatch | None = None
) -> tuple[dict[str, Tensor], Json]:
    """A split's arrays by their names in the evidence, and its cells."""
    split = run.split(name)
    evidence, cells = _cells(run, fit, split, calibration=True, watch=watch)
    arrays = {name: evidence.pop("scores")}
    for what, array in evidence.items():
        arrays[f"{name}_{what}"] = array
    arrays[f"{name}_available"] = split.available
    if split.groups:
        arrays[f"{name}_groups"] = numbered(split.groups)
    if split.target.dim() == 1:  # label maps are in the confusion counts
        arrays[f"{name}_target"] = split.target.cpu()
    expected = run.dataset.counts()[name]
    if arrays[name].shape[1] != expected:
        raise TrialFailure(
            f"{arrays[name].shape[1]} samples of {name} were evaluated, and the split has"
            f" {expected}"
        )
    return arrays, cells


def numbered(groups: Sequence[str]) -> Tensor:
    """The groups of samples as numbers (N,) int32, in the order in which they first appear."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return torch.tensor([numbers[group] for group in groups], dtype=torch.int32)


def _write(run: Run, fit: Fit, evidence: str, arrays: dict[str, Tensor]) -> None:
    plain = {name: array.numpy() for name, array in arrays.items()}
    write_atomically(
        run.trial / evidence, lambda stream: np.savez(stream, allow_pickle=False, **plain)
    )
    write_atomically(run.trial / "weights.pt", lambda stream: torch.save(fit.best_state, stream))


def _cells(
    run: Run, fit: Fit, split: Split, calibration: bool = False, watch: Stopwatch | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    evidence = gather(
        run.model,
        split,
        run.evaluation.batch_size,
        run.device,
        calibration,
        watch,
        precision=run.job.spec.evaluated_in,
        remarks=fit.remarks,
    )
    if not bool(evidence["scores"].isfinite().all()):
        raise TrialFailure("scores of the selected or the last weights are not finite")
    cells = score_cells(
        metric(run.dataset.spec.metric), evidence["scores"], split, run.model.combinations
    )
    return evidence, as_json(cells)


def _record(run: Run, fit: Fit, cells: dict[str, Any], evidence: str) -> Json:
    spec, data = run.job.spec, run.dataset.spec
    return {
        "format": RECORD_FORMAT,
        "trial_id": spec.id,
        "spec": asdict(spec),
        "code": run.job.code(),
        "metric": data.metric,
        "combinations": [combination.name for combination in run.model.combinations],
        "synthetic": data.synthetic,
        "counts": run.dataset.counts(),
        "epochs": fit.epoch + 1,
        "selected_epoch": fit.best_epoch,
        "val_mean": fit.best_value,
        "cells": cells,
        "groups": _groups(run, [name for name in ("val", "test") if name in cells]),
        "normalisation": _normalisation(run),
        "parameters": run.model.parameter_counts(),
        "starved_encoder_batches": run.model.starved_encoders,
        "remarks": [*run.network_remarks, *fit.remarks, *run.model.remarks(fit.epoch + 1)],
        "train_seconds": round(fit.seconds, 3),
        "seconds": round(time.perf_counter() - run.started, 3),
        "peak_memory_bytes": _peak_memory(run.device),
        "environment": environment(run.device.type),
        "files": run.trial.describe_files(evidence, "weights.pt"),
    }


def _groups(run: Run, held_out: Sequence[str]) -> Json | None:
    """What groups of samples are, how many each split has, and how many of them are in train too.

    None where the dataset does not know them.
    """
    of_samples = {name: run.split(name).groups for name in ("train", *held_out)}
    if not all(of_samples.values()):
        return None
    distinct = {name: set(groups) for name, groups in of_samples.items()}
    return {
        "are": type(run.dataset).grouping,
        "count": {name: len(groups) for name, groups in distinct.items()},
        "also_in_train": {name: len(distinct[name] & distinct["train"]) for name in held_out},
    }


def _normalisation(run: Run) -> Json:
    """Mean and deviation by which stored values become what encoders receive, by modality.

    Without those whose stored values are normalised. A dataset's description may lack them, since
    they follow from the training split.
    """
    return {
        modality.name: {"mean": list(modality.mean), "std": list(modality.std)}
        for modality in run.split("train").modalities
        if modality.mean
    }


def _peak_memory(device: torch.device) -> int:
    """Bytes that this process had at most, the splits that it keeps for later trials included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
