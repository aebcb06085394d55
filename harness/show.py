"""Show what there is: methods, datasets, studies, and the card of one of them or of a trial.

python -m harness.show methods|datasets|studies|study=NAME|method=NAME|dataset=NAME|trial=ID
[key=value ...]
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.cli import flags, guarded
from harness.errors import DONE, UserError, unknown

if TYPE_CHECKING:
    from harness.method import Method

TRAINING_ONLY_NOTE = "everything else, without the modules that only training needs"

HELP = """usage: python -m harness.show WHAT [key=value ...] [--help]

WHAT is one of
  methods | datasets | studies      a list
  method=NAME                       a method's card: paper, provenance, deviations,
                                    hyperparameters, parameters
  dataset=NAME [key=value ...]      a dataset's card; with dataset.manifest=PATH or
                                    dataset.root=FOLDER what is inferred of these data
  study=NAME [key=value ...]        a study's rows, trials and settings; needs no data
  trial=ID [output=runs]            a trial's record (the first characters of an id are enough)"""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    options, words = flags(arguments, ("--help", "-h"))
    if options or not words:
        print(HELP)
        return DONE
    what, separator, name = words[0].partition("=")
    lists: dict[str, Callable[[], str]] = {
        "methods": show_methods,
        "datasets": show_datasets,
        "studies": show_studies,
    }
    cards: dict[str, Callable[[str, Sequence[str]], str]] = {
        "method": show_method,
        "dataset": show_dataset,
        "study": show_study,
        "trial": show_trial,
    }
    if separator and what in cards:
        print(cards[what](name, words[1:]))
    elif not separator and what in lists:
        print(lists[what]())
    else:
        raise unknown("thing to show:", words[0], [*lists, *(f"{card}=..." for card in cards)])
    return DONE


# ---------------------------------------------------------------------- lists


def show_methods() -> str:
    """Every method with its variants and source."""
    from harness.registry import METHODS

    rows = []
    for name, found in METHODS.listing().items():
        # A string says why the file cannot be used.
        if isinstance(found, str):
            rows.append((name, found))
        else:
            rows.append((name, f"[{', '.join(found.variants)}] {found.citation}"))
    return _columns(rows)


def show_datasets() -> str:
    """Every dataset with its summary."""
    from harness.registry import DATASETS

    rows = []
    for name, found in DATASETS.listing().items():
        rows.append((name, found if isinstance(found, str) else found.summary))
    return _columns(rows)


def show_studies() -> str:
    """Every study with what it asks."""
    from harness.study.config import load_study, study_files

    rows = []
    for name in study_files():
        description = load_study([f"study={name}"]).description
        rows.append((name, " ".join(description.split())))
    return _columns(rows)


# ---------------------------------------------------------------------- cards


def show_method(name: str, settings: Sequence[str]) -> str:
    """A method's card; parameters are counted on the quick start's network and data."""
    from harness.registry import METHODS

    cls = METHODS.get(name)
    hyperparameters = [f"{key}: {r.describe()}; {r.help}" for key, r in cls.hyperparameters.items()]
    return _card(
        f"method {name}",
        {
            "what it computes": [inspect.cleandoc(cls.__doc__ or "")],
            "paper": [cls.citation],
            "provenance": [cls.provenance],
            "variants": [f"{variant}: {text}" for variant, text in cls.variants.items()],
            "deviations": cls.deviations,
            "hyperparameters": hyperparameters,
            "tasks": [", ".join(cls.tasks)],
            "once per sample": _shared(cls),
            "once per combination": [
                "fuse: " + ("everything else" if not cls.training_only else TRAINING_ONLY_NOTE)
            ],
            "needs": [
                f"{key}: {need.method}, trained before on all modalities"
                for key, need in cls.needs.items()
            ],
            "parameters (quick-start network)": _parameters(name),
        },
    )


def _shared(cls: type[Method]) -> list[str]:
    """What evaluation computes once per sample, whatever the mask."""
    from harness.method import Method

    encoded = "encode: each modality once"
    if cls.prepare is Method.prepare:
        return [encoded]
    described = inspect.getdoc(cls.prepare) or ""
    return [encoded, f"prepare: {' '.join(described.split())}"]


def _parameters(name: str) -> list[str]:
    from harness.backbones.small import Small
    from harness.registry import DATASETS, METHODS

    spec = DATASETS.get("digits")().spec
    cls = METHODS.get(name)
    if spec.task not in cls.tasks:
        return [f"not counted: the method does not do {spec.task}"]
    try:
        counts = cls(Small(spec)).parameter_counts()
    except UserError as error:
        return [f"not counted: {error}"]
    return [f"training {counts['training']:,}; inference {counts['inference']:,}"]


def show_dataset(name: str, settings: Sequence[str]) -> str:
    """A dataset's card; what needs the data is told where the settings name them."""
    from harness.registry import DATASETS
    from harness.study.config import load_study
    from harness.study.plan import open_dataset

    cls = DATASETS.get(name)
    given = any(word.startswith(("dataset.manifest=", "dataset.root=")) for word in settings)
    dataset = open_dataset(load_study([f"dataset={name}", *settings])) if settings else cls()
    protocols = [", ".join(cls.protocols)]
    description = [inspect.cleandoc(cls.__doc__ or "")]
    options = [f"{key}: {r.describe()}; {r.help}" for key, r in cls.options.items()]
    try:
        spec = dataset.spec
    except UserError as error:
        if given:
            raise
        parts = {
            "what it is": description,
            "protocols": protocols,
            "dataset.options": options,
            "needs": [str(error)],
        }
        return _card(f"dataset {name}", parts)
    modalities = [
        f"{m.name} {'x'.join(map(str, m.shape))}: {m.description}" for m in spec.modalities
    ]
    return _card(
        f"dataset {name}",
        {
            "what it is": description,
            "task": [f"{spec.task}, {spec.predicted}, metric {spec.metric}"],
            "modalities": modalities,
            **(dataset.inferred() if given else {}),
            "protocols": protocols,
            "dataset.options": options,
            "synthetic": ["yes" if spec.synthetic else "no"],
            "notes": spec.notes,
        },
    )


def show_study(name: str, settings: Sequence[str]) -> str:
    """A study's rows, combinations and settings.

    Trial ids are not shown, for they need the data.
    """
    from harness.protocol.schedules import schedule_sentence
    from harness.reporting.sections.rounds import plan_lines
    from harness.search.plan import search_plan
    from harness.study.config import load_study
    from harness.study.plan import Plan, data_needed
    from harness.study.settings import leaves

    study = load_study([f"study={name}", *settings])
    shown = {
        key: value
        for key, value, _ in leaves(study)
        if key not in {"description", "presets", "methods", "hparams"}
    }
    needed = data_needed(study)
    if needed is not None:
        return _card(
            f"study {study.name}",
            {
                "question": [" ".join(study.description.split())],
                "rows": [f"{entry} (known in full once the data are)" for entry in study.methods],
                "needs": [needed],
                "presets": [f"{key}: {value}" for key, value in study.presets.items()],
                "settings": [f"{key} = {value}" for key, value in shown.items()],
            },
        )
    plan = Plan(study)
    search = search_plan(plan)
    rows = [
        f"{row.label}: {row.method} ({row.variant}) {_pairs(row.hparams)}".rstrip()
        for row in plan.rows
    ]
    return _card(
        f"study {study.name}",
        {
            "question": [" ".join(study.description.split())],
            "trials": [
                f"{len(plan.rows)} rows x {len(study.seeds)} seeds = {plan.size}",
                *(line.strip() for line in plan_lines(plan)),
            ],
            "rows": rows,
            "search": search.lines if search is not None else [],
            "combinations": [", ".join(combination.name for combination in plan.combinations)],
            "learning rate": [schedule_sentence(study.train.schedule, study.train.epochs)],
            "presets": [f"{key}: {value}" for key, value in study.presets.items()],
            "settings": [f"{key} = {value}" for key, value in shown.items()],
        },
    )


def show_trial(prefix: str, settings: Sequence[str]) -> str:
    """What the store holds about a trial."""
    from harness.store import Store, read_json
    from harness.study.settings import Study

    for word in settings:
        if not word.startswith("output="):
            raise UserError(f"'{word}' does not go with trial=ID; only output=FOLDER does")
    output = settings[-1].partition("=")[2] if settings else Study().output
    store = Store.below(output)
    found = [trial_id for trial_id in store.ids() if trial_id.startswith(prefix)]
    if len(found) != 1:
        problem = f"no trial '{prefix}'"
        if found:
            problem = f"{len(found)} trials start with '{prefix}': {', '.join(found)}"
        raise UserError(f"{problem} in {store.root}; output=FOLDER names another output folder")
    trial = store.trial(found[0])
    record, failure = trial.record(), trial.failure()
    spec = read_json(trial / "spec.json") or {}
    test: list[str] = []
    epoch: list[str] = []
    remarks: list[str] = []
    if record:
        state = "done"
        cells = record["cells"]["test"]
        test = [f"{name}: {_cell(record, cells[name])}" for name in record["combinations"]]
        epoch = [f"{record['selected_epoch'] + 1} of {record['epochs']}"]
        remarks = record["remarks"]
    elif failure:
        state = "failed"
    elif trial.selection():
        state = "validated, not evaluated on test"
    else:
        state = f"started, {len(trial.history())} epochs done"
    reason = f": {failure['reason']}" if failure else ""
    return _card(
        f"trial {found[0]}",
        {
            "state": [state + reason],
            "spec": [f"{key} = {value}" for key, value in spec.items()],
            "test": test,
            "selected epoch": epoch,
            "remarks": remarks,
            "log": [str(trial / "log.txt")],
        },
    )


def _cell(record: Mapping[str, object], cell: Mapping[str, object]) -> str:
    collapsed = " † the same predicted for everything" if cell["collapsed"] else ""
    return f"{record['metric']} {cell['value']:.2f} (n = {cell['n']}){collapsed}"


# ---------------------------------------------------------------------- layout


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items() if value != "")


def _columns(rows: Iterable[tuple[str, str]]) -> str:
    entries = list(rows)
    width = max((len(name) for name, _ in entries), default=0)
    return "\n".join(f"{name.ljust(width)}  {text}".rstrip() for name, text in entries)


def _card(title: str, sections: Mapping[str, Sequence[str]]) -> str:
    """Every heading, also those with nothing below them."""
    lines = [title]
    for heading, items in sections.items():
        lines.append(f"\n{heading}:")
        lines.extend(f"  {line}" for item in items or ["none"] for line in item.splitlines())
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
