"""What a store knows about data that are not on this machine: enough for a report, not for
training.

``<output>/store/data/<hash of the facts>.json`` holds a dataset's facts (those of a trial's
identity), description, counts and remarks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from harness.dataset import SPLITS, Dataset, DataSpec, Modality, Split
from harness.errors import UserError
from harness.registry import DATASETS
from harness.store import Json, Store, canonical_json, read_json, write_json
from harness.study.plan import Plan, dataset_facts, open_dataset
from harness.study.settings import Study

FOLDER = "data"
WEIGHTS_FILE, WEIGHTS_SHA = "pretrained", "pretrained_sha256"
SHOWN = 8
"""Characters of a fingerprint in a sentence."""


class Recorded(Dataset):
    """A dataset by its description alone: it has facts and counts, and no samples."""

    def __init__(self, description: Json) -> None:
        facts = description["facts"]
        super().__init__(protocol=facts["protocol"], limit=facts["limit"])
        self.values = dict(facts["options"])
        self.description = description

    @property
    def spec(self) -> DataSpec:
        return spec_of(self.description["spec"])

    def fingerprint(self) -> str:
        return str(self.description["facts"]["fingerprint"])

    def counts(self) -> dict[str, int]:
        return {
            split: self.description["counts"][split]
            for split in SPLITS
            if split in self.description["counts"]
        }

    def remarks(self) -> list[str]:
        # Stores written before remarks were kept have none.
        return [str(sentence) for sentence in self.description.get("remarks", [])]

    def load(self, split: str) -> Split:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UserError(
            f"the samples of {self.spec.name} are not on this machine; only what the store recorded"
            " about them is"
        )


# ---------------------------------------------------------------------- descriptions


def described(dataset: Dataset) -> Json:
    """A dataset's facts, description, counts and remarks, as plain data."""
    if isinstance(dataset, Recorded):
        return dataset.description
    return {
        "facts": dataset_facts(dataset),
        "spec": asdict(dataset.spec),
        "counts": dataset.counts(),
        "remarks": dataset.remarks(),
    }


def description_name(description: Json) -> str:
    """The file of a description: named by its facts."""
    return f"{hashlib.sha256(canonical_json(description['facts']).encode()).hexdigest()[:16]}.json"


def remember(store: Store, dataset: Dataset) -> None:
    """Write a dataset's description into the store, unless it is there."""
    description = described(dataset)
    path = store.root / FOLDER / description_name(description)
    if not path.is_file():
        write_json(path, description)


def spec_of(body: Json) -> DataSpec:
    """A description of data from its plain form."""
    modalities = tuple(Modality(**_tuples(modality)) for modality in body["modalities"])
    return DataSpec(**_tuples(body) | {"modalities": modalities})


def _tuples(body: Json) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in body.items()}


# ---------------------------------------------------------------------- plans without data


def plan_with_recorded_data(study: Study, store: Store) -> Plan:
    """A study's plan; without its data, with what the store recorded about them.

    UserError when the data are neither here nor recorded, or when several copies of them are
    recorded and ``dataset.fingerprint`` does not say which.
    """
    try:
        plan = Plan(study)
        plan.trials, plan.dataset.counts()
        return plan
    except UserError:
        if _at_hand(open_dataset(study)):
            raise
        found = _candidates(study, store)
        if not found:
            raise
        return _planned(study, Recorded(_chosen(study, found)))


def _planned(study: Study, dataset: Dataset) -> Plan:
    """The plan; a file of pretrained weights is not needed where its sha256 is given, which is all
    that trials know of it.
    """
    sha256, path = (
        study.backbone.get(WEIGHTS_SHA),
        Path(str(study.backbone.get(WEIGHTS_FILE, "none"))),
    )
    if not sha256 or path.is_file():
        return Plan(study, dataset=dataset)
    others = {
        key: value
        for key, value in study.backbone.items()
        if key not in (WEIGHTS_FILE, WEIGHTS_SHA)
    }
    plan = Plan(replace(study, backbone=others), dataset=dataset)
    plan.backbone[WEIGHTS_SHA] = str(sha256)
    return plan


def _at_hand(dataset: Dataset) -> bool:
    """Whether a place of the data is given and there; embedded data need none, and no help."""
    given = [path for path in (dataset.root, dataset.manifest) if path is not None]
    return bool(given) and all(path.exists() for path in given)


def _candidates(study: Study, store: Store) -> list[Json]:
    """Descriptions of the data that finished trials of the store had, as far as the study's
    settings fit.
    """
    asked = open_dataset(study)
    wanted = {
        "name": study.dataset.name,
        "protocol": asked.protocol,
        "limit": asked.limit,
        "options": asked.facts,
    }
    found: dict[str, Json] = {}
    for record in _records(store):
        facts = record["spec"]["dataset"]
        fits = all(facts[key] == value for key, value in wanted.items())
        if fits and facts["fingerprint"].startswith(study.dataset.fingerprint or ""):
            found.setdefault(canonical_json(facts), record)
    descriptions = [_description(study, store, record) for record in found.values()]
    return [description for description in descriptions if description is not None]


def _records(store: Store) -> Iterator[Json]:
    for trial_id in store.ids():
        record = store.trial(trial_id).record()
        if record is not None:
            yield record


def _description(study: Study, store: Store, record: Json) -> Json | None:
    """What was written down about a trial's data, else what their class and the record tell.

    None when that is too little.
    """
    facts = record["spec"]["dataset"]
    written = read_json(store.root / FOLDER / description_name({"facts": facts}))
    if written is not None:
        return written
    try:
        spec = DATASETS.get(facts["name"])(
            protocol=facts["protocol"], limit=facts["limit"], options=facts["options"]
        ).spec
    except UserError:
        return None
    return {
        "facts": facts,
        "spec": asdict(replace(spec, synthetic=facts["synthetic"])),
        "counts": record["counts"],
    }


def _chosen(study: Study, found: list[Json]) -> Json:
    if len(found) == 1:
        return found[0]
    copies = ", ".join(
        f"{one['facts']['fingerprint'][:SHOWN]} ({', '.join(_sizes(one))})" for one in found
    )
    raise UserError(
        f"the data of {study.dataset.name} are not on this machine, and the store has trials on"
        f" {len(found)} copies of them: {copies}; say which with dataset.fingerprint=..."
    )


def _sizes(description: Json) -> list[str]:
    synthetic = ["synthetic"] if description["facts"]["synthetic"] else []
    return [
        *synthetic,
        *(f"{split} {count}" for split, count in Recorded(description).counts().items()),
    ]
