"""From a study's ``methods`` and ``hparams`` to its rows: methods with a variant and all their
hyperparameters.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.backbones import Backbone
from harness.dataset import DataSpec
from harness.errors import UserError, is_one_line, unknown
from harness.method import Method
from harness.protocol.combinations import lattice
from harness.protocol.hyperparameters import Value, resolve
from harness.registry import METHODS
from harness.study.settings import Study

ENTRY_KEYS = ("method", "variant", "hparams", "label")
ALL = "all"
"""The entry of ``methods`` that stands for the baseline and every method that fits the data and the
network.
"""

SUMMARY_NAMES = ("average", "average_low", "average_high", "worst")
"""Columns of tables and names of tracked values that stand beside those of combinations."""

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

    def weight_notes(self, spec: DataSpec, batch_size: int) -> list[str]:
        """What its published weights amount to on these data, in sentences."""
        return self.method_class.weight_notes(spec, self.variant, self.hparams, batch_size)

    @property
    def method_class(self) -> type[Method]:
        """The class, from the registry or the user's file."""
        return METHODS.get(self.file or self.method)


def rows_of(study: Study, network: Backbone) -> list[Row]:
    """The rows in the study's order; UserError for an entry or a hyperparameter that cannot be."""
    entries = [
        full for entry in study.methods for full in (_all(network) if entry == ALL else [entry])
    ]
    for method in study.hparams:
        if method not in METHODS.names() and method not in {_entry(e)["name"] for e in entries}:
            raise unknown("method in hparams", method, METHODS.names())
    return [row for entry in entries for row in _entry_rows(study, _entry(entry))]


def joined(rows: Sequence[Row], winners: Sequence[Row]) -> list[Row]:
    """The rows, a search's winners behind those of their kind.

    UserError when two have one label.
    """
    found = list(rows)
    for winner in winners:
        of_its_kind = [at for at, row in enumerate(found) if row.kind == winner.kind]
        found.insert(of_its_kind[-1] + 1, winner)
    labels = [row.label for row in found]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(
                f"two rows are called '{label}'; give one of them a label: {{method: ..., label:"
                " ...}"
            )
    return found


def _all(network: Backbone) -> list[str]:
    """The baseline, then the methods in registry order, that do the task and can be built on the
    network and these data.
    """
    found = {name: cls for name, cls in METHODS.listing().items() if not isinstance(cls, str)}
    order = [
        *(n for n, cls in found.items() if cls.role == "baseline"),
        *(n for n, cls in found.items() if cls.role == "method"),
    ]
    return [name for name in order if _fits(name, found[name], network)]


def left_out(study: Study, network: Backbone) -> list[str]:
    """Sentences about the methods that ``all`` would stand for, were the data complete."""
    spec = network.spec
    if ALL not in study.methods or (spec.complete is None and not spec.unselectable):
        return []
    whole = type(network)(replace(spec, complete=None, unselectable=()), network.values)
    wanting: dict[str, list[str]] = {}
    for name, cls in METHODS.listing().items():
        if isinstance(cls, str) or cls.role not in ("baseline", "method"):
            continue
        lacking = _lacking(cls, spec)
        if lacking and _fits(name, cls, whole):
            wanting.setdefault(lacking, []).append(name)
    return [
        f"left out of methods=all: {', '.join(names)}, for want of {lacking}"
        for lacking, names in wanting.items()
    ]


def _lacking(cls: type[Method], spec: DataSpec) -> str:
    """The samples without which a method cannot be trained on these data; empty where they are
    there.
    """
    if cls.needs_complete_data and _too_few_complete(spec):
        return f"training samples that have every modality (there are {spec.complete})"
    # Models that others start from are trained, and their weights selected, on all modalities.
    if cls.needs and lattice(spec.names)[-1].name in spec.unselectable:
        return (
            "val samples that have every modality (there are none), by which the weights of its"
            f" {' and '.join(cls.needs)} are selected"
        )
    return ""


def _too_few_complete(spec: DataSpec) -> bool:
    return spec.complete is not None and spec.complete < FEWEST


def _fits(name: str, cls: type[Method], network: Backbone) -> bool:
    spec = network.spec
    if spec.task not in cls.tasks or _lacking(cls, spec):
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
        raise UserError(
            f"methods entry {entry!r} must be NAME, NAME:variant, ./file.py or {{method: NAME,"
            " ...}"
        )
    for key in block:
        if key not in ENTRY_KEYS:
            raise unknown("key in methods entry", str(key), ENTRY_KEYS)
    for key in ("method", "variant", "label"):
        _check_text(key, block.get(key))
    if not isinstance(block.get("hparams") or {}, dict):
        raise UserError(
            f"methods entry of {block['method']}: hparams={block['hparams']} must be a block of"
            " hyperparameters, such as {alpha: 0.1}"
        )
    name, _, variant = str(block["method"]).partition(":")
    file = str(Path(name).resolve()) if name.endswith(".py") else None
    return {
        "name": Path(name).stem if file else name,
        "file": file,
        "variant": block.get("variant") or variant or "paper",
        "hparams": dict(block.get("hparams") or {}),
        "label": block.get("label"),
    }


def _check_text(key: str, value: object) -> None:
    """UserError where a name in a methods entry is not one line of text."""
    if value is None or (isinstance(value, str) and is_one_line(value)):
        return
    raise UserError(f"methods entry: {key}={value!r} must be one line of text; put it into quotes")


def _entry_rows(study: Study, entry: dict[str, Any]) -> list[Row]:
    name, file, variant = entry["name"], entry["file"], entry["variant"]
    cls = METHODS.get(file or name)
    if variant not in cls.variants:
        raise unknown(f"variant of {name}", variant, cls.variants)
    # The values of a built-in method are none of a user's file that is called like it.
    own_file = file is not None and name in METHODS.names()
    common = {} if own_file else study.hparams.get(name) or {}
    if not isinstance(common, dict):
        raise UserError(
            f"hparams.{name}={common} must be a block of hyperparameters, such as"
            f" hparams.{name}.alpha=..."
        )
    given = common | entry["hparams"]
    axes = {key: value for key, value in given.items() if isinstance(value, list)}
    empty = [key for key, values in axes.items() if not values]
    if empty:
        raise UserError(
            f"hparams.{name}.{empty[0]}=[] leaves no row of {name}; give at least one value, or"
            " leave the method out"
        )
    shown = list(dict.fromkeys([*axes, *entry["hparams"]]))
    rows = []
    for point in itertools.product(*axes.values()):
        values = given | dict(zip(axes, point, strict=True))
        hparams = resolve("hyperparameter", cls.hyperparameters, values, f"hparams.{name}")
        base = entry["label"] or (name if variant == "paper" else f"{name}:{variant}")
        suffix = [
            f"{key}={short(hparams[key], cls.hyperparameters[key].log)}"
            for key in (axes if entry["label"] else shown)
        ]
        rows.append(
            Row(f"{base}[{','.join(suffix)}]" if suffix else base, name, variant, hparams, file)
        )
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


def identity(row: Row) -> tuple[str, dict[str, Value]]:
    """The method and hyperparameters that a row's trials are known by.

    A hyperparameter that was added later is left out at its default.
    """
    declared = row.method_class.hyperparameters
    method, hparams = row.method, dict(row.hparams)
    if row.method_class.identity is not None:
        method, fixed = row.method_class.identity
        declared = METHODS.get(method).hyperparameters
        hparams = resolve_defaults(method) | hparams | dict(fixed)
    implied = {name for name, r in declared.items() if r.added_later and hparams[name] == r.default}
    return method, {name: value for name, value in hparams.items() if name not in implied}


def resolve_defaults(method: str) -> dict[str, Value]:
    """All hyperparameters of a method at their defaults."""
    return resolve("hyperparameter", METHODS.get(method).hyperparameters, {}, f"hparams.{method}")


def check_names(spec: DataSpec) -> None:
    """UserError where a modality is called like what reports call a summary of combinations, or
    where there are more modalities than combinations can be evaluated for.
    """
    lattice(spec.names)
    for name in spec.names:
        if name.casefold() in SUMMARY_NAMES:
            raise UserError(
                f"{spec.name} has a modality called '{name}', which is what reports call a summary"
                f" over combinations ({', '.join(SUMMARY_NAMES)}); rename it"
            )


def check_row(row: Row, network: Backbone, study: Study) -> None:
    """UserError where a row does not fit task, network, what the training data lack or what of
    them is encoded.
    """
    spec = network.spec
    unshown = row.method_class.uses_unshown(row.hparams)
    if unshown and study.train.encode == "present":
        raise UserError(
            f"hparams.{row.method}.{unshown}={row.hparams[unshown]} trains on modalities that are"
            " available and not shown, and train.encode=present does not encode them; use"
            " train.encode=dense"
        )
    if row.method_class.needs_complete_data:
        _check_complete(row, spec, study)
    if lacking := _lacking(row.method_class, spec):
        raise UserError(f"method '{row.label}' cannot do without {lacking}; leave it out")
    if spec.task not in row.method_class.tasks:
        why = row.method_class.unfit.get(spec.task)
        raise UserError(
            f"method '{row.label}' is for {', '.join(row.method_class.tasks)} only, and {spec.name}"
            f" is {spec.task}" + (f": {why}" if why else "")
        )
    row.method_class.check(spec, row.variant, row.hparams)
    row.method_class.check_backbone(network)


def _check_complete(row: Row, spec: DataSpec, study: Study) -> None:
    """Training data that a method needs complete must be so, or the study must say that the
    complete samples are enough.
    """
    lacking = (
        f"missing.train={study.missing.train} takes some away"
        if study.missing.train != "none"
        else ""
    )
    if spec.complete is not None:
        lacking = f"only {spec.complete} training samples of {spec.name} have every modality"
        if _too_few_complete(spec):
            raise UserError(
                f"method '{row.label}' needs complete training data and {lacking}; leave it out"
            )
    if lacking and not study.missing.complete_subset:
        raise UserError(
            f"method '{row.label}' needs complete training data and {lacking}; "
            "leave it out, or set missing.complete_subset=true to train it on the complete samples"
        )
