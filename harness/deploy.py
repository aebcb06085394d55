"""A trained model outside the harness: its weights, a card, and the way to load both.

The card says what the weights are. A card is plain data and holds all that is needed to build the
network again: neither the dataset's files nor the store are. What lies in the folder of a model:
``weights.pt`` (the state dict of the selected epoch), ``card.json`` and ``README.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.dataset import DataSpec, Modality
from harness.errors import UserError
from harness.method import Method
from harness.protocol.metrics import metric
from harness.registry import BACKBONES, METHODS
from harness.reporting.text import number, pipe_table
from harness.store import Json, file_sha256, read_json
from harness.training.spec import Job

FORMAT = 1
CARD, WEIGHTS = "card.json", "weights.pt"

USE = """```python
from harness.deploy import load

model = load("FOLDER")  # the folder of this file, downloaded; on the CPU, in evaluation mode
{use}
```"""
SCORES = "logits = model(inputs, present).logits"
VALUES = "values = model.predicted(model(inputs, present).logits)  # (B, 1), in the labels' unit"


def card(job: Job, record: Json, data: DataSpec) -> Json:
    """What the weights of a finished trial are; no path of this machine."""
    spec, method = job.spec, job.method_class()
    return {
        "format": FORMAT,
        "trial_id": spec.id,
        "label": job.label,
        "method": spec.method,
        "variant": spec.variant,
        "hparams": spec.hparams,
        "source": spec.source,
        "citation": method.citation,
        "provenance": method.provenance,
        "deviations": list(method.deviations),
        "training_only": list(method.training_only),
        "backbone": spec.backbone,
        "dataset": spec.dataset,
        "data": _received(data, record),
        "normalisation_recorded": "normalisation" in record,
        "train": spec.train,
        "missing": spec.missing,
        "seed": spec.seed,
        "metric": record["metric"],
        "test": {name: record["cells"]["test"][name] for name in record["combinations"]},
        "val_mean": record["val_mean"],
        "selected_epoch": record["selected_epoch"],
        "parameters": record["parameters"],
        "remarks": record["remarks"],
        "environment": record["environment"],
        "code": record["code"],
        "weights": record["files"][WEIGHTS],
    }


def _received(data: DataSpec, record: Json) -> Json:
    """The description of the data, with the mean and deviation that the trial's inputs had."""
    described = asdict(data)
    for modality in described["modalities"]:
        modality.update(record.get("normalisation", {}).get(modality["name"], {}))
    return described


def load(folder: str | Path, method_file: str | None = None) -> Method:
    """The model in a folder, in evaluation mode on the CPU.

    ``method_file``: the file of its method, where that is not in the registry.

    Call it with inputs (name -> (B, C, H, W) float32, normalised; absent ones may hold anything)
    and present (B, V) bool. UserError when the card is not there or the weights are not those that
    it describes.
    """
    import torch

    path = Path(folder)
    found = read_json(path / CARD)
    if found is None or found.get("format") != FORMAT:
        raise UserError(
            f"{path}: there is no {CARD} of format {FORMAT}; give the folder of a model"
        )
    if not (path / WEIGHTS).is_file():
        raise UserError(
            f"{path}: there is no {WEIGHTS}; its card describes the file with sha256"
            f" {found['weights']['sha256']}"
        )
    if file_sha256(path / WEIGHTS) != found["weights"]["sha256"]:
        raise UserError(
            f"{path / WEIGHTS} is not the file that its card describes (sha256); fetch it again"
        )
    model = _built(found, method_file)
    model.load_state_dict(torch.load(path / WEIGHTS, map_location="cpu", weights_only=True))
    return model.eval()


def _built(found: Json, method_file: str | None) -> Method:
    """The network of a card, with weights of no meaning."""
    options = {key: value for key, value in found["backbone"].items() if key != "name"}
    backbone = BACKBONES.get(found["backbone"]["name"])(_data_spec(found["data"]), options)
    return METHODS.get(method_file or found["method"])(backbone, found["variant"], found["hparams"])


def _data_spec(data: Mapping[str, Any]) -> DataSpec:
    """What JSON made of a DataSpec, back: its lists were tuples."""
    modalities = tuple(Modality(**_with_tuples(modality)) for modality in data["modalities"])
    return DataSpec(**_with_tuples(data) | {"modalities": modalities})


def _with_tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in content.items()
    }


# ---------------------------------------------------------------------- for people


def card_text(found: Json) -> str:
    """The card as Markdown: what it is, how good it is, what it takes, how it is loaded."""
    chosen = metric(found["metric"])
    facts = found["dataset"]
    synthetic = ", **synthetic data**" if facts["synthetic"] else ""
    unit = f" in {chosen.unit}" if chosen.unit else ""
    scores = [
        [name, number(cell["value"], chosen), str(cell["n"])]
        for name, cell in found["test"].items()
    ]
    test = "\n".join(pipe_table(["present", f"{chosen.name}{unit}", "samples"], scores))
    title = (
        f"# {found['label']}, seed {found['seed']}, on {facts['name']}"
        f" ({facts['protocol']}){synthetic}"
    )
    sections = [
        (
            f"{title}\n\nTrial `{found['trial_id']}`, weights of epoch {found['selected_epoch']}"
            " (counted from 0), selected on val."
        ),
        f"## Test\n\n{test}",
        f"## Use\n\n{_use(found['data'])}\n\n{_inputs(found)}",
        (
            f"## Method\n\n{found['method']} (variant `{found['variant']}`):"
            f" {found['citation']}\n\n{_method(found)}"
        ),
        (
            f"## Files\n\n`{WEIGHTS}`: state dict, {found['weights']['bytes']} bytes, sha256"
            f" `{found['weights']['sha256']}`; {found['parameters']['inference']} parameters at"
            f" inference. `{CARD}`: all of this for machines."
        ),
    ]
    return "\n\n".join(sections) + "\n"


def _use(data: Mapping[str, Any]) -> str:
    return USE.format(use=VALUES if data["task"] == "regression" else SCORES)


def _inputs(found: Json) -> str:
    """What a caller hands over."""
    data = found["data"]
    names = ", ".join(modality["name"] for modality in data["modalities"])
    head = ["input", "C x H x W", "what", "mean subtracted", "then divided by"]
    without = "nothing: it is as encoders receive it"
    if not found["normalisation_recorded"]:
        without = "not recorded: the trial is of an older version"
    rows = []
    for modality in data["modalities"]:
        shape = " x ".join(map(str, modality["shape"]))
        mean, std = _listed(modality["mean"]) or without, _listed(modality["std"])
        rows.append([modality["name"], shape, modality["description"], mean, std])
    table = "\n".join(pipe_table(head, rows))
    classes = ", ".join(data["classes"][:12]) + (", ..." if len(data["classes"]) > 12 else "")
    predicted = f"Classes: {classes}."
    if data["task"] == "regression":
        mean, deviation = data["label_scale"]
        predicted = f"One number; in training labels had mean {mean:g}, deviation {deviation:g}."
    padded = [modality["name"] for modality in data["modalities"] if modality.get("frames")]
    if padded:
        predicted += (
            f" The last channel of {', '.join(padded)} is 1 where there is a frame; behind the end"
            " every channel is 0."
        )
    return (
        f"`inputs`: name to float32 (B, C, H, W). `present`: bool (B, {len(data['modalities'])}),"
        f" columns {names}; what an absent modality holds cannot influence the"
        f" output.\n\n{table}\n\n{predicted}"
    )


def _listed(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _method(found: Json) -> str:
    items = [
        found["provenance"],
        *(f"`{name}`: {value}" for name, value in found["hparams"].items()),
        *(f"departs: {deviation}" for deviation in found["deviations"]),
        *found["remarks"],
    ]
    return "\n".join(f"- {item}" for item in items)
