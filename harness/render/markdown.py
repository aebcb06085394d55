"""report.md: the table, and what a reader needs to judge it.

No clock, no chance and no path of this machine: the same store gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.render import background
from harness.render.text import COLLAPSED_SENTENCE, Grid, hole_lines, legend, main_grid, marked, metric_sentence, pipe_table, shown
from harness.results import Comparison, Results, dataset_name

HEATMAP = "heatmap.png"
STORE = "store"
FOLDERS = re.compile(r"(?<![\w./~…])/(?:[^\s/:'\"]+/)+")
"""The folders of an absolute path, as they may stand in the reason of a failed trial or in an argument."""


def markdown(results: Results, problems: Sequence[str], arguments: Sequence[str]) -> str:
    """The report; ``problems`` are what harness.results.verify found, ``arguments`` those of the command line."""
    comparison = results.comparison()
    sections = [
        _title(results),
        background.data(results),
        # The answer in two sentences and the ranking with tie groups belong here, once there is a harness/statistics.py.
        _main_table(results, comparison),
        _last_epoch(results, comparison),
        _seeds(results),
        _holes(results),
        _damaged(results, problems),
        _collapsed(results),
        _remarks(results),
        background.cost(results),
        background.methods(results),
        background.protocol(results),
        background.machines(results),
        background.reproduce(results, arguments),
    ]
    return FOLDERS.sub("…/", "\n\n".join("\n".join(section) for section in sections)) + "\n"


def bullets(lines: Sequence[str]) -> list[str]:
    """A list; ``none`` when it is empty, so that a heading never stands alone."""
    return [f"- {line}" for line in lines] or ["none"]


def _title(results: Results) -> list[str]:
    study = results.plan.study
    return [f"# {study.name} on {dataset_name(results.plan.spec)}", "", study.description or "The study has no description."]


def _main_table(results: Results, comparison: Comparison) -> list[str]:
    table = _pipes(main_grid(results, comparison))
    picture = f"![{metric_sentence(results)}]({HEATMAP})"
    lines = [*legend(results, comparison), *_samples(results)]
    return ["## Result", "", f"{metric_sentence(results)}.", "", *table, "", *bullets(lines), "", picture]


def _samples(results: Results) -> list[str]:
    """On how many samples each combination was scored, where samples lack modalities."""
    table = results.table
    found = table[table["split"] == "test"].groupby("combination", sort=False)["n"].max()
    if found.nunique() < 2:
        return []
    counts = ", ".join(f"{name} {n}" for name, n in found.items())
    return [f"samples of test that have all modalities of a combination, on which it is scored: {counts}"]


def _pipes(grid: Grid) -> list[str]:
    return pipe_table(grid.header, [[label, *map(str, row)] for label, row in zip(grid.labels, grid.rows, strict=True)])


def _last_epoch(results: Results, selected: Comparison) -> list[str]:
    last, planned = results.comparison("test_last_epoch"), selected.planned
    rows = []
    for label in selected.labels:
        epochs = ", ".join(str(done.record["selected_epoch"]) for done in results.of(label))
        averages = [str(shown(found.average[label], planned, found.metric)) for found in (selected, last)]
        rows.append([marked(results, label), *averages, epochs or "–"])
    header = ["method", "average, selected epoch", "average, last epoch", "selected epochs, seed by seed, counted from 0"]
    collapsed = any(found.average[label].collapsed for found in (selected, last) for label in selected.labels)
    below = ["", *bullets([COLLAPSED_SENTENCE])] if collapsed else []
    return ["## Last epoch", "", *pipe_table(header, rows), *below]


def _seeds(results: Results) -> list[str]:
    """Which trial stands behind which number."""
    seeds = results.plan.study.seeds
    there: dict[tuple[str, int], list[str]] = {}
    for done in results.finished:
        there.setdefault((done.trial.row.label, done.trial.seed), []).append(f"{done.trial.id}{_stale(done.status)}")
    rows = [[row.label, *(", ".join(there.get((row.label, seed), ["–"])) for seed in seeds)] for row in results.plan.rows]
    return ["## Seeds and trials", "", *pipe_table(["method", *(f"seed {seed}" for seed in seeds)], rows)]


def _stale(status: str) -> str:
    return " (stale)" if status == "stale" else ""


def _holes(results: Results) -> list[str]:
    head = f"{len(results.finished)} of {results.plan.size} planned trials are in the table. Not in it:"
    return ["## Holes", "", head, "", *bullets(hole_lines(results.holes, STORE))]


def _damaged(results: Results, problems: Sequence[str]) -> list[str]:
    checked = len({done.trial.id for done in results.finished})
    head = (
        f"The files of {checked} trials were compared with their recorded sha256, and the values on val and test computed "
        "again from the stored scores. What does not agree:"
    )
    return ["## Damaged trials", "", head, "", *bullets(problems)]


def _collapsed(results: Results) -> list[str]:
    count = len(results.plan.combinations)
    lines = [
        f"{done.trial.job.name}: {len(done.collapsed)} of {count} combinations ({', '.join(done.collapsed)})"
        for done in results.finished
        if done.collapsed
    ]
    head = "One class is predicted for every test sample. The score counts like any other:"
    return ["## Collapsed models", "", head, "", *bullets(lines)]


def _remarks(results: Results) -> list[str]:
    """What trained models say about themselves, equal remarks of a row's seeds together."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for done in results.finished:
        starved = done.record["starved_encoder_batches"]
        own = [f"{starved} times an encoder had fewer than two samples in a training batch and used its running statistics"]
        for remark in [*done.record["remarks"], *(own if starved else [])]:
            seeds.setdefault((done.trial.row.label, remark), []).append(str(done.trial.seed))
    lines = [
        f"{label}, {'seeds' if len(found) > 1 else 'seed'} {', '.join(found)}: {remark}" for (label, remark), found in seeds.items()
    ]
    return ["## Remarks of the trained models", "", *bullets(lines)]
