"""The report's sections that explain rather than rank: data, cost, methods, protocol, machines, the way to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from harness.plan import Row
from harness.render.text import ABSENT, checkpoint_rule, pipe_table
from harness.results import Finished, Results, dataset_name

MACHINE_KEYS = ("output", "executor", "rerun", "resources", "tracking", "study")
"""Arguments that decide where and how a study runs, not what comes out."""

FOLDER_KEYS = {"dataset.root": "dataset.root=YOUR_COPY", "dataset.manifest": "dataset.manifest=YOUR_MANIFEST.csv"}

MASKS = (
    "masks: per sample and epoch, one non-empty combination of what the sample has, drawn uniformly; all methods draw the same "
    "for the same seed, epoch and sample"
)


def data(results: Results) -> list[str]:
    """What was learned from: real or constructed, modalities, samples, fingerprint."""
    spec, dataset = results.plan.spec, results.plan.dataset
    facts = results.plan.trials[0].job.spec.dataset
    nature = ["synthetic: these data are generated, and their numbers say nothing about real recordings"] if spec.synthetic else []
    lines = [
        f"{dataset_name(spec)}: {spec.task}, {len(spec.modalities)} modalities, {len(spec.classes)} classes",
        *nature,
        *spec.notes,
        "samples: " + ", ".join(f"{split} {count}" for split, count in dataset.counts().items()),
        f"protocol: {facts['protocol']}; limit per split: {facts['limit'] or 'none'}; fingerprint: `{facts['fingerprint']}`",
    ]
    rows = [[m.name, "x".join(map(str, m.shape)), m.description or ABSENT] for m in spec.modalities]
    return [
        "## Data",
        "",
        *(f"- {line}" for line in lines),
        "",
        *pipe_table(["modality", "channels x height x width", "what"], rows),
    ]


def cost(results: Results) -> list[str]:
    """Parameters, time and memory of each row."""
    rows = [[row.label, *_costs(results.of(row.label))] for row in results.plan.rows]
    header = ["method", "parameters in training", "at inference", "train seconds (mean)", "peak memory in MiB (largest)"]
    note = (
        "Train seconds: epochs with their validation, without the final evaluation. Peak memory: of the GPU, or, on a CPU, of the "
        "whole process, which may have run other trials before."
    )
    return ["## Cost", "", *pipe_table(header, rows), "", note]


def _costs(trials: Sequence[Finished]) -> list[str]:
    if not trials:
        return [ABSENT] * 4
    records = [done.record for done in trials]
    parameters = records[0]["parameters"]
    seconds = sum(record["train_seconds"] for record in records) / len(records)
    memory = max(record["peak_memory_bytes"] for record in records) / 2**20
    return [f"{parameters['training']:,}", f"{parameters['inference']:,}", f"{seconds:.1f}", f"{memory:.0f}"]


def methods(results: Results) -> list[str]:
    """Where each row's method comes from and where it departs from its paper."""
    sections = [line for row in results.plan.rows for line in ("", *_method(row))]
    return ["## Methods: provenance and deviations", *sections]


def _method(row: Row) -> list[str]:
    cls = row.method_class
    settings = ", ".join(f"{key}={value!r}" for key, value in row.hparams.items())
    deviations = [f"  - {deviation}" for deviation in cls.deviations] or ["  - none declared"]
    return [
        f"### {row.label}",
        "",
        f"- method: {row.method}, variant {row.variant}: {cls.variants[row.variant]}",
        *([f"- file: {Path(row.file).name}"] if row.file else []),
        f"- paper: {getattr(cls, 'citation', 'not given')}",
        f"- provenance: {getattr(cls, 'provenance', 'not given')}",
        f"- hyperparameters: {settings or 'none'}",
        "- deviations from the paper:",
        *deviations,
    ]


def protocol(results: Results) -> list[str]:
    """What is the same for every row."""
    plan, chosen = results.plan, results.metric
    missing = plan.study.missing
    lacking = f"rate {missing.rate:g}, pattern seed {missing.seed}" if missing.train == "random" else "as the data are"
    lines = [
        f"network: {_settings(plan.backbone)}",
        f"training: SGD, {_settings(asdict(plan.study.train))}",
        MASKS,
        f"modalities missing from training samples: {missing.train} ({lacking})",
        f"checkpoint: {checkpoint_rule(results)}; test is read after that",
        f"evaluation: every combination, on all samples that have its modalities; {_settings(asdict(plan.study.evaluation))}",
        f"{chosen.name}: {chosen.definition}",
    ]
    return ["## Protocol", "", *(f"- {line}" for line in lines)]


def _settings(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def machines(results: Results) -> list[str]:
    """Versions and hardware, from the records."""
    environments = [done.record["environment"] | {"code": done.record["code"]} for done in results.finished]
    keys = sorted({key for environment in environments for key in environment})
    rows = [[key, ", ".join(sorted({str(e[key]) for e in environments if key in e}))] for key in keys]
    return ["## Versions and hardware", "", *pipe_table(["what", "values over all trials"], rows)]


def reproduce(results: Results, arguments: Sequence[str]) -> list[str]:
    """One command; arguments that only say where and how to run are left out."""
    study = next((a for a in arguments if a.startswith("study=")), f"study={results.plan.study.name}")
    changes = [_portable(argument) for argument in arguments if _key(argument) not in MACHINE_KEYS]
    command = shlex.join(["python", "-m", "harness.run", study, *changes])
    return ["## How to reproduce", "", "```", command, "```"]


def _key(argument: str) -> str:
    return argument.partition("=")[0].partition(".")[0]


def _portable(argument: str) -> str:
    return FOLDER_KEYS.get(argument.partition("=")[0], argument)
