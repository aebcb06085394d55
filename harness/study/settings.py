"""The settings of a study: one dataclass per block of keys, with defaults, ranges and help.

Field metadata says what a value may be (``low``, ``high``, ``choices``; checks.py holds values to
it) and has the line of help that a command's ``--help`` prints. A field marked ``derived`` is no
key: it is computed from others. config.py fills these classes from a study file and the command
line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from harness.study.search_space import SearchConfig
from harness.training.recipe import EvaluationConfig, MissingConfig, TrainConfig, setting

DEFAULT_STUDY = "quickstart"
SEEDS = "seeds"
MOST_DEVICES = 4096.0
"""CPUs or GPUs that one trial may ask for."""

AUTO = "auto"
"""Decided where trials run: see harness/schedule/packing.py."""


@dataclass
class DatasetConfig:
    """Which data, and where this machine keeps it."""

    name: str = setting("digits", "registry name; `dataset=NAME` is short for it")
    root: str | None = setting(None, "folder of your copy (not part of a trial's identity)")
    manifest: str | None = setting(None, "CSV that describes your own data")
    protocol: str | None = setting(None, "one of the dataset's protocols; default: its first")
    limit: int | None = setting(None, "at most this many samples per split", low=1)
    options: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "the dataset's own settings, such as its input size"},
    )
    fingerprint: str | None = setting(
        None, "first characters of the fingerprint that the data must have (not a part of identity)"
    )
    cache: str | None = setting(
        None, "folder of decoded arrays; default: <output>/cache (not part of a trial's identity)"
    )


@dataclass
class ResourcesConfig:
    """What one trial occupies, and where."""

    cpus_per_trial: Any = field(
        default=AUTO,
        metadata={
            "help": "CPUs the scheduler reserves per trial, which uses one thread; auto: 1, less"
            " where many trials share a GPU",
            "low": 0.01,
            "high": MOST_DEVICES,
        },
    )
    gpus_per_trial: Any = field(
        default=AUTO,
        metadata={
            "help": "GPUs per trial; 0.25 packs four trials on one; 0 trains on the CPU; auto: what"
            " a short probe finds fastest where this machine or the cluster has a GPU, else 0",
            "low": 0.0,
            "high": MOST_DEVICES,
        },
    )
    address: str | None = setting(
        None, "address of a running Ray cluster; default: one on this machine"
    )
    max_concurrent: int | None = setting(
        None, "at most this many trials at once; default: what the machine holds", low=1
    )
    retries: int = setting(2, "how often a trial whose worker died is started again", low=0)
    stall_minutes: float | None = setting(
        30.0,
        "a trial without a step for so long (and five times its longest step) is ended, tried once"
        " more alone, then failed; 0: never",
        low=0.0,
    )

    cuda_graph: bool = setting(
        False,
        "on a GPU, replay training steps from a CUDA graph where that gives the bits of plain steps"
        " (not yet tried on a GPU)",
    )

    @property
    def cpus(self) -> float:
        """CPUs per trial; 1 where that is not decided."""
        return 1.0 if self.cpus_per_trial == AUTO else float(self.cpus_per_trial)

    @property
    def gpus(self) -> float:
        """GPUs per trial; none where that is not decided."""
        return 0.0 if self.gpus_per_trial == AUTO else float(self.gpus_per_trial)

    @property
    def device(self) -> str:
        """What trials with so many GPUs are trained on: cuda or cpu."""
        return "cuda" if self.gpus > 0 else "cpu"


@dataclass
class TrackingConfig:
    """Where the store is mirrored to."""

    uri: str | None = setting(None, "MLflow tracking URI; default: <output>/mlflow.db")
    enabled: bool = setting(True, "mirror the store to MLflow")
    weights: bool = setting(
        True,
        "give each trial's run its weights (below <output> a second name of the file, no copy)",
    )


@dataclass
class ReportConfig:
    """What a report is asked; no trial depends on it."""

    presence: Any = field(
        default=None,
        metadata={
            "help": "how often modalities are present in use: {modality: probability}, or a list"
            " of {combination, probability}"
        },
    )


@dataclass
class Study:
    """One comparison: methods x seeds on one dataset with one recipe."""

    name: str = setting(DEFAULT_STUDY, "the study's name (`study=NAME`)")
    description: str = setting("", "what the study asks")
    published_table: int | None = setting(
        None,
        "published table that the report shows beside the measured values (studies/reference)",
        low=1,
        high=7,
    )
    views: bool = setting(
        False,
        "measure sigma^2 and the distances between features of all trained models for the report"
        " (harness.views)",
    )
    methods: list[Any] = field(
        default_factory=list,
        metadata={
            "help": "NAME, NAME:variant, ./file.py or {method, variant, hparams, label}; all: the"
            " baseline and every method that fits the task, the data and the network"
        },
    )
    seeds: list[int] = field(
        default_factory=lambda: [0],
        metadata={
            "help": "one trial per method and seed: a list, or rounds where the question is open,"
            " {first: 3, most: 20, difference: 1.0, budget: TRIALS}"
        },
    )
    seed_rounds: Any = field(default=None, metadata={"derived": True})
    """SeedRounds where ``seeds`` is a mapping; ``seeds`` are then those that rows have so far."""
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    backbone: dict[str, Any] = field(
        default_factory=lambda: {"name": "small"},
        metadata={"help": "name and options of the shared network"},
    )
    train: TrainConfig = field(default_factory=TrainConfig)
    missing: MissingConfig = field(default_factory=MissingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    hparams: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "hparams.<method>.<name>; a list is a grid axis"}
    )
    search: SearchConfig = field(default_factory=SearchConfig)
    executor: str = setting(
        "ray", "who runs trials: ray, or local (in this process)", choices=("ray", "local")
    )
    output: str = setting("runs", "folder of everything that is written")
    preset: str | None = setting(None, "a named set of changes in the study file, such as smoke")
    presets: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "what each preset changes"}
    )
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    rerun: str | None = setting(
        None, "run these again: failed, or stale", choices=("failed", "stale")
    )

    @property
    def folder(self) -> Path:
        """Where the study's report and plan lie: <output>/<name>/."""
        return Path(self.output).resolve() / self.name


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every settable key with its value and its line of help."""
    for f in fields(node):
        value = getattr(node, f.name)
        if f.metadata.get("derived"):
            continue
        if f.name == SEEDS and getattr(node, "seed_rounds", None) is not None:
            value = node.seed_rounds.as_setting()
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", value, f.metadata.get("help", "")
