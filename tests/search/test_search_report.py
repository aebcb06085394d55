"""The report's section on the search against the journal, the store and closed forms."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.analysis.findings import analyse
from harness.analysis.results import read
from harness.reporting.sections.search import search
from harness.search.journal import with_winners
from harness.search.plan import SearchPlan
from harness.search.results import find_searches, noise, search_problems
from harness.session import Session
from harness.store import Store
from harness.study.merged_plan import MergedPlan
from harness.study.plan import Plan
from tests.support.reports import write_report
from tests.support.searches import BIASED, GRID, search_below

SPACE = (
    "search.space.biased.bias=[0.0,1000.0]",
    "search.space.biased.more=[0.0,1.0]",
    "search.space.shaspec.alpha=[0.02,0.1]",
)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> SearchPlan:
    """A study with the search of two rows, run to its report."""
    folder = tmp_path_factory.mktemp("reported")
    (folder / "biased.py").write_text(BIASED)
    methods = f"methods=[sf_md,{folder / 'biased.py'},shaspec]"
    search = search_below(
        folder, methods, *SPACE, "train.epochs=3", "dataset.limit=96", "backbone.width=4"
    )
    store = Store.below(search.plan.study.output)
    assert Session(search.plan, store, []).run(search.plan.states(store)) == 0
    return search


def section(search: SearchPlan) -> str:
    text = (search.plan.study.folder / "report.md").read_text()
    return text[text.index("## Search") : text.index("## Cost")]


def rows(text: str, caption: str) -> list[list[str]]:
    """The cells of the table below a caption, without its head."""
    lines = itertools.takewhile(
        lambda line: line.startswith("|"), text[text.index(caption) :].splitlines()[2:]
    )
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines][2:]


def test_budgets_are_told_and_unequal_ones_too(reported: SearchPlan) -> None:
    text = section(reported)
    assert (
        "budgets: 4 points with the same tuning seeds for every searched row, "
        "but shaspec has only 2 different points" in text
    )
    found = {row[0]: row[2:5] for row in rows(text, "Budgets, and what was found")}
    assert found == {"biased": ["4 of 4", "8 of 8", "0"], "shaspec": ["2 of 2", "4 of 4", "0"]}


def test_every_number_is_that_of_the_stores_trials(reported: SearchPlan) -> None:
    store = Store.below(reported.plan.study.output)
    (biased, _) = find_searches(reported.plan, store)
    # Independently of how the search names its trials: by what stands in the store.
    held: dict[tuple[float, float], list[float]] = {}
    for path in sorted(store.root.glob("*/selection.json")):
        record = json.loads(path.read_text())
        spec = record["spec"]
        if spec["method"] == "biased":
            assert spec["seed"] in (100, 101)
            values = [cell["value"] for cell in record["cells"]["val"].values()]
            held.setdefault((spec["hparams"]["bias"], spec["hparams"]["more"]), []).append(
                sum(values) / len(values)
            )
    assert {len(values) for values in held.values()} == {2} and len(held) == 4
    means = {point: float(np.mean(values)) for point, values in held.items()}
    for scored in biased.points:
        pair = float(scored.point["bias"]), float(scored.point["more"])
        assert scored.mean == pytest.approx(means[pair], rel=1e-12)
        assert scored.std == pytest.approx(float(np.std(held[pair], ddof=1)), rel=1e-9)
    assert biased.best is not None and biased.best.mean == max(
        scored.mean for scored in biased.points
    )
    assert biased.loss == pytest.approx(max(means.values()) - means[1000, 0]) and biased.loss > 1
    surface = {row[0]: row[1:] for row in rows(section(reported), "bias and more of biased")}
    for (bias, more), values in held.items():
        assert (
            f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
            in surface[f"{bias:g}"][int(more)]
        )


def test_what_the_search_gains_is_read_from_test_on_fresh_seeds(reported: SearchPlan) -> None:
    plan, (_, second) = (
        with_winners(reported.plan),
        find_searches(reported.plan, Store.below(reported.plan.study.output)),
    )
    shaspec = [] if second.best is second.own else ["shaspec[searched]"]
    assert [row.label for row in plan.rows] == [
        "sf_md",
        "biased",
        "biased[searched]",
        "shaspec",
        *shaspec,
    ]
    store, averages = Store.below(plan.study.output), {}
    for trial in plan.trials:
        record = store.trial(trial.id).record()
        assert record is not None
        averages[trial.row.label] = float(
            np.mean([cell["value"] for cell in record["cells"]["test"].values()])
        )
    found = rows(section(reported), "What the search gains on test")
    assert [row[0] for row in found] == ["biased", *(label.partition("[")[0] for label in shaspec)]
    for row in found:
        own, searched = averages[row[0]], averages[f"{row[0]}[searched]"]
        assert row[1:3] == [f"{own:.1f}", f"{searched:.1f}"]
        assert float(row[3].replace("−", "-")) == pytest.approx(searched - own, abs=0.006)


def test_the_page_draws_curve_and_surface(reported: SearchPlan) -> None:
    page = (reported.plan.study.folder / "report.html").read_text()
    assert 'id="search-' in page and 'id="surface-biased-' in page
    assert "biased, best so far" in page and "shaspec, best so far" in page
    assert "The search: every point, and the best so far" in page
    again = write_report(with_winners(reported.plan), Store.below(reported.plan.study.output))
    assert (again.folder / "report.html").read_text() == page


def test_a_report_of_several_studies_tells_of_every_search(
    reported: SearchPlan, tmp_path: Path
) -> None:
    other = search_below(tmp_path, *GRID, "search.seeds=[7]")
    merged = MergedPlan([with_winners(reported.plan), replace_name(other.plan, "other")])
    store = Store.below(reported.plan.study.output)
    findings = analyse(read(merged, store))
    searches = [found for plan in merged.members for found in find_searches(plan, store)]
    assert [one.subject.row.label for one in searches] == ["biased", "shaspec", "dmrnet"]
    shown = search(findings, searches)
    text = str(shown)
    assert (
        "points of biased 4 with 2 tuning seeds; of shaspec 2 with 2 tuning seeds; "
        "of dmrnet 4 with 1 tuning seeds" in text
    )
    assert "every tuning seed (100, 101; 7)" in text and "dmrnet: 0 of 4 points are told" in text
    assert "/quickstart/search.journal" in text and "/other/search.journal" in text


def replace_name(plan: Plan, name: str) -> Plan:
    return Plan(replace(plan.study, name=name))


def test_a_value_that_the_store_does_not_have_is_a_problem(reported: SearchPlan) -> None:
    store = Store.below(reported.plan.study.output)
    found = find_searches(reported.plan, store)
    assert search_problems(found) == []
    trial = reported.trials_of(found[0].subject, found[0].points[2].point)[0]
    path = store.trial(trial.id) / "selection.json"
    before = path.read_text()
    changed = json.loads(before) | {"val_mean": 99.0}
    store.trial(trial.id).save_record("selection.json", changed)
    (sentence,) = search_problems(find_searches(reported.plan, store))
    path.write_text(before)
    assert sentence.startswith("point 2 of the search, biased[") and "was told" in sentence


def test_noise_is_that_of_two_way_analysis_of_variance() -> None:
    generator = np.random.default_rng(3)
    values = (
        generator.normal(size=(5, 4))
        + generator.normal(size=(5, 1))
        + 10 * generator.normal(size=(1, 4))
    )
    found = noise(values)
    # By regression on dummies of points and seeds, and by the paired t test for two points.
    points, seeds = (np.repeat(np.eye(5), 4, 0), np.tile(np.eye(4), (5, 1)))
    full, null = (
        np.linalg.lstsq(design, values.ravel(), rcond=None)[1][0]
        for design in (_rank(points, seeds), seeds)
    )
    assert found.p == pytest.approx(stats.f.sf((null - full) / 4 / (full / 12), 4, 12), rel=1e-9)
    assert found.detectable == pytest.approx(
        stats.t.ppf(0.975, 12) * math.sqrt(2 * full / 12 / 4), rel=1e-9
    )
    pair = values[:2]
    least = noise(pair)
    shifted = pair[1] - pair[1].mean() + pair[0].mean() + least.detectable
    assert stats.ttest_rel(pair[0], shifted).pvalue == pytest.approx(0.05, rel=1e-6)


def _rank(points: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Both sets of dummies without the column that the others already give."""
    return np.concatenate([points[:, 1:], seeds], 1)


def test_noise_of_points_that_are_all_equal() -> None:
    assert noise(np.ones((3, 2))).p == 1.0 and noise(np.ones((3, 2))).detectable == 0.0
    assert noise(np.array([[1.0, 1.0], [2.0, 2.0]])).p == 0.0
