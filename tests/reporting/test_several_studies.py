"""One report of several studies: what is ranked together, what is not, and that merging changes no
number.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness import report
from harness.analysis.findings import Findings, analyse
from harness.analysis.results import read
from harness.analysis.statistics import AVERAGE
from harness.cli import guarded
from harness.errors import UserError
from harness.reporting.answer import answer
from harness.reporting.publish import follow, make_report
from harness.store import Store
from harness.study.config import load_study
from harness.study.merged_plan import MergedPlan, grouped, load_studies, unlike
from harness.study.plan import Plan
from tests.support.handmade import ladder, write_trial

BASE = "base: quickstart\ndataset: {limit: 60}\n"
STARTS = {"sf_md": (24, 27, 22), "hemis": (40, 38, 42), "dmrnet": (30, 29, 33)}
"""Correct predictions on the first combination, seed by seed."""


def study_file(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.yaml").write_text(f"{BASE}description: what {name} asks\n{text}")
    return str(folder / f"{name}.yaml")


def filled(file: str, output: Path) -> tuple[Plan, Store]:
    """The plan of a study file, all its trials written by hand."""
    plan = Plan(load_study([f"study={file}", f"output={output}"]))
    store = Store.below(output)
    for trial in plan.trials:
        if store.trial(trial.id).record() is None:
            write_trial(
                plan,
                store,
                trial.row.label,
                trial.seed,
                ladder(STARTS[trial.row.method][trial.seed]),
            )
    return plan, store


def section(text: str, title: str) -> str:
    """What stands below one heading of report.md."""
    return text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0].strip()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies a and b, which share sf_md, ``both`` with all their rows, ``rate`` with another
    recipe; ``later`` was not run.
    """
    folder = tmp_path_factory.mktemp("runs")
    for name, text in {
        "a": "methods: [sf_md, hemis]",
        "b": "methods: [sf_md, dmrnet]",
        "both": "methods: [sf_md, hemis, dmrnet]",
        "rate": "methods: [sf_md, hemis]\ntrain: {lr: 0.02}",
    }.items():
        filled(study_file(folder, name, text), folder / "runs")
    study_file(folder, "later", "methods: [hemis]\nseeds: [9]")
    return folder


def reported(folder: Path, names: str) -> tuple[int, str]:
    """Exit code and text of the report of some studies."""
    files = ",".join(f"{folder}/{name}.yaml" for name in names.split(","))
    code = guarded(report.main, [f"study={files}", f"output={folder}/runs"])
    return code, (folder / "runs" / names.replace(",", "+") / "report.md").read_text()


# ---------------------------------------------------------------------- one group


def test_two_studies_merged_are_the_study_that_has_both(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reported(runs, "both")[0] == 0
    one = capsys.readouterr().out.splitlines()
    assert reported(runs, "a,b")[0] == 0
    merged = capsys.readouterr().out.splitlines()
    assert [line.replace("a+b", "both") for line in merged] == one
    folders = [runs / "runs" / name for name in ("both", "a+b")]
    assert (
        folders[0].joinpath("report.csv").read_bytes()
        == folders[1].joinpath("report.csv").read_bytes()
    )
    single, several = (folder.joinpath("report.md").read_text() for folder in folders)
    titles = re.findall(r"^## (.*)$", single, re.MULTILINE)
    assert re.findall(r"^## (.*)$", several, re.MULTILINE) == [titles[0], "Studies", *titles[1:]]
    for title in titles[:-1]:
        # The command that asks for another presence profile names the studies.
        ours, expected = (
            re.sub(r"python -m harness\.report \S+", "", section(text, title))
            for text in (several, single)
        )
        assert ours.replace("study=a (and study=b)", "study=both") == expected, title
    latex = [folder.joinpath("report.tex").read_text() for folder in folders]
    assert latex[1].replace("a+b", "both") == latex[0]
    # What each study brought.
    assert several.startswith(
        "# a+b on digits\n\nSeveral studies in one report. a: what a asks b: what b asks\n"
    )
    found = section(several, "Studies")
    assert re.search(r"\| a +\| 1 +\| sf_md, hemis +\| 0, 1, 2 +\|", found)
    assert re.search(r"\| b +\| 1 +\| sf_md, dmrnet +\| 0, 1, 2 +\|", found)
    assert (
        "- rows that several studies have, with the trials and seeds of all of them: sf_md (a, b)"
        in found
    )
    commands = re.findall(r"python -m .*", section(several, "How to reproduce"))
    assert [line.rpartition("/")[2] for line in commands] == ["a.yaml", "b.yaml"]


def test_a_trial_of_two_studies_counts_once(runs: Path) -> None:
    plans = [
        Plan(load_study([f"study={runs}/{name}.yaml", f"output={runs}/runs"])) for name in "ab"
    ]
    (group,) = grouped(plans)
    assert [row.label for row in group.plan.rows] == ["sf_md", "hemis", "dmrnet"]
    ids = [trial.id for trial in group.plan.trials]
    assert len(ids) == len(set(ids)) == group.plan.size == 9
    assert set(ids) == {trial.id for plan in plans for trial in plan.trials}


def test_equal_labels_of_unlike_rows_get_the_name_of_their_study(tmp_path: Path) -> None:
    files = [
        study_file(
            tmp_path,
            "low",
            "methods: [sf_md, {method: dmrnet, hparams: {alpha: 0.1}, label: mine}]",
        ),
        study_file(
            tmp_path,
            "high",
            "methods: [{method: dmrnet, hparams: {alpha: 0.2}, label: mine}, {method: sf_md, label:"
            " base}]",
        ),
    ]
    plan = MergedPlan([Plan(load_study([f"study={file}"])) for file in files])
    assert [row.label for row in plan.rows] == ["sf_md", "mine (low)", "mine (high)"]
    assert [row.hparams.get("alpha") for row in plan.rows] == [None, 0.1, 0.2]
    assert {trial.job.label for trial in plan.trials} == {"sf_md", "mine (low)", "mine (high)"}
    assert [row.label for row in plan.shared()] == ["sf_md"]
    own = {trial.id for file in files for trial in Plan(load_study([f"study={file}"])).trials}
    assert {trial.id for trial in plan.trials} == own


# ---------------------------------------------------------------------- seeds


def merged_findings(folder: Path, *texts: str) -> Findings:
    files = [study_file(folder, name, text) for name, text in zip("ab", texts, strict=True)]
    plans = [filled(file, folder / "runs")[0] for file in files]
    (group,) = grouped(plans)
    return analyse(read(group.plan, Store.below(folder / "runs")))


def test_rows_are_compared_on_the_seeds_that_both_have(tmp_path: Path) -> None:
    found = merged_findings(
        tmp_path, "methods: [sf_md]\nseeds: [2, 0, 1]", "methods: [hemis]\nseeds: [1, 2]"
    )
    assert found.results.plan.study.seeds == [0, 1, 2]
    one = found.against("sf_md")[0]
    # Seeds 1 and 2: 38 - 27 and 42 - 22 correct predictions more of 60; seed 0 of sf_md has no
    # partner.
    assert (
        one.value == pytest.approx(100 * np.mean([11, 20]) / 60)
        and one.difference.estimate.seeds == 2
    )
    assert (
        found.seeds == 2 and "with 2 seeds" in found.reserve and "with 2 seeds" in answer(found)[1]
    )
    # A row's mean has all its seeds.
    assert found.comparison.average["sf_md"].mean == pytest.approx(
        100 * (np.mean([24, 27, 22]) + 9) / 60
    )
    assert [place.label for place in found.rankings[AVERAGE].places] == ["hemis", "sf_md"]


def test_rows_without_a_common_seed_are_not_ranked(tmp_path: Path) -> None:
    found = merged_findings(
        tmp_path, "methods: [sf_md, dmrnet]\nseeds: [0]", "methods: [hemis, dmrnet]\nseeds: [1]"
    )
    assert not found.rankings
    assert (
        answer(found)[0]
        == "No ranking: rows without a common seed are not ranked: sf_md and hemis; run them with"
        " the same seeds."
    )
    pairs = {(one.first, one.second) for one in found.differences}
    assert pairs == {("sf_md", "dmrnet"), ("dmrnet", "hemis")}


def test_one_common_seed_is_said_to_be_one(tmp_path: Path) -> None:
    found = merged_findings(
        tmp_path, "methods: [sf_md]\nseeds: [0, 1]", "methods: [hemis]\nseeds: [1, 2]"
    )
    assert answer(found)[0].startswith("With one seed in common, hemis has the highest accuracy")
    assert found.leader is None


# ---------------------------------------------------------------------- several groups


def test_unequal_terms_are_not_ranked_together(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = reported(runs, "a,rate,b,later")
    assert code == 0 and text.startswith("# a+rate+b+later\n")
    assert (
        "- no trial is finished of: later; it is not in this report" in section(text, "Studies")
        and "hemis seed 9" not in text
    )
    assert section(text, "Why groups are apart").endswith(
        "- group 2 is not ranked with group 1: they differ in train.lr (0.05, 0.02)"
    )
    assert (
        section(text, "Across datasets")
        == "Nothing is said over datasets: all studies are on one dataset."
    )
    for title, rows in {
        "Group 1, a+b": ["hemis", "dmrnet", "sf_md"],
        "Group 2, rate": ["hemis", "sf_md"],
    }.items():
        table = section(text, f"{title}: Ranking").split("\n\n")[2].splitlines()[2:]
        assert [re.sub(r"[*|]", "", line).split()[0] for line in table] == rows
    folder = runs / "runs" / "a+rate+b+later"
    assert {path.name for path in folder.iterdir()} == {
        *("report.html", "report.md", "report.csv", "report.tex", "heatmap.png", "heatmap-2.png")
    }
    assert "![a+b" not in section(text, "Group 2, rate: Result") and "(heatmap-2.png)" in section(
        text, "Group 2, rate: Result"
    )
    table = pd.read_csv(folder / "report.csv")
    assert table.groupby("group")["trial_id"].nunique().to_dict() == {"a+b": 9, "rate": 6}
    captions = re.findall(r"\\caption\{(.*)\}", (folder / "report.tex").read_text())
    assert captions and all(
        re.match(r"a\+rate\+b\+later: (a\+b|rate): ", caption) for caption in captions
    )
    page = (folder / "report.html").read_text()
    names = Counter(re.findall(r'\bid="([^"]+)"', page))
    assert [name for name, count in names.items() if count > 1] == []
    assert set(re.findall(r'href="#([^"]+)"', page)) | set(
        re.findall(r"url\(#([^)]+)\)", page)
    ) <= set(names)
    printed = capsys.readouterr().out
    assert (
        "group 1 of 2, not ranked with the others\na+b: digits" in printed
        and "group 2 of 2" in printed
    )


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("train: {epochs: 7}", ["train.epochs (30, 7)"]),
        ("backbone: {width: 8}", ["backbone.width (16, 8)"]),
        (
            "missing: {train: random, rate: 0.5}",
            ["missing.train (none, random)", "missing.rate (0.0, 0.5)"],
        ),
        ("evaluation: {batch_size: 7}", ["evaluation.batch_size (256, 7)"]),
        ("dataset: htad", ["dataset.name (digits, htad)"]),
    ],
)
def test_what_sets_studies_apart_is_named(
    setting: str, reason: Sequence[str], tmp_path: Path
) -> None:
    one = Plan(load_study(["methods=[sf_md]"]))
    (tmp_path / "x.yaml").write_text(f"base: quickstart\nmethods: [sf_md]\n{setting}\n")
    other = Plan(load_study([f"study={tmp_path / 'x.yaml'}"]))
    assert unlike(one, other) == list(reason)
    assert [group.names for group in grouped([one, other])] == [("quickstart",), ("x",)]


def test_what_does_not_matter_sets_nothing_apart(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(
        "base: quickstart\nmethods: [hemis]\nseeds: [5]\nexecutor: local\nresources: {retries: 1}\n"
    )
    one, other = Plan(load_study([])), Plan(load_study([f"study={tmp_path / 'x.yaml'}"]))
    assert unlike(one, other) == [] and len(grouped([one, other])) == 1


def test_studies_that_differ_in_what_is_missing_alone_have_a_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = "missing: {train: random, "
    texts = {
        "half": f"methods: [sf_md, hemis]\n{random}rate: 0.5}}",
        "none": "methods: [sf_md, hemis, dmrnet]",
        "own": f"methods: [sf_md]\n{random}rates: {{thumb: 0.3}}}}",
        "other": f"methods: [sf_md]\ntrain: {{lr: 0.02}}\n{random}rate: 0.9}}",
    }
    output, files, plans = tmp_path / "runs", [], {}
    for name, text in texts.items():
        files.append(study_file(tmp_path, name, text))
        plans[name], store = filled(files[-1], output)
    assert guarded(report.main, [f"study={','.join(files)}", f"output={output}"]) == 0
    printed = capsys.readouterr().out
    text = (output / "+".join(texts) / "report.md").read_text()
    curve = section(text, "Missing in training")
    # thumb alone, 0.3 of a third; 0.5 less what is kept where all three would be lost; not 0.9.
    assert "0.0 % (none), 10.0 % (thumb 0.3) and 45.8 % (rate 0.5)" in curve
    cells = {
        row[0]: row[1:]
        for row in (
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in curve.splitlines()
            if line.startswith("|")
        )
    }
    assert all(line in printed for line in curve.splitlines() if line.startswith("|"))
    assert cells["method"] == ["0.0 %", "10.0 %", "45.8 %"]
    assert cells["hemis"][1] == "–" and cells["dmrnet"][1:] == ["–", "–"]
    mean = read(plans["half"], store).comparison().average["sf_md"].mean
    assert cells["sf_md"][2].startswith(f"{mean:.1f} ±")
    page = (output / "+".join(texts) / "report.html").read_text()
    assert "modalities missing from training samples (%)" in page


# ---------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("study", "more", "sentence"),
    [
        ("quickstart,quickstart", [], "names 2 studies that are called 'quickstart'"),
        ("quickstart,quickstrt", [], "unknown study 'quickstrt'; did you mean 'quickstart'"),
        ("quickstart,digits_all_methods", ["--track"], "--track mirrors one study"),
    ],
)
def test_a_mistake_is_one_sentence(
    study: str, more: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(report.main, [f"study={study}", f"output={tmp_path}", *more]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_output_folders_that_differ_are_told_apart_from_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [
        study_file(tmp_path, name, f"methods: [sf_md]\noutput: {tmp_path / name}\n")
        for name in "ab"
    ]
    assert guarded(report.main, [f"study={','.join(files)}"]) == 2
    assert (
        "the studies have different output folders; export from one with harness.share"
        in capsys.readouterr().err
    )


def test_arguments_go_to_each_study_and_a_file_may_have_a_comma(tmp_path: Path) -> None:
    studies = load_studies(["study=quickstart,digits_all_methods", "train.epochs=3"])
    assert [(study.name, study.train.epochs) for study in studies] == [
        ("quickstart", 3),
        ("digits_all_methods", 3),
    ]
    (tmp_path / "a,b.yaml").write_text("base: quickstart\n")
    assert [study.name for study in load_studies([f"study={tmp_path / 'a,b.yaml'}"])] == ["a,b"]
    assert [study.name for study in load_studies([])] == ["quickstart"]


def test_the_report_of_several_follows_their_stores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [
        study_file(tmp_path, name, f"methods: [{method}]\nseeds: [0]")
        for name, method in (("a", "sf_md"), ("b", "hemis"))
    ]
    store = Store.below(tmp_path / "runs")
    plans = [Plan(load_study([f"study={file}", f"output={tmp_path}/runs"])) for file in files]
    page = tmp_path / "runs" / "a+b" / "report.html"

    def write(current: Sequence[Plan]) -> Path:
        return make_report(current, store, [f"study={','.join(files)}"]).write(refresh=10).page

    watching = threading.Thread(target=follow, args=(plans, store, write, 0.02), daemon=True)
    watching.start()
    write_trial(plans[0], store, "sf_md", 0, ladder(24))
    end = time.monotonic() + 60
    while not page.is_file() and time.monotonic() < end:
        time.sleep(0.02)
    assert (
        "1 of 1 planned trials" in page.read_text() and 'http-equiv="refresh"' in page.read_text()
    )
    write_trial(plans[1], store, "hemis", 0, ladder(40))
    watching.join(60)
    assert not watching.is_alive()
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()][
        -1
    ] == "1 of 2 trials, 1 to come"


def test_no_finished_trial_is_refused_by_the_function_too(tmp_path: Path) -> None:
    names = ("quickstart", "digits_claims")
    plans = [Plan(load_study([f"study={name}", f"output={tmp_path}"])) for name in names]
    with pytest.raises(UserError, match="none of quickstart, digits_claims has a finished trial"):
        make_report(plans, Store.below(tmp_path))
