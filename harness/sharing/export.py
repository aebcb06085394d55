"""From studies and their store to an archive.

It gets the finished trials, the studies in full, what the data were, and who made it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from harness.analysis.verification import unusable_record
from harness.errors import UserError
from harness.robust.evidence import FOLDER as CORRUPTED
from harness.robust.evidence import read_facts
from harness.sharing.archive import ENTRY, Entry, pack
from harness.store import ORIGIN, WEIGHTS, Json, Store, TrialDirectory
from harness.study.plan import Plan, PlannedTrial
from harness.study.recorded_data import FOLDER, described, description_name
from harness.study.rows import Row
from harness.training.executed_code import environment
from harness.training.missing import recorded
from harness.training.recipe import evaluation_facts

RECORDS = ("record.json", "selection.json")
"""What says that a trial is finished, or that its part on val is."""

OWN = {ORIGIN, "failure.json", "log.txt", "checkpoint.pt"}
"""Files of a trial that say how it went on this machine, not what came out."""

STUDY_KEYS = (
    *("description", "published_table", "views", "methods", "seeds", "dataset", "backbone"),
    *("train", "missing", "evaluation"),
)
"""What of a study decides its trials and their report; where and how it runs is everybody's own."""

DATASET_KEYS = ("name", "protocol", "limit", "options", "fingerprint")


@dataclass
class Exported:
    """What an archive got.

    ``trials``: their ids; ``unfinished``: how many planned ones are not finished; ``damaged``: a
    sentence for each trial that was left out as damaged.
    """

    manifest: Json
    trials: list[str] = field(default_factory=list)
    unfinished: int = 0
    damaged: list[str] = field(default_factory=list)


def export(
    plans: Sequence[Plan], store: Store, path: Path, by: str = "", weights: bool = True
) -> Exported:
    """Write the finished trials of some studies to a new archive.

    ``by`` is who gives it. Without ``weights`` it has those only that other trials of the studies
    start from. UserError when no trial is finished, or when the file exists.
    """
    if path.exists():
        raise UserError(f"{path} exists; give the archive another name, or remove that one")
    found = Exported({})
    facts: Json = {"by": by, "environment": environment("cpu"), "trials": {}}
    trials = {trial.id: trial for plan in plans for trial in [*plan.stages, *plan.trials]}
    if not any(finished(store.trial(trial_id)) for trial_id in trials):
        names = " and ".join(plan.study.name for plan in plans)
        raise UserError(f"nothing to export: no trial of {names} is finished in {store.root}")
    needed: set[str] = set()
    for trial in trials.values():
        needed |= set(trial.job.spec.needs.values())

    def entries() -> Iterator[Entry]:
        yield from _studies(plans)
        for trial in trials.values():
            yield from _trial(store, trial, weights or trial.id in needed, facts, found)

    found.manifest = pack(path, entries(), facts)
    return found


def finished(trial: TrialDirectory) -> Json | None:
    """The record of a finished trial, or of its part on val where test was not asked for.

    None when there is neither, whole.
    """
    return trial.selection()


# ---------------------------------------------------------------------- studies


def _studies(plans: Sequence[Plan]) -> Iterator[Entry]:
    data = {}
    for plan in plans:
        yield f"studies/{plan.study.name}.yaml", as_yaml(resolved(plan))
        description = described(plan.dataset)
        data[description_name(description)] = description
    for name, description in data.items():
        text = json.dumps(description, indent=1, sort_keys=True, allow_nan=False)
        yield f"{FOLDER}/{name}", text.encode()


def resolved(plan: Plan) -> Json:
    """A study with every row, hyperparameter and setting spelled out; no paths.

    No default of another version of the harness matters to it. Rows that a search has found are
    rows like the others; the search itself is not part of it.
    """
    study = plan.study
    facts = described(plan.dataset)["facts"]
    every: Json = {
        "description": study.description,
        "published_table": study.published_table,
        "views": study.views or None,
        "methods": [_entry(row) for row in plan.rows],
        "seeds": study.seed_rounds.as_setting() if study.seed_rounds else list(study.seeds),
        "dataset": {key: facts[key] for key in DATASET_KEYS},
        "backbone": dict(plan.backbone),
        "train": asdict(study.train),
        "missing": recorded(study.missing),
        "evaluation": evaluation_facts(study.evaluation, study.train),
    }
    return {key: every[key] for key in STUDY_KEYS if every[key] is not None}


class _Text(str):
    """A text that is quoted, because it may look like a number."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """YAML that OmegaConf reads as it was meant."""


_Dumper.add_representer(
    _Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'")
)


def as_yaml(study: Json) -> bytes:
    """A study as a file; the fingerprint is quoted: 12e4 is a number to some readers."""
    fingerprint = _Text(study["dataset"].get("fingerprint", ""))
    body = study | {"dataset": study["dataset"] | {"fingerprint": fingerprint}}
    return yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120).encode()


def _entry(row: Row) -> Json:
    method = f"./{Path(row.file).name}" if row.file else row.method
    return {
        "method": method,
        "variant": row.variant,
        "hparams": dict(row.hparams),
        "label": row.label,
    }


# ---------------------------------------------------------------------- trials


class _Busy(Exception):
    """Another process holds the trial."""


@contextmanager
def held(store: Store, trial_id: str) -> Iterator[bool]:
    """Hold a trial without waiting; False when another process holds it."""

    def give_up() -> None:
        raise _Busy

    with ExitStack() as stack:
        mine = True
        try:
            stack.enter_context(store.locked(trial_id, give_up))
        except _Busy:
            mine = False
        yield mine


def _trial(
    store: Store, planned: PlannedTrial, weights: bool, facts: Json, found: Exported
) -> Iterator[Entry]:
    """A trial's files while nobody can change them."""
    trial = store.trial(planned.id)
    with held(store, planned.id) as mine:
        record = finished(trial) if mine else None
        damage = unusable_record(trial) if mine else None
        changed = [] if record is None else trial.corrupted(record)
        if changed and not damage:
            damage = f"{' and '.join(changed)} changed after the record was written (sha256)"
        if damage is not None:
            found.damaged.append(
                f"trial {planned.id} ({planned.job.name}) is damaged and was left out: {damage}"
            )
        elif record is None:
            found.unfinished += 1
        else:
            names = _names(trial, record, weights)
            facts["trials"][planned.id] = {
                "label": planned.job.name,
                "left_out": sorted(set(record["files"]) - set(names)),
                "archives": (trial.origin() or {}).get("archives", []),
            }
            found.trials.append(planned.id)
            for name in names:
                yield f"trials/{planned.id}/{name}", trial / name


def _names(trial: TrialDirectory, record: Json, weights: bool) -> list[str]:
    """The files to export, evidence under corruptions behind the trial's own.

    The training state too where the part on test is still to be made from it.
    """
    there = {
        path.name
        for path in trial.path.iterdir()
        if path.is_file() and ENTRY.fullmatch(f"trials/{'0' * 16}/{path.name}")
    }
    chosen = there - OWN
    if "test" not in record["cells"] and weights:
        chosen |= there & {"checkpoint.pt"}
    files = sorted((trial / CORRUPTED).glob("*.npz"))
    corrupted = [f"{CORRUPTED}/{file.name}" for file in files if read_facts(file, record)]
    return [*sorted(chosen if weights else chosen - {WEIGHTS}), *corrupted]
