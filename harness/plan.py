"""From a study to its trials: rows (method, variant, hyperparameters) x seeds."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.backbones import Backbone
from harness.combinations import Combination, lattice, parse
from harness.config import Study
from harness.dataset import Dataset, DataSpec
from harness.errors import UserError, unknown
from harness.hyperparameters import Value, resolve
from harness.method import Method
from harness.provenance import source_hash
from harness.registry import BACKBONES, DATASETS, METHODS
from harness.store import Store
from harness.trial import Job, TrialSpec

ENTRY_KEYS = ("method", "variant", "hparams", "label")
ALL = "all"
"""The entry of ``methods`` that stands for the baseline and every method that fits the data and the network."""

FEWEST = 2
"""Complete samples that a method needs at least, when it can learn from no others."""


@dataclass(frozen=True)
class Row:
    """One row of the table: a method with its variant and all its hyperparameters."""

    label: str
    method: str
    variant: str
    hparams: dict[str, Value]
    file: str | None = None

    @property
    def kind(self) -> tuple[str, str]:
        """What it has in common with the rows that differ from it in hyperparameters only."""
        return self.file or self.method, self.variant

    @property
    def method_class(self) -> type[Method]:
        """The class, from the registry or the user's file."""
        return METHODS.get(self.file or self.method)


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of a plan; a stage is a model that a row needs and that has no row of its own."""

    row: Row
    seed: int
    job: Job
    stage: bool = False

    @property
    def id(self) -> str:
        """The trial's id."""
        return self.job.spec.id

    @property
    def only(self) -> str | None:
        """The combination that the model is trained on alone, if there is one."""
        combination: str | None = self.job.spec.train["combination"]
        return combination


class Plan:
    """The trials of a study. Rows and counts need no data; ``trials`` does.

    ``winners`` are rows that a search has found; each stands behind the last row of its method and variant. ``dataset`` is what
    stands for the study's data where they are not here.
    """

    def __init__(self, study: Study, winners: Sequence[Row] = (), dataset: Dataset | None = None) -> None:
        self.study = study
        self.members: tuple[Plan, ...] = (self,)
        self.dataset = open_dataset(study) if dataset is None else dataset
        network = _network(study, self.spec)
        self.backbone = {"name": str(study.backbone.get("name", "small")), **network.facts}
        self.paths = network.paths
        self.rows = _with_winners(_rows(study, network), winners)
        for row in self.rows:
            _check_row(row, network, study)
        if study.train.combination is not None:
            study.train.combination = parse(study.train.combination, self.spec.names).name

    @property
    def spec(self) -> DataSpec:
        """The dataset's description."""
        return self.dataset.spec

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """The dataset's 2^V - 1 combinations."""
        return lattice(self.spec.names)

    @property
    def size(self) -> int:
        """How many trials the rows have."""
        return sum(len(self._trained_on(row)) for row in self.rows) * len(self.study.seeds)

    @cached_property
    def trials(self) -> list[PlannedTrial]:
        """The rows' trials, seed by seed, so that an unfinished study compares all methods on its first seeds. Needs the data."""
        return [
            PlannedTrial(row, seed, self._job(row, seed, only))
            for seed in self.study.seeds
            for row in self.rows
            for only in self._trained_on(row)
        ]

    @cached_property
    def stages(self) -> list[PlannedTrial]:
        """The models that the rows' trials need, each once, without those that are trials of a row themselves."""
        own = {trial.id for trial in self.trials}
        needed = {s.id: s for t in self.trials for s in self._needed(t.row, t.seed).values() if s.id not in own}
        return list(needed.values())

    def tuning(self, row: Row, seed: int) -> list[PlannedTrial]:
        """A trial of which a search asks for val only, behind those that it needs. Needs the data."""
        found = [*self._needed(row, seed).values(), PlannedTrial(row, seed, self._job(row, seed, self.study.train.combination))]
        return [replace(trial, job=replace(trial.job, test=False)) for trial in found]

    def states(self, store: Store) -> dict[str, str]:
        """Trial id -> done, stale, failed, validated, started or new; stages included."""
        return {trial.id: store.state(trial.id, trial.job.code()) for trial in [*self.stages, *self.trials]}

    def to_run(self, states: Mapping[str, str]) -> list[PlannedTrial]:
        """The trials without a valid record, and those that ``rerun`` asks for again."""
        wanted = {"new", "started", "validated"} | ({self.study.rerun} if self.study.rerun else set())
        chosen = {trial.id: trial for trial in [*self.stages, *self.trials] if states[trial.id] in wanted}
        return list(chosen.values())

    def _trained_on(self, row: Row) -> list[str | None]:
        """The combinations that a row trains a model for; [None] when one model is trained for all."""
        return [c.name for c in self.combinations] if row.method_class.per_combination else [self.study.train.combination]

    def _needed(self, row: Row, seed: int) -> dict[str, PlannedTrial]:
        """The models that a row's trial needs, trained on all modalities with the same recipe and seed."""
        full = self.combinations[-1].name
        found = {}
        for name, need in row.method_class.needs.items():
            stage = Row(f"{row.method} {name}", need.method, "paper", resolve_defaults(need.method))
            found[name] = PlannedTrial(stage, seed, self._job(stage, seed, full), stage=True)
        return found

    @cached_property
    def _facts(self) -> dict[str, Any]:
        facts, wanted = dataset_facts(self.dataset), self.study.dataset.fingerprint
        if wanted is not None and not facts["fingerprint"].startswith(wanted):
            raise UserError(f"dataset.fingerprint={wanted}, and the data given have {facts['fingerprint']}: it is another copy")
        return facts

    def _job(self, row: Row, seed: int, only: str | None) -> Job:
        study = self.study
        method, hparams = _identity(row)
        spec = TrialSpec(
            dataset=self._facts,
            backbone=self.backbone,
            method=method,
            variant=row.variant,
            hparams=hparams,
            train=asdict(study.train) | {"combination": only},
            missing=asdict(study.missing),
            evaluation=asdict(study.evaluation),
            seed=seed,
            source=source_hash(Path(row.file)) if row.file else None,
            needs={name: stage.id for name, stage in self._needed(row, seed).items()},
        )
        return Job(
            spec,
            row.label,
            str(Store.below(study.output).root),
            device="cuda" if study.resources.gpus_per_trial > 0 else "cpu",
            root=_text(self.dataset.root),
            manifest=_text(self.dataset.manifest),
            cache=_text(self.dataset.cache),
            method_file=row.file,
            local=self.paths,
        )


def open_dataset(study: Study) -> Dataset:
    """The dataset that a study names, with this machine's paths."""
    config = study.dataset
    cls = DATASETS.get(config.name)
    if config.protocol is not None and config.protocol not in cls.protocols:
        raise unknown(f"protocol of {config.name}", config.protocol, cls.protocols)
    given_root = config.root or (os.environ.get(cls.root_variable) if cls.root_variable else None)
    root, manifest = (Path(path).expanduser().resolve() if path else None for path in (given_root, config.manifest))
    cache = Path(config.cache or Path(study.output) / "cache").expanduser().resolve()
    return cls(root, manifest, config.protocol, config.limit, config.options, cache)


def data_needed(study: Study) -> str | None:
    """What a study must be given before its rows can be told, in a sentence; None for a dataset that is known without data."""
    if study.dataset.manifest is not None or study.dataset.root is not None:
        return None
    dataset = open_dataset(study)
    try:
        dataset.spec  # noqa: B018
    except UserError as error:
        return str(error)
    return None


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """What of a dataset decides a trial's result. Needs the data."""
    return {
        "name": dataset.spec.name,
        "fingerprint": dataset.fingerprint(),
        "protocol": dataset.protocol,
        "limit": dataset.limit,
        "options": dict(dataset.values),
        "synthetic": dataset.spec.synthetic,
    }


def _network(study: Study, spec: DataSpec) -> Backbone:
    given = dict(study.backbone)
    name = str(given.pop("name", "small"))
    cls = BACKBONES.get(name)
    if spec.task not in cls.tasks:
        raise UserError(f"backbone '{name}' does not do {spec.task}, the task of {spec.name}; it does: {', '.join(cls.tasks)}")
    return cls(spec, given)


def _identity(row: Row) -> tuple[str, dict[str, Value]]:
    """The method and hyperparameters that a row's trials are known by."""
    if row.method_class.identity is None:
        return row.method, dict(row.hparams)
    method, fixed = row.method_class.identity
    return method, resolve_defaults(method) | row.hparams | dict(fixed)


def resolve_defaults(method: str) -> dict[str, Value]:
    """All hyperparameters of a method at their defaults."""
    return resolve("hyperparameter", METHODS.get(method).hyperparameters, {}, f"hparams.{method}")


def _check_row(row: Row, network: Backbone, study: Study) -> None:
    spec = network.spec
    if row.method_class.needs_complete_data:
        _check_complete(row, spec, study)
    if spec.task not in row.method_class.tasks:
        raise UserError(f"method '{row.label}' is for {', '.join(row.method_class.tasks)} only, and {spec.name} is {spec.task}")
    row.method_class.check(spec, row.variant, row.hparams)
    row.method_class.check_backbone(network)


def _check_complete(row: Row, spec: DataSpec, study: Study) -> None:
    """Training data that a method needs complete must be so, or the study must say that the complete samples are enough."""
    lacking = f"missing.train={study.missing.train} takes some away" if study.missing.train != "none" else ""
    if spec.complete is not None:
        lacking = f"only {spec.complete} training samples of {spec.name} have every modality"
        if spec.complete < FEWEST:
            raise UserError(f"method '{row.label}' needs complete training data and {lacking}; leave it out")
    if lacking and not study.missing.complete_subset:
        raise UserError(
            f"method '{row.label}' needs complete training data and {lacking}; "
            "leave it out, or set missing.complete_subset=true to train it on the complete samples"
        )


# ---------------------------------------------------------------------- rows


def _rows(study: Study, network: Backbone) -> list[Row]:
    entries = [full for entry in study.methods for full in (_all(network) if entry == ALL else [entry])]
    for method in study.hparams:
        if method not in METHODS.names() and method not in {_entry(e)["name"] for e in entries}:
            raise unknown("method in hparams", method, METHODS.names())
    return [row for entry in entries for row in _entry_rows(study, _entry(entry))]


def _with_winners(rows: Sequence[Row], winners: Sequence[Row]) -> list[Row]:
    """All rows; UserError when two have one label."""
    found = list(rows)
    for winner in winners:
        of_its_kind = [at for at, row in enumerate(found) if row.kind == winner.kind]
        found.insert(of_its_kind[-1] + 1, winner)
    labels = [row.label for row in found]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"two rows are called '{label}'; give one of them a label: {{method: ..., label: ...}}")
    return found


def _all(network: Backbone) -> list[str]:
    """The baseline, then the methods in registry order, that do the task and can be built on the network and these data."""
    found = {name: cls for name, cls in METHODS.listing().items() if not isinstance(cls, str)}
    order = [*(n for n, cls in found.items() if cls.role == "baseline"), *(n for n, cls in found.items() if cls.role == "method")]
    return [name for name in order if _fits(name, found[name], network)]


def _fits(name: str, cls: type[Method], network: Backbone) -> bool:
    spec = network.spec
    if spec.task not in cls.tasks or (cls.needs_complete_data and (spec.complete or FEWEST) < FEWEST):
        return False
    try:
        hparams = resolve("hyperparameter", cls.hyperparameters, {}, f"hparams.{name}")
        cls.check(spec, "paper", hparams)
        # Whether a method finds what it needs in a network shows when it is built.
        cls(network, "paper", hparams)
    except UserError:
        return False
    return True


def _entry(entry: Any) -> dict[str, Any]:
    """A methods entry in full: name (registry name or file stem), file, variant, hparams, label."""
    block = {"method": entry} if isinstance(entry, str) else entry
    if not isinstance(block, dict) or "method" not in block:
        raise UserError(f"methods entry {entry!r} must be NAME, NAME:variant, ./file.py or {{method: NAME, ...}}")
    for key in block:
        if key not in ENTRY_KEYS:
            raise unknown("key in methods entry", str(key), ENTRY_KEYS)
    name, _, variant = str(block["method"]).partition(":")
    file = str(Path(name).resolve()) if name.endswith(".py") else None
    return {
        "name": Path(name).stem if file else name,
        "file": file,
        "variant": block.get("variant") or variant or "paper",
        "hparams": dict(block.get("hparams") or {}),
        "label": block.get("label"),
    }


def _entry_rows(study: Study, entry: dict[str, Any]) -> list[Row]:
    name, file, variant = entry["name"], entry["file"], entry["variant"]
    cls = METHODS.get(file or name)
    if variant not in cls.variants:
        raise unknown(f"variant of {name}", variant, cls.variants)
    common = study.hparams.get(name) or {}
    if not isinstance(common, dict):
        raise UserError(f"hparams.{name}={common} must be a block of hyperparameters, such as hparams.{name}.alpha=...")
    given = common | entry["hparams"]
    axes = {key: value for key, value in given.items() if isinstance(value, list)}
    shown = list(dict.fromkeys([*axes, *entry["hparams"]]))
    rows = []
    for point in itertools.product(*axes.values()):
        values = given | dict(zip(axes, point, strict=True))
        hparams = resolve("hyperparameter", cls.hyperparameters, values, f"hparams.{name}")
        base = entry["label"] or (name if variant == "paper" else f"{name}:{variant}")
        suffix = [f"{key}={short(hparams[key], cls.hyperparameters[key].log)}" for key in (axes if entry["label"] else shown)]
        rows.append(Row(f"{base}[{','.join(suffix)}]" if suffix else base, name, variant, hparams, file))
    return rows


def short(value: Value, log: bool = False) -> str:
    """A value as row labels print it; values of a logarithmic range in scientific form.

    >>> short(0.001, log=True), short(0.1, log=True), short(0.1), short(0.0, log=True), short(16)
    ('1e-3', '1e-1', '0.1', '0', '16')
    """
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if not log or value == 0:
        return f"{value:.6g}"
    mantissa, exponent = f"{value:.5e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
