"""What a run has beside numbers: its data, its record, its weights; the study's has the report."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from harness.dataset import DataSpec
from harness.deploy import CARD, WEIGHTS, card, card_text
from harness.reporting.document import Document, Figure, Table
from harness.reporting.heatmap import INK, PALE
from harness.store import Json, TrialDirectory
from harness.study.plan import PlannedTrial

MODEL = "model"
TABLES = "mlflow.loggedArtifacts"
"""The tag by which MLflow knows which artifacts are tables."""

CONTEXT = "train, val, test"
COLOURS = {"var(--ink)": INK, "var(--pale)": PALE}


def log_dataset(
    client: Any, run_id: str, trial: PlannedTrial, data: DataSpec, counts: Mapping[str, int]
) -> None:
    """Log the trial's data as an input of its run: name, fingerprint, modalities, sizes.

    Nothing is copied, and no path is logged.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    facts = trial.job.spec.dataset
    source = {key: facts[key] for key in ("name", "protocol", "limit", "options", "synthetic")}
    dataset = Dataset(
        name=str(facts["name"]),
        digest=str(facts["fingerprint"])[:36],
        source_type="harness",
        source=json.dumps(source, sort_keys=True),
        schema=json.dumps({"mlflow_tensorspec": _schema(data)}),
        profile=json.dumps(
            {
                "task": data.task,
                "classes": len(data.classes),
                **{f"samples_{k}": n for k, n in counts.items()},
            }
        ),
    )
    client.log_inputs(
        run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", CONTEXT)])]
    )


def _schema(data: DataSpec) -> Json:
    def tensor(name: str, dtype: str, shape: Sequence[int]) -> Json:
        return {
            "name": name,
            "type": "tensor",
            "tensor-spec": {"dtype": dtype, "shape": [-1, *shape]},
        }

    dense = data.modalities[0].shape[1:] if data.task == "segmentation" else ()
    label = "float32" if data.task == "regression" else "int64"
    features = [tensor(modality.name, "float32", modality.shape) for modality in data.modalities]
    return {
        "features": json.dumps(features),
        "targets": json.dumps([tensor("label", label, dense)]),
    }


def log_trial(
    client: Any,
    run: Any,
    trial: PlannedTrial,
    files: TrialDirectory,
    record: Json,
    data: DataSpec,
    weights: str | None,
) -> None:
    """Log the record, and ``model/``: the card, and the weights.

    ``weights``: ``copy``, ``link`` (not copied where that is possible) or None.

    A trial that came in an archive without weights has none to log.
    """
    run_id, found = run.info.run_id, card(trial.job, record, data)
    client.log_artifact(run_id, str(files / "record.json"))
    client.log_text(run_id, json.dumps(found, indent=1, sort_keys=True), f"{MODEL}/{CARD}")
    client.log_text(run_id, card_text(found), f"{MODEL}/README.md")
    if files.lacks(WEIGHTS):
        return
    if weights == "copy" or (
        weights == "link" and not _linked(run.info.artifact_uri, files / WEIGHTS)
    ):
        client.log_artifact(run_id, str(files / WEIGHTS), MODEL)


def _linked(artifacts: str, weights: Path) -> bool:
    """Give the weights a second name below a run's folder of this machine; whether that worked.

    Not every file system has second names.

    The store replaces files and never writes into one, so that both names keep the same bytes.
    """
    place = urlparse(artifacts)
    if place.scheme not in ("", "file"):
        return False
    target = Path(unquote(place.path)) / MODEL / WEIGHTS
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        os.link(weights, temporary)
        temporary.replace(target)
        temporary.unlink(missing_ok=True)  # two names of one file are left as they are by replace
    except OSError:
        return False
    return True


# ---------------------------------------------------------------------- the study's


def log_report(client: Any, run_id: str, files: Sequence[Path], document: Document | None) -> str:
    """Log the report's files, and of a document its figures and tables.

    Returns the value of the tag that names the tables.
    """
    for path in files:
        client.log_artifact(run_id, str(path))
    if document is None:
        return "[]"
    for name, svg in figures(document).items():
        client.log_text(run_id, svg, f"figures/{name}.svg")
    found = tables(document)
    for name, table in found.items():
        client.log_text(run_id, json.dumps(table, ensure_ascii=False), f"tables/{name}.json")
    return json.dumps([{"path": f"tables/{name}.json", "type": "table"} for name in found])


def figures(document: Document) -> dict[str, str]:
    """The report's drawings as files of their own, in the colours of a light page."""
    drawn = [
        block
        for section in document.sections
        for block in section.blocks
        if isinstance(block, Figure)
    ]
    return {figure.name: _standing_alone(figure.svg) for figure in drawn}


def _standing_alone(svg: str) -> str:
    for variable, colour in COLOURS.items():
        svg = svg.replace(variable, colour)
    return svg


def tables(document: Document) -> dict[str, Json]:
    """The report's tables by the name of their section, as MLflow stores tables (columns, data)."""
    found: dict[str, Json] = {}
    for section in document.sections:
        for block in section.blocks:
            if isinstance(block, Table) and block.rows:
                name = _free(re.sub(r"[^a-z0-9]+", "_", section.title.lower()).strip("_"), found)
                found[name] = {
                    "columns": list(block.header),
                    "data": [list(map(str, row)) for row in block.rows],
                }
    return found


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """``name``, or ``name_2`` and so on where it is taken."""
    number = 1
    while (candidate := name if number == 1 else f"{name}_{number}") in taken:
        number += 1
    return candidate
