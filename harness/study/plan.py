"""From a study to its trials: rows (method, variant, hyperparameters) x seeds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from harness.backbones import Backbone
from harness.dataset import Dataset, DataSpec
from harness.errors import UserError, unknown
from harness.protocol.combinations import Combination, lattice, parse
from harness.registry import BACKBONES, DATASETS
from harness.store import Store
from harness.study.checks import checked_folder
from harness.study.presence import presence
from harness.study.rows import (
    Row,
    check_names,
    check_row,
    identity,
    joined,
    left_out,
    resolve_defaults,
    rows_of,
)
from harness.study.seed_rounds import Rounds, SeedRounds
from harness.study.settings import AUTO, Study
from harness.training.executed_code import source_hash
from harness.training.missing import checked, recorded
from harness.training.recipe import evaluation_facts
from harness.training.spec import Job, TrialSpec


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

    ``winners`` are rows that a search has found; each stands behind the last row of its method and
    variant. ``dataset`` is what stands for the study's data where they are not here. Where seeds
    come in rounds, the plan has the first one's (see ``at``).
    """

    rounds: Rounds | None = None
    """How far the rounds of seeds are; None for a list of seeds."""

    def __init__(
        self, study: Study, winners: Sequence[Row] = (), dataset: Dataset | None = None
    ) -> None:
        self.study = study
        self.members: tuple[Plan, ...] = (self,)
        self.dataset = open_dataset(study) if dataset is None else dataset
        network = _network(study, self.spec)
        self.backbone = {"name": str(study.backbone.get("name", "small")), **network.facts}
        self.paths = network.paths
        check_names(self.spec)
        self.presence = presence(study.report.presence, self.spec.names)
        study.missing = checked(study.missing, self.spec.names)
        self.rows = joined(rows_of(study, network), winners)
        self.left_out = left_out(study, network)
        for row in self.rows:
            check_row(row, network, study)
        if study.train.combination is not None:
            study.train.combination = _selectable(study.train.combination, self.spec)
        if study.seed_rounds is not None:
            self._begin(study.seed_rounds)

    def _begin(self, settings: SeedRounds) -> None:
        """Give all rows their first seeds."""
        rounds = Rounds.begun(settings, [row.label for row in self.rows])
        self.rounds = rounds
        self.study = replace(self.study, seeds=list(range(settings.first)))
        if settings.budget is not None and settings.budget < self.size:
            raise UserError(
                f"seeds.budget={settings.budget} is less than the {self.size} trials of"
                f" {settings.first} seeds each; raise it, or name fewer methods"
            )

    def at(self, rounds: Rounds) -> Plan:
        """The same plan with the seeds that rows have at some point of the rounds."""
        found = copy(self)
        for name in ("trials", "stages"):
            found.__dict__.pop(name, None)
        found.rounds = rounds
        found.study = replace(self.study, seeds=list(range(max(rounds.seeds.values()))))
        found.members = (found,)
        return found

    @property
    def share(self) -> float:
        """The part of the 5 % that decisions have: less than 1 where one looks several times."""
        return min(member.rounds.share if member.rounds else 1.0 for member in self.members)

    def seeds_of(self, row: Row) -> list[int]:
        """The seeds of a row."""
        if self.rounds is None:
            return self.study.seeds
        return self.study.seeds[: self.rounds.seeds[row.label]]

    @property
    def most_trials(self) -> int:
        """How many trials the rows have if every round is needed; ``size`` without rounds."""
        if self.rounds is None:
            return self.size
        settings = self.rounds.settings
        trials = 0
        for row in self.rows:
            # Rows of one model per combination are never compared, and stay at their first seeds.
            seeds = settings.first if row.method_class.per_combination else settings.most
            trials += len(self._trained_on(row)) * seeds
        return trials if settings.budget is None else min(trials, settings.budget)

    @property
    def spec(self) -> DataSpec:
        """The dataset's description."""
        return self.dataset.spec

    @property
    def arguments(self) -> str:
        """``study=NAME``, as commands are given it.

        Of a merged plan, that of each of its studies.
        """
        first, *others = (member.study.name for member in self.members)
        if not others:
            return f"study={first}"
        return f"study={first} (and study={', '.join(others)})"

    @property
    def device(self) -> str:
        """What trials are trained on, as far as that is known here: cuda or cpu.

        Of ``auto`` the GPU of this machine, where it has one. On a cluster see
        ``decided_by_cluster``: cpu stands for what it decides.
        """
        resources = self.study.resources
        if resources.gpus_per_trial == AUTO and not self.decided_by_cluster:
            return "cuda" if torch.cuda.is_available() else "cpu"
        return resources.device

    @property
    def decided_by_cluster(self) -> bool:
        """Whether trials are trained on GPUs if a cluster has some, which is known once it is
        there.
        """
        study, resources = self.study, self.study.resources
        on_cluster = study.executor == "ray" and resources.address is not None
        return on_cluster and resources.gpus_per_trial == AUTO

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """The dataset's 2^V - 1 combinations."""
        return lattice(self.spec.names)

    @property
    def size(self) -> int:
        """How many trials the rows have."""
        return sum(len(self._trained_on(row)) * len(self.seeds_of(row)) for row in self.rows)

    @cached_property
    def trials(self) -> list[PlannedTrial]:
        """The rows' trials, seed by seed, so that an unfinished study compares all methods on its
        first seeds. Needs the data.
        """
        return [
            PlannedTrial(row, seed, self._job(row, seed, only))
            for seed in self.study.seeds
            for row in self.rows
            if seed in self.seeds_of(row)
            for only in self._trained_on(row)
        ]

    @cached_property
    def stages(self) -> list[PlannedTrial]:
        """The models that the rows' trials need, each once, without those that are trials of a row
        themselves.
        """
        own = {trial.id for trial in self.trials}
        needed: dict[str, PlannedTrial] = {}
        for trial in self.trials:
            for stage in self._needed(trial.row, trial.seed).values():
                if stage.id not in own:
                    needed[stage.id] = stage
        return list(needed.values())

    def tuning(self, row: Row, seed: int) -> list[PlannedTrial]:
        """A trial of which a search asks for val only, behind those that it needs.

        Needs the data.
        """
        own = PlannedTrial(row, seed, self._job(row, seed, self.study.train.combination))
        trials = [*self._needed(row, seed).values(), own]
        return [replace(trial, job=replace(trial.job, test=False)) for trial in trials]

    def states(self, store: Store) -> dict[str, str]:
        """Trial id -> done, stale, failed, validated, started or new; stages included."""
        return {
            trial.id: store.state(trial.id, trial.job.code())
            for trial in [*self.stages, *self.trials]
        }

    def to_run(self, states: Mapping[str, str]) -> list[PlannedTrial]:
        """The trials without a valid record, and those that ``rerun`` asks for again."""
        wanted = {"new", "started", "validated"}
        if self.study.rerun:
            wanted.add(self.study.rerun)
        # By id: rows share trials where one is short for the other (``Method.identity``).
        chosen = {
            trial.id: trial for trial in [*self.stages, *self.trials] if states[trial.id] in wanted
        }
        return list(chosen.values())

    def _trained_on(self, row: Row) -> list[str | None]:
        """The combinations that a row trains a model for.

        [None] when one model is trained for all.
        """
        if row.method_class.per_combination:
            return [combination.name for combination in self.combinations]
        return [self.study.train.combination]

    def _needed(self, row: Row, seed: int) -> dict[str, PlannedTrial]:
        """The models that a row's trial needs, trained on all modalities with the same recipe and
        seed.
        """
        everything = self.combinations[-1].name
        found = {}
        for name, need in row.method_class.needs.items():
            stage = Row(f"{row.method} {name}", need.method, "paper", resolve_defaults(need.method))
            found[name] = PlannedTrial(stage, seed, self._job(stage, seed, everything), stage=True)
        return found

    @cached_property
    def _facts(self) -> dict[str, Any]:
        facts = dataset_facts(self.dataset)
        wanted = self.study.dataset.fingerprint
        if wanted is not None and not facts["fingerprint"].startswith(wanted):
            raise UserError(
                f"dataset.fingerprint={wanted}, and the data given have {facts['fingerprint']}: it"
                " is another copy"
            )
        return facts

    def _job(self, row: Row, seed: int, only: str | None) -> Job:
        study = self.study
        method, hparams = identity(row)
        spec = TrialSpec(
            dataset=self._facts,
            backbone=self.backbone,
            method=method,
            variant=row.variant,
            hparams=hparams,
            train=asdict(study.train) | {"combination": only},
            missing=recorded(study.missing),
            evaluation=evaluation_facts(study.evaluation, study.train),
            seed=seed,
            source=source_hash(Path(row.file)) if row.file else None,
            needs={name: stage.id for name, stage in self._needed(row, seed).items()},
        )
        return Job(
            spec,
            row.label,
            str(Store.below(study.output).root),
            device=self.device,
            cuda_graph=study.resources.cuda_graph,
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
    _check_places(config.root, config.manifest, config.name, cls)
    root = config.root
    if not root and cls.root_variable:
        root = os.environ.get(cls.root_variable)
    cache = _absolute(config.cache or Path(study.output) / "cache")
    return cls(
        _absolute(root) if root else None,
        _absolute(config.manifest) if config.manifest else None,
        config.protocol,
        config.limit,
        config.options,
        cache,
    )


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().resolve()


def _check_places(root: str | None, manifest: str | None, name: str, cls: type[Dataset]) -> None:
    """UserError for a place that the data are not read from."""
    if cls.embedded and root is not None:
        raise UserError(
            f"dataset.root={root}: {name} comes with a package and is not read from a folder;"
            " leave dataset.root out"
        )
    if manifest is not None and (cls.embedded or cls.root_variable is not None):
        raise UserError(
            f"dataset.manifest={manifest} describes data of your own, and {name} is not read from"
            " it; dataset=manifest is"
        )
    for key, path in (("dataset.root", root), ("dataset.manifest", manifest)):
        if path is not None:
            checked_folder(key, path)


def data_needed(study: Study) -> str | None:
    """What a study must be given before its rows can be told, in a sentence.

    None for a dataset that is known without data.
    """
    if study.dataset.manifest is not None or study.dataset.root is not None:
        return None
    dataset = open_dataset(study)
    try:
        dataset.spec  # noqa: B018
    except UserError as error:
        return str(error)
    return None


def _selectable(combination: str, spec: DataSpec) -> str:
    """The name of the combination that models are trained and selected on.

    UserError where no sample of val has it.
    """
    name = parse(combination, spec.names).name
    if name in spec.unselectable:
        raise UserError(
            f"train.combination={name}: no sample of val of {spec.name} has it, by which weights"
            " would be selected; give val such samples, or name another combination"
        )
    return name


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """What of a dataset decides a trial's result. Needs the data."""
    return {
        "name": dataset.spec.name,
        "fingerprint": dataset.fingerprint(),
        "protocol": dataset.protocol,
        "limit": dataset.limit,
        "options": dataset.facts,
        "synthetic": dataset.spec.synthetic,
    }


def _network(study: Study, spec: DataSpec) -> Backbone:
    given = dict(study.backbone)
    name = str(given.pop("name", "small"))
    cls = BACKBONES.get(name)
    if spec.task not in cls.tasks:
        raise UserError(
            f"backbone '{name}' does not do {spec.task}, the task of {spec.name}; it does:"
            f" {', '.join(cls.tasks)}"
        )
    return cls(spec, given)
