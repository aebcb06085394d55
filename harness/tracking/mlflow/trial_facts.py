"""What the store says about one trial, in MLflow's terms (no mlflow here)."""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.protocol.metrics import metric
from harness.store import Json, Store, TrialDirectory
from harness.study.plan import PlannedTrial

STATUS = {"done": "FINISHED", "stale": "FINISHED", "failed": "FAILED", "started": "RUNNING"}
TAGS_THAT_COME_AND_GO = ("collapsed", "reason", "ties", "minus_baseline", "verdict")
LONGEST_REASON = 1000
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class TrialFacts:
    """One trial as its files describe it.

    ``began`` and ``ended`` are the times of the first and last finished epoch, in milliseconds;
    ``began`` tells one training of a trial from another. ``record``, ``final`` (one value each) and
    ``curves`` (points (step, value)) are empty until it is done.
    """

    trial_id: str
    name: str
    status: str
    began: int
    ended: int
    tags: dict[str, str]
    params: dict[str, str]
    history: list[Json]
    record: Json = field(default_factory=dict)
    final: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)


def read_facts(study: str, trial: PlannedTrial, store: Store) -> TrialFacts | None:
    """What the store says about a trial; None before its first finished epoch or failure."""
    files = store.trial(trial.id)
    state = store.state(trial.id, trial.job.code())
    # After the state: what is done has its whole history.
    record, history = files.record(), files.history()
    ending = _ending(files, state)
    if state not in STATUS or (not history and ending is None):
        return None
    times = [milliseconds(line["time"]) for line in history] or [
        milliseconds((ending or files.path).stat().st_mtime)
    ]
    finished = record if record is not None and STATUS[state] == "FINISHED" else {}
    return TrialFacts(
        trial_id=trial.id,
        name=trial.job.name,
        status=STATUS[state],
        began=times[0],
        ended=times[-1],
        tags=_tags(study, trial, state, record, files.failure()),
        params=dict(flattened(asdict(trial.job.spec))),
        history=history,
        record=finished,
        final=final_metrics(finished) if finished else {},
        curves=final_curves(finished) if finished and trial.only is None else {},
    )


def _ending(files: TrialDirectory, state: str) -> Path | None:
    name = {"FINISHED": "record.json", "FAILED": "failure.json"}.get(STATUS.get(state, ""))
    return files / name if name else None


def _tags(
    study: str, trial: PlannedTrial, state: str, record: Json | None, failure: Json | None
) -> dict[str, str]:
    spec = trial.job.spec
    tags = {
        "kind": "trial",
        "study": study,
        "method": spec.method,
        "variant": spec.variant,
        "label": trial.row.label,
        "dataset": str(spec.dataset["name"]),
        "protocol": str(spec.dataset["protocol"]),
        "seed": str(spec.seed),
        "trial_id": trial.id,
        "backbone": str(spec.backbone["name"]),
        "status": "running" if state == "started" else state,
        "device": str(record["environment"]["device"] if record else trial.job.device),
        "synthetic": as_text(bool(spec.dataset["synthetic"])),
        "collapsed": ",".join(collapsed_combinations(record)) if record else "",
        "reason": str(failure["reason"])[:LONGEST_REASON] if failure and state == "failed" else "",
    }
    return {name: text for name, text in tags.items() if text or name not in TAGS_THAT_COME_AND_GO}


def collapsed_combinations(record: Json) -> list[str]:
    """The keys (``thumb.spectrum``) of combinations with one class predicted for all of test."""
    return [
        name.replace("+", ".")
        for name in record["combinations"]
        if record["cells"]["test"][name]["collapsed"]
    ]


def final_metrics(record: Json) -> dict[str, float]:
    """The metrics of a finished trial: every test cell, mean, worst, full, and what it cost."""
    name, values = record["metric"], test_values(record)
    cells = {
        f"test/{name}/{combination.replace('+', '.')}": value
        for combination, value in values.items()
    }
    return cells | {
        f"test/{name}_mean": sum(values.values()) / len(values),
        f"test/{name}_worst": metric(name).worst(values),
        f"test/{name}_full": values.get(record["combinations"][-1], math.nan),
        f"val/{name}_selected_mean": float(record["val_mean"]),
        "train_seconds": float(record["train_seconds"]),
        "parameters/inference": float(record["parameters"]["inference"]),
        "parameters/training": float(record["parameters"]["training"]),
    }


def test_values(record: Json) -> dict[str, float]:
    """Combination -> value on test, in the lattice's order.

    Combinations that no sample has are left out.
    """
    cells = record["cells"]["test"]
    return {
        name: float(cells[name]["value"])
        for name in record["combinations"]
        if cells[name]["value"] is not None
    }


def final_curves(record: Json) -> dict[str, Curve]:
    """The mean over the combinations of each number of present modalities, the step."""
    by_size: dict[int, list[float]] = {}
    for combination, value in test_values(record).items():
        by_size.setdefault(combination.count("+") + 1, []).append(value)
    return {
        by_present_name(record["metric"]): [
            (size, sum(found) / len(found)) for size, found in sorted(by_size.items())
        ]
    }


def by_present_name(metric: str) -> str:
    """The curve over the number of present modalities, which a chart shows on its step axis."""
    return f"by_number_present/{metric}"


def flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and text; what is None is left out.

    >>> settings = {"train": {"lr": 0.05, "nesterov": True, "limit": None}, "hard": ["a", "b"]}
    >>> dict(flattened(settings))
    {'train.lr': '0.05', 'train.nesterov': 'true', 'hard': '["a", "b"]'}
    """
    for key, value in tree.items():
        name = f"{prefix}{legal_name(str(key))}"
        if isinstance(value, Mapping):
            yield from flattened(value, f"{name}.")
        elif value is not None:
            yield name, as_text(value)


def as_text(value: Any) -> str:
    """A setting as people write it in YAML."""
    return value if isinstance(value, str) else json.dumps(value)


def legal_name(name: str) -> str:
    """A metric's or parameter's name as MLflow accepts it.

    >>> legal_name("val/accuracy/a+b"), legal_name("method/hard[0]"), legal_name("/x//y")
    ('val/accuracy/a.b', 'method/hard_0_', 'x/y')
    """
    return posixpath.normpath(re.sub(r"[^\w.\-/ :]", "_", name.replace("+", "."))).lstrip("/")


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Legal names with their values, without those that are not numbers."""
    return {
        legal_name(name): float(value) for name, value in values.items() if math.isfinite(value)
    }


def milliseconds(seconds: float) -> int:
    """Seconds since 1970 as MLflow counts them."""
    return round(seconds * 1000)
