"""The report's sections that explain rather than rank: data, methods, protocol, machines, the way
to repeat it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from harness.analysis.results import Results, dataset_name
from harness.protocol.schedules import schedule_sentence
from harness.reporting.document import Code, Facts, Section, bullets, section, table
from harness.reporting.sections.origins import mixtures
from harness.reporting.text import ABSENT, checkpoint_rule
from harness.study.arithmetic import precision_sentence
from harness.study.merged_plan import study_words
from harness.study.plan import Plan
from harness.study.recorded_data import Recorded
from harness.study.rows import Row
from harness.training.missing import missing_sentence
from harness.training.recipe import evaluation_facts

MACHINE_KEYS = ("output", "executor", "rerun", "resources", "tracking", "study")
"""Arguments that decide where and how a study runs, not what comes out."""

FOLDER_KEYS = {
    "dataset.root": "dataset.root=YOUR_COPY",
    "dataset.manifest": "dataset.manifest=YOUR_MANIFEST.csv",
}

ABSENT_DATA = (
    "the data were not at hand for this report: what is said of them here is what the store"
    " recorded"
)

MASKS = (
    "masks: per sample and epoch, one non-empty combination of what the sample has, drawn"
    " uniformly; all methods draw the same for the same seed, epoch and sample"
)


def data(results: Results) -> Section:
    """What was learned from: real or constructed, modalities, samples, fingerprint."""
    spec, dataset = results.plan.spec, results.plan.dataset
    facts = results.plan.trials[0].job.spec.dataset
    nature = (
        ["synthetic: these data are generated, and their numbers say nothing about real recordings"]
        if spec.synthetic
        else []
    )
    absent = [ABSENT_DATA] if isinstance(dataset, Recorded) else []
    lead = (
        f"{dataset_name(spec)}: {spec.task}, {len(spec.modalities)} modalities, {spec.predicted}."
    )
    lines = [
        *absent,
        *nature,
        *spec.notes,
        *dataset.remarks(),
        "samples: " + ", ".join(f"{split} {count}" for split, count in dataset.counts().items()),
        (
            f"protocol: {facts['protocol']}; limit per split: {facts['limit'] or 'none'};"
            f" fingerprint: `{facts['fingerprint']}`"
        ),
    ]
    rows = [[m.name, "x".join(map(str, m.shape)), m.description or ABSENT] for m in spec.modalities]
    header = ["modality", "channels x height x width", "what"]
    return section("Data", lead, bullets(lines), table(header, rows))


def methods(results: Results) -> Section:
    """Where each row's method comes from, where it departs from its paper, and what published
    weights amount to.
    """
    rows = results.plan.rows
    names = dict.fromkeys(row.method for row in rows)
    count = f"{len(rows)} {'row' if len(rows) == 1 else 'rows'} of {len(names)}"
    lead = (
        f"{count} {'method' if len(names) == 1 else 'methods'}: where each comes from, and where it"
        " departs from its paper."
    )
    return section(
        "Methods: provenance and deviations",
        lead,
        bullets(results.plan.left_out) if results.plan.left_out else None,
        *(_method(row, results.plan) for row in results.plan.rows),
    )


def _method(row: Row, plan: Plan) -> Facts:
    cls = row.method_class
    notes = row.weight_notes(plan.spec, plan.study.train.batch_size)
    settings = ", ".join(f"{key}={value!r}" for key, value in row.hparams.items())
    lines = (
        f"method: {row.method}, variant {row.variant}: {cls.variants[row.variant]}",
        *([f"file: {Path(row.file).name}"] if row.file else []),
        f"paper: {getattr(cls, 'citation', 'not given')}",
        f"provenance: {getattr(cls, 'provenance', 'not given')}",
        f"hyperparameters: {settings or 'none'}",
        *(f"weights: {note}" for note in notes),
        "deviations from the paper:",
    )
    return Facts(row.label, lines, tuple(cls.deviations) or ("none declared",))


def protocol(results: Results) -> Section:
    """What is the same for every row."""
    plan, chosen = results.plan, results.metric
    missing, arithmetic = plan.study.missing, precision_sentence(plan.study)
    lacking = (
        f"{missing_sentence(missing)}, pattern seed {missing.seed}"
        if missing.train == "random"
        else "as the data are"
    )
    lines = [
        f"network: {_settings(plan.backbone)}",
        f"training: SGD, {_settings(asdict(plan.study.train))}",
        *([f"precision: {arithmetic}"] if arithmetic else []),
        f"learning rate: {schedule_sentence(plan.study.train.schedule, plan.study.train.epochs)}",
        MASKS,
        f"modalities missing from training samples: {missing.train} ({lacking})",
        f"checkpoint: {checkpoint_rule(results)}; test is read after that",
        (
            "evaluation: every combination, on all samples that have its modalities;"
            f" {_settings(evaluation_facts(plan.study.evaluation, plan.study.train))}"
        ),
        f"{chosen.name}: {chosen.definition}",
    ]
    lead = "What is the same for every row: network, recipe, masks, checkpoint rule, evaluation."
    return section("Protocol", lead, bullets(lines))


def _settings(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def machines(results: Results) -> Section:
    """Versions and hardware, from the records."""
    environments = [
        done.record["environment"] | {"code": done.record["code"]} for done in results.finished
    ]
    keys = sorted({key for environment in environments for key in environment})
    rows = [
        [key, ", ".join(sorted({str(e[key]) for e in environments if key in e}))] for key in keys
    ]
    lines = mixtures(results)
    trials = f"{len(environments)} {'trial' if len(environments) == 1 else 'trials'}"
    lead = f"{trials} ran on one kind of machine with one set of library versions."
    if lines:
        lead = f"{trials} ran on different kinds of machine or library versions."
    return section(
        "Versions and hardware",
        lead,
        table(["what", "values over all trials"], rows),
        bullets(lines) if lines else None,
    )


def reproduce(name: str, arguments: Sequence[str]) -> Section:
    """A command per study; arguments that only say where and how to run are left out.

    Without ``study=`` in the arguments it is the study called ``name``.
    """
    words = study_words(arguments) or [name]
    which = "This command trains and reports" if len(words) == 1 else "These train and report"
    lead = f"{which} all of it; what is there already is not repeated."
    return section("How to reproduce", lead, *(Code(command(word, arguments)) for word in words))


def command(study: str, arguments: Sequence[str], module: str = "harness.run") -> str:
    """What runs a study, or makes its report, with the arguments of the command line."""
    changes = [_portable(argument) for argument in arguments if _key(argument) not in MACHINE_KEYS]
    return shlex.join(["python", "-m", module, f"study={study}", *changes])


def _key(argument: str) -> str:
    return argument.partition("=")[0].partition(".")[0]


def _portable(argument: str) -> str:
    return FOLDER_KEYS.get(argument.partition("=")[0], argument)
