"""What a trial is, apart from its execution: its specification, where its parts are, how it ended.

Plans make specifications, schedulers send jobs, and ``trial.run_trial`` executes them.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.backbones import Backbone
from harness.dataset import Dataset
from harness.method import Method
from harness.registry import BACKBONES, DATASETS, METHODS
from harness.store import Json, canonical_json
from harness.training.executed_code import code_hash

HALTED = "halted"


@dataclass(frozen=True)
class TrialSpec:
    """Everything that decides a trial's result, and nothing else: no path, device, tracker or study
    name.

    ``dataset`` holds name, fingerprint, protocol, limit, options and the ``synthetic`` flag;
    ``source`` is the hash of a method that comes from a user's file, else None; ``needs`` maps a
    name of the method's ``needs`` to the id of the trial that must be done first.
    """

    dataset: Json
    backbone: Json
    method: str
    variant: str
    hparams: Json
    train: Json
    missing: Json
    evaluation: Json
    seed: int
    source: str | None = None
    needs: dict[str, str] = field(default_factory=dict)

    @property
    def evaluated_in(self) -> str:
        """The arithmetic of evaluation."""
        return str(self.evaluation.get("precision") or self.train["precision"])

    @property
    def id(self) -> str:
        """What the trial is known by everywhere."""
        return spec_id(asdict(self))


def spec_id(spec: Json) -> str:
    """16 hex digits of the sha256 of a spec's canonical JSON."""
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Job:
    """A trial and where its parts are on this machine; plain data, so that it can be sent anywhere.

    ``cuda_graph`` asks for replayed steps (cuda_graph.py), which leave the bits as they are.
    ``device`` is what the plan knows; an executor may give a trial another one (a cluster's GPU).
    ``local`` holds the backbone's options that are paths. ``test`` says whether the part on test is
    asked for: a search asks for val only, and another asker later for the rest of the same trial.
    """

    spec: TrialSpec
    label: str
    store: str
    device: str = "cpu"
    cuda_graph: bool = False
    root: str | None = None
    manifest: str | None = None
    cache: str | None = None
    method_file: str | None = None
    local: dict[str, str] = field(default_factory=dict)
    test: bool = True

    @property
    def name(self) -> str:
        """``hemis seed 1``, ``dedicated seed 1 on thumb``."""
        only = self.spec.train["combination"]
        return f"{self.label} seed {self.spec.seed}" + (f" on {only}" if only else "")

    def method_class(self) -> type[Method]:
        """The method's class."""
        return METHODS.get(self.method_file or self.spec.method)

    def backbone_class(self) -> type[Backbone]:
        """The backbone's class."""
        return BACKBONES.get(self.spec.backbone["name"])

    def open_dataset(self) -> Dataset:
        """The dataset, with this machine's paths."""
        facts = self.spec.dataset
        return DATASETS.get(facts["name"])(
            root=Path(self.root) if self.root else None,
            manifest=Path(self.manifest) if self.manifest else None,
            protocol=facts["protocol"],
            limit=facts["limit"],
            options=facts["options"],
            cache=Path(self.cache) if self.cache else None,
        )

    def code(self) -> str:
        """The hash of the code that this trial executes."""
        return code_hash(
            self.method_class(), self.backbone_class(), DATASETS.get(self.spec.dataset["name"])
        )


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: ``done``, ``failed`` with its reason, or ``halted``.

    A halted trial has not ended: nothing could be written, which is its reason, and nothing more is
    to be started. ``seconds`` is what this process spent on it.
    """

    trial_id: str
    status: str
    reason: str = ""
    seconds: float = 0.0
