"""A study: flat YAML in studies/, typed dataclasses here, ``key=value`` on the command line.

``base: NAME`` in a study file takes over another study's keys, presets included, below the file's
own.

Every mistake (a misspelt study, key or name, a wrong type, a value out of range) is one UserError
that names the nearest valid one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from harness import PROJECT
from harness.errors import UserError, nearest, unknown
from harness.errors.credentials import remember
from harness.registry import METHODS
from harness.study.checks import checked_folder, checked_name, checked_texts
from harness.study.places import check_places
from harness.study.search_space import SearchConfig, check_search, check_seeds
from harness.study.seed_rounds import SeedRounds, read_seed_rounds
from harness.study.study_file import (
    ARCHIVE,
    UNREADABLE,
    Layer,
    first_line,
    method_files,
    read_argument,
    read_study_file,
    shielded,
    unshielded,
)
from harness.training.missing import has_causes
from harness.training.recipe import EvaluationConfig, MissingConfig, TrainConfig, setting

SHORTEST_STALL_MINUTES = 0.2
STUDIES = PROJECT / "studies"
DEFAULT_STUDY = "quickstart"
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
        metadata={"help": "NAME, NAME:variant, ./file.py or {method, variant, hparams, label}"},
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


HEX = "dataset.fingerprint"
SEEDS = "seeds"
FILE_KEYS = ("name", "presets")
"""Keys that only a study file has; the name is the file's own."""

LARGEST = 2**31 - 1
"""The largest whole number of a setting or a seed."""

NAMED_BLOCKS = ("dataset", "backbone")
OWN_KEYS = ("description", "published_table", "views")
"""What a study does not take over from its base: they say what one study asks and what it is
compared with.
"""


def study_files() -> dict[str, Path]:
    """Every shipped study's name and file."""
    return {path.stem: path for path in sorted(STUDIES.glob("*.yaml"))}


def load_study(arguments: Sequence[str]) -> Study:
    """The study that ``study=NAME key=value ...`` describes: its base, the file, then its preset,
    then the arguments.
    """
    given = _arguments(arguments)
    if "base" in given:
        raise UserError(
            f"base={given['base']} belongs into a study file; on the command line"
            f" study={given['base']} names the study"
        )
    for key in FILE_KEYS:
        if key in given:
            raise UserError(f"{key} belongs into a study file; a study is called like its file")
    name, path = _find_study(given.pop("study", DEFAULT_STUDY))
    command = _normalised(given, "the command line")
    body = _with_base(read_study_file(path), path, others_named="methods" in command)
    preset = command.get("preset", body.get("preset"))
    layers = [body, _preset(body, preset), command] if preset is not None else [body, command]
    merged: Layer = {}
    for layer in layers:
        merged = _merge(merged, layer)
        _check_own_files(layer, merged)
    # Before anything can be said of the address.
    remember(str(merged.get("tracking", {}).get("uri", "")))
    rounds = _seed_rounds(merged)
    seeds = {} if rounds is None else {SEEDS: list(range(rounds.first))}
    study = _typed(merged | seeds | {"name": checked_name(name)})
    study.seed_rounds = rounds
    study.output = checked_folder("output", study.output)
    _check_amounts(study.resources)
    _check_settings(study, "")
    _check_lists(study)
    _check_stall_minutes(study.resources.stall_minutes)
    checked_texts(study.description, plain(study))
    data = study.dataset
    check_places(
        {"output": study.output, "dataset.root": data.root}
        | {"dataset.manifest": data.manifest, "dataset.cache": data.cache}
    )
    return study


def _seed_rounds(merged: Layer) -> SeedRounds | None:
    given = merged.get(SEEDS)
    return read_seed_rounds(given) if isinstance(given, Mapping) else None


def plain(study: Study) -> Layer:
    """What of a study is written to its store, by key."""
    return {
        "methods": study.methods,
        "dataset.options": study.dataset.options,
        "backbone": study.backbone,
        "hparams": study.hparams,
        "search": study.search.space,
    }


def _arguments(arguments: Sequence[str]) -> Layer:
    parsed: Layer = {}
    for argument in arguments:
        key, separator, _ = argument.partition("=")
        if not separator or not key:
            hint = f"; did you mean study={argument}?" if argument in study_files() else ""
            raise UserError(f"'{argument}' is not of the form key=value{hint}")
        parsed = _merge(parsed, _shorthand(read_argument(_quoted(argument))))
    return parsed


def _quoted(argument: str) -> str:
    """Hexadecimal digits are text, also where they look like a number: 0012 or 12e4."""
    key, _, value = argument.partition("=")
    return f"{key}='{value}'" if key == HEX and value != "null" else argument


def _find_study(name: object) -> tuple[str, Path]:
    if not isinstance(name, str):
        raise UserError(f"study={name} must be the name of a study or a file")
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if "\0" in name or not path.is_file():
            raise UserError(f"the study file {name} does not exist")
        return path.stem, path
    if name not in study_files():
        raise unknown("study", name, study_files())
    return name, study_files()[name]


def _with_base(body: Layer, path: Path, others_named: bool) -> Layer:
    """The file's keys over those of the study that its ``base`` names.

    A base has none itself, so there are no cycles. ``others_named``: the methods are not the
    file's own.
    """
    own = dict(body)
    name = own.pop("base", None)
    if own.get("name", path.stem) != path.stem:
        raise UserError(f"{path}: name={own['name']}: a study is called like its file; rename that")
    _check_archive(own, path, others_named)
    own = _normalised(own, path.name)
    _check_own_files(own, own)
    if name is None:
        return own
    below = _base_file(str(name), path)
    base = read_study_file(below)
    if "base" in base:
        whose = (
            "itself"
            if below.resolve() == path.resolve()
            else f"a study that has the base {base['base']}"
        )
        raise UserError(
            f"{path.name}: base={name} is {whose}; a base must be a study without a base"
        )
    _check_archive(base, below, others_named or "methods" in own)
    return _merge(
        {key: value for key, value in _normalised(base, below.name).items() if key not in OWN_KEYS},
        own,
    )


def _check_archive(content: Layer, path: Path, others_named: bool) -> None:
    """UserError where a study that came in an archive would run a file of this machine.

    Its key is taken out of the content.
    """
    came_in = content.pop(ARCHIVE, None)
    files = method_files(content)
    if came_in is None or others_named or not files:
        return
    raise UserError(
        f"{path} came in an archive, and what an archive holds is data: its method file"
        f" {files[0]} is not run; if you have that file, name your own copy, such as"
        f" methods=[{{method: PATH/{Path(files[0]).name}, label: ...}}]"
    )


def _base_file(name: str, path: Path) -> Path:
    """A shipped study's file, or a file whose name is taken from the folder of the study that names
    it.
    """
    try:
        return _find_study(
            str(path.parent / name) if Path(name).suffix in {".yaml", ".yml"} else name
        )[1]
    except UserError as error:
        raise UserError(f"{path.name}: base={name}: {error}") from error


def _preset(body: Layer, preset: object) -> Layer:
    presets = body.get("presets") or {}
    if not isinstance(preset, str) or preset not in presets:
        raise unknown("preset", str(preset), presets)
    changes = presets[preset] or {}
    if not isinstance(changes, dict):
        raise UserError(f"preset {preset} must be a block of keys, and is {changes}")
    return _normalised(changes, f"preset {preset}")


def _shorthand(layer: Layer) -> Layer:
    blocks = {key: {"name": layer[key]} for key in NAMED_BLOCKS if isinstance(layer.get(key), str)}
    single = {"methods": [layer["methods"]]} if isinstance(layer.get("methods"), str) else {}
    return layer | blocks | single


def _normalised(layer: Layer, source: str) -> Layer:
    layer = _shorthand(layer)
    _check_keys(layer, Study, "", source)
    return layer


def _check_keys(layer: Mapping[str, Any], node: type, prefix: str, source: str) -> None:
    known = {f.name: f for f in fields(node) if not f.metadata.get("derived")}
    for key, value in layer.items():
        if key not in known:
            candidates = (
                [name for name, _, _ in leaves(Study())]
                if not prefix
                else [f"{prefix}{n}" for n in known]
            )
            raise UserError(
                f"{source}: unknown key '{prefix}{key}'{nearest(f'{prefix}{key}', candidates)}"
            )
        default = getattr(node(), key)
        if is_dataclass(default) and not isinstance(default, type):
            if not isinstance(value, Mapping):
                example = f"{prefix}{key}.{fields(default)[0].name}=..."
                raise UserError(
                    f"{source}: {prefix}{key}={value} must be a block of keys, such as {example}"
                )
            _check_keys(value, type(default), f"{prefix}{key}.", source)
        elif isinstance(default, dict) and not isinstance(value, Mapping):
            raise UserError(
                f"{source}: {prefix}{key}={value} must be a block of keys, such as"
                f" {prefix}{key}.NAME=..."
            )
        elif key == SEEDS and isinstance(value, Mapping):
            continue  # rounds, which are read when all layers are known
        elif isinstance(default, list) and not isinstance(value, list):
            raise UserError(
                f"{source}: {prefix}{key}={value} must be a list, such as {prefix}{key}=[{value}]"
            )
        elif isinstance(default, bool) and not isinstance(value, bool):
            raise UserError(f"{source}: {prefix}{key}={value} must be true or false")


def _merge(base: Layer, change: Layer) -> Layer:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        renamed = key in NAMED_BLOCKS and isinstance(old, dict) and isinstance(value, dict)
        renamed = renamed and "name" in value and old.get("name", value["name"]) != value["name"]  # type: ignore[union-attr]
        # Another dataset or backbone: the old one's options do not concern it.
        merged[key] = (
            _merge(old, value)
            if isinstance(old, dict) and isinstance(value, dict) and not renamed
            else value
        )
    return merged


def _check_own_files(layer: Layer, merged: Layer) -> None:
    """UserError where a layer gives hyperparameters to a method file by the name of a built-in.

    ``hparams.NAME`` is of the built-in method: a shipped study's values for it are none of a
    user's file that is called like it.
    """
    given = layer.get("hparams") or {}
    stems = {Path(file).stem: file for file in method_files(merged)}
    for name in given if isinstance(given, Mapping) else ():
        if name not in stems or name not in METHODS.names() or _names(merged, name):
            continue
        raise UserError(
            f"hparams.{name} is of the built-in method; give values to your file in its entry:"
            f" {{method: {stems[name]}, hparams: {{...}}}}"
        )


def _names(merged: Layer, method: str) -> bool:
    """Whether the methods of a study name a built-in one."""
    entries = [
        entry.get("method") if isinstance(entry, dict) else entry for entry in merged["methods"]
    ]
    return any(isinstance(name, str) and name.partition(":")[0] == method for name in entries)


def _typed(layer: Layer) -> Study:
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Study), shielded(layer))
        study: Study = unshielded(OmegaConf.to_object(merged))
        return study
    except UNREADABLE as error:
        key = getattr(error, "full_key", "") or "study"
        raise UserError(f"{key}: {first_line(error)}") from error


def _check_settings(node: Any, prefix: str) -> None:
    for f in fields(node):
        value, key = getattr(node, f.name), f"{prefix}{f.name}"
        if is_dataclass(value):
            _check_settings(value, f"{key}.")
            continue
        low, high, choices = (f.metadata.get(name) for name in ("low", "high", "choices"))
        if value is None or (value == AUTO and f.default == AUTO):
            continue
        if choices and value not in choices:
            raise UserError(f"{key}='{value}' is not a legal value{nearest(str(value), choices)}")
        if isinstance(value, int) and value > LARGEST:
            raise UserError(f"{key}={value} must be at most {LARGEST}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}={value} must be a finite number")
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            raise UserError(f"{key}={value} must be {bounds}")


def _check_lists(study: Study) -> None:
    if not study.methods:
        raise UserError("methods is empty; name at least one, such as methods=[sf_md,hemis]")
    if not study.seeds:
        raise UserError("seeds is empty; name at least one, such as seeds=[0,1,2]")
    check_seeds("seeds", study.seeds)
    rounds: SeedRounds | None = study.seed_rounds
    check_search(study.search, study.seeds if rounds is None else range(rounds.most))
    missing = study.missing
    if has_causes(missing) and missing.rate > 0:
        raise UserError(
            f"missing.rate={missing.rate} is one rate for all modalities, and missing.rates or"
            " missing.together says it for each; leave one of them out"
        )
    if has_causes(missing) and missing.train == "none":
        key = "missing.rates" if missing.rates else "missing.together"
        raise UserError(
            f"{key} does nothing where missing.train=none; set missing.train=random, or leave it"
            " out"
        )
    if missing.rate > 0 and missing.train == "none":
        raise UserError(
            f"missing.rate={missing.rate} does nothing where missing.train=none; set"
            " missing.train=random, or leave the rate out"
        )


def _check_amounts(resources: ResourcesConfig) -> None:
    for key in ("cpus_per_trial", "gpus_per_trial"):
        value = getattr(resources, key)
        if value != AUTO and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UserError(f"resources.{key}={value} must be a number, or {AUTO}")


def _check_stall_minutes(minutes: float | None) -> None:
    if minutes and minutes < SHORTEST_STALL_MINUTES:
        raise UserError(
            f"resources.stall_minutes={minutes:g} is shorter than a worker may need to start;"
            f" give at least {SHORTEST_STALL_MINUTES:g}, or 0 for no limit"
        )


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
