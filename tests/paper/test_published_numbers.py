"""Published numbers: what the file holds, what is wrong with it, and how it is put beside measured
values.
"""

from __future__ import annotations

import math
from decimal import Decimal
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from harness.analysis.comparison import Comparison, Summary, comparison
from harness.errors import UserError
from harness.paper.published_numbers import (
    LOG,
    Published,
    compare_with_published,
    load,
    published,
    reservations,
    single_run,
    wrong_averages,
)
from harness.protocol.metrics import metric
from harness.study.config import load_study, study_files
from harness.study.plan import Plan

OTHER_METRICS = {"sigma2"}
"""Published for rows of a study, and not a metric of its dataset: harness.views measures it."""

STUDIES_OF = {
    (1, "casia_surf"): ("casia_all_methods",),
    (2, "crema_d"): ("crema_d_all_methods",),
    (2, "kinetics_sounds"): ("kinetics_sounds_all_methods",),
    (3, "casia_surf"): ("casia_ablation",),
    (4, "casia_surf"): ("casia_estimators",),
    (5, "nyuv2"): ("nyuv2_esanet_joint",),
    (6, "casia_surf"): ("casia_alpha",),
    (7, "casia_surf"): ("casia_beta",),
}


@cache
def plan_of(name: str) -> Plan:
    return Plan(load_study([f"study={name}"]))


# ---------------------------------------------------------------------- studies and tables


def test_each_table_is_shown_by_the_study_that_repeats_it() -> None:
    shown: dict[tuple[int, str], tuple[str, ...]] = {}
    for name in sorted(study_files()):
        study = load_study([f"study={name}"])
        if study.published_table is not None:
            place = (study.published_table, study.dataset.name)
            shown[place] = (*shown.get(place, ()), name)
    assert shown == STUDIES_OF
    assert {(cell.table, cell.dataset) for cell in load()} == set(STUDIES_OF)


@pytest.mark.parametrize("place", STUDIES_OF, ids=lambda place: f"table {place[0]} {place[1]}")
def test_every_published_row_is_a_row_of_its_studies(place: tuple[int, str]) -> None:
    plans = [plan_of(name) for name in STUDIES_OF[place]]
    cells = published(*place)
    assert {cell.label for cell in cells} <= {row.label for plan in plans for row in plan.rows}
    for plan in plans:
        assert {cell.combination for cell in cells} <= {
            *(c.name for c in plan.combinations),
            "average",
        }
        assert {cell.metric for cell in cells} <= {plan.spec.metric} | OTHER_METRICS


@pytest.mark.parametrize(
    "name",
    [
        "casia_ablation",
        "casia_estimators",
        "casia_alpha",
        "casia_beta",
        "casia_feature_diversity",
        "casia_variance",
    ],
)
def test_the_studies_on_casia_have_the_recipe_of_the_comparison(name: str) -> None:
    ours, base = plan_of(name).study, plan_of("casia_all_methods").study
    assert (ours.dataset, ours.backbone, ours.train, ours.seeds) == (
        base.dataset,
        base.backbone,
        base.train,
        [0, 1, 2, 3, 4],
    )
    assert set(ours.presets) == {"smoke"}


@pytest.mark.parametrize(
    "name", ["casia_ablation", "casia_estimators", "casia_feature_diversity", "casia_variance"]
)
def test_studies_of_known_rows_train_nothing_that_the_comparison_has_not_trained(name: str) -> None:
    known = {row.label: row for row in plan_of("casia_all_methods").rows}
    assert all(row == known[row.label] for row in plan_of(name).rows)


def test_the_sweeps_have_the_published_points_and_nothing_else_changes() -> None:
    alphas = [row.hparams for row in plan_of("casia_alpha").rows]
    assert [row["alpha"] for row in alphas] == [0.0, 1e-4, 1e-3, 1e-2, 1e-1]
    for variant in ("paper", "released"):
        betas = [row.hparams for row in plan_of("casia_beta").rows if row.variant == variant]
        assert [(row["alpha"], row["beta"]) for row in betas] == [
            (1e-3, beta) for beta in (0.1, 0.3, 0.5, 0.7, 0.9)
        ]


def test_the_released_losses_stand_beside_the_published_rows_and_have_no_published_cell() -> None:
    released = {
        name: [row.label for row in plan_of(name).rows if row.variant == "released"]
        for name in ("casia_all_methods", "casia_ablation")
    }
    assert released == {
        "casia_all_methods": ["mmanet:released", "dmrnet:released"],
        "casia_ablation": ["dmrnet:released"],
    }
    labels = {cell.label for cell in load()}
    assert not [label for label in labels if "released" in label]


# ---------------------------------------------------------------------- averages that are none


def test_nine_printed_averages_are_not_the_mean_of_their_column() -> None:
    found = {
        (w.printed.table, w.printed.dataset, w.printed.label): (
            str(w.printed.value),
            round(w.mean, 2),
        )
        for w in wrong_averages()
    }
    assert found == {
        (1, "casia_surf", "hemis"): ("7.18", Decimal("7.20")),
        (1, "casia_surf", "mmformer"): ("5.93", Decimal("5.79")),
        (1, "casia_surf", "shaspec"): ("5.59", Decimal("5.74")),
        (1, "casia_surf", "dmrnet"): ("3.58", Decimal("3.56")),
        (2, "crema_d", "ogm_md"): ("55.69", Decimal("54.61")),
        (2, "crema_d", "mmanet"): ("57.66", Decimal("58.02")),
        (3, "casia_surf", "dmrnet"): ("3.58", Decimal("3.56")),
        (4, "casia_surf", "sf_pe"): ("6.66", Decimal("6.80")),
        (4, "casia_surf", "sf_dmr"): ("4.66", Decimal("4.63")),
    }


def test_a_difference_of_exactly_the_tolerance_is_not_more_than_it() -> None:
    # Kinetics-Sounds, OGM-MD: 50.74 beside (48.00 + 40.51 + 63.74) / 3 = 50.75.
    tenth = {w.printed.column for w in wrong_averages(tolerance=Decimal("0.0099"))} - {
        w.printed.column for w in wrong_averages()
    }
    assert tenth == {(2, "kinetics_sounds", "accuracy", "ogm_md")}


# ---------------------------------------------------------------------- one run


def test_the_dmrnet_column_looks_like_one_logged_run_and_no_other_does() -> None:
    columns = {cell.column for cell in load()}
    told = {
        column: single_run([cell for cell in load() if cell.column == column]) for column in columns
    }
    found = {
        (table, label): sentence for (table, _, _, label), sentence in told.items() if sentence
    }
    assert set(found) == {(1, "dmrnet"), (3, "dmrnet")}
    assert (
        "6 of 7 cells and the average" in found[1, "dmrnet"]
        and "rgb+ir is 3.20 there" in found[1, "dmrnet"]
    )


def test_a_column_two_cells_off_the_log_is_not_called_a_run() -> None:
    column = published(3, "casia_surf")
    dmrnet = [cell for cell in column if cell.label == "dmrnet"]
    off = [
        (
            Published(*cell.column, cell.combination, cell.value + 1)
            if cell.combination == "rgb"
            else cell
        )
        for cell in dmrnet
    ]
    assert single_run(dmrnet) is not None and single_run(off) is None


def test_the_log_has_the_acer_of_its_counts() -> None:
    # (live right, live wrong, spoof right, spoof wrong) as the log counts them, for three of its
    # seven combinations.
    counts = {
        "rgb": (16238, 1220, 36436, 3816),
        "depth": (17257, 201, 39092, 1160),
        "rgb+depth+ir": (17416, 42, 39814, 438),
    }
    logged = {cell.combination: float(cell.value) for cell in load(LOG)}
    for name, (live, missed, spoof, passed) in counts.items():
        assert logged[name] == pytest.approx(
            50 * (missed / (live + missed) + passed / (spoof + passed)), abs=5e-5
        )
    assert sum(logged.values()) / 7 == pytest.approx(3.5882, abs=1e-4)


# ---------------------------------------------------------------------- beside ours

ABLATION = ("sf_md", "sf_dmr", "dmrnet")
COMBINATIONS = ("rgb", "depth", "ir", "rgb+depth", "rgb+ir", "depth+ir", "rgb+depth+ir")


def measured(rows: dict[str, dict[int, float]]) -> Comparison:
    """A comparison in which a row has the same value for every combination.

    Label -> seed -> value.
    """
    lines = [
        {
            "label": label,
            "seed": seed,
            "combination": name,
            "split": "test",
            "metric": "acer",
            "value": value,
            "n": 100,
            "collapsed": False,
        }
        for label, seeds in rows.items()
        for seed, value in seeds.items()
        for name in COMBINATIONS
    ]
    return comparison(pd.DataFrame(lines), metric("acer"), ABLATION, COMBINATIONS, 2)


def test_published_cells_beside_measured_ones() -> None:
    ours = measured({"sf_md": {0: 10.0, 1: 12.0}, "dmrnet": {0: 3.0, 1: 4.0}})
    intervals = {
        ("sf_md", "rgb"): (11.0, 11.75),
        ("dmrnet", "rgb"): (3.0, 4.0),
        ("sf_md", "average"): None,
    }
    found = {
        (b.published.label, b.published.combination): b
        for b in compare_with_published(published(3, "casia_surf"), ours, intervals)
    }
    assert len(found) == 3 * 8
    assert found["sf_md", "rgb"].measured == 11.0 and found[
        "sf_md", "rgb"
    ].difference == pytest.approx(11.0 - 11.75)
    assert found["sf_md", "rgb"].within is True and found["dmrnet", "rgb"].within is False
    assert found["sf_md", "average"].within is None and found[
        "sf_md", "average"
    ].difference == pytest.approx(11.0 - 7.52)
    without = found["sf_dmr", "rgb"]
    assert (without.measured, without.difference, without.within, without.seeds) == (
        None,
        None,
        None,
        0,
    )
    assert found["sf_md", "average"].marks == () and found["sf_dmr", "average"].marks == (
        "printed as 4.66 in Table 4",
    )
    assert (
        found["dmrnet", "average"].marks[0] == "printed average; its own column has the mean 3.56"
    )
    assert found["dmrnet", "rgb"].marks[0].startswith("single run")


def test_a_published_row_without_ours_is_shown_and_is_no_row_of_the_comparison() -> None:
    joined = compare_with_published(
        published(4, "casia_surf"), measured({"sf_md": {0: 1.0, 1: 2.0}})
    )
    only_published = {b.published.label for b in joined if b.measured is None}
    assert only_published == {"sf_pe", "sf_pcme", "sf_dmr"}
    assert "sf_pe" not in measured({"sf_md": {0: 1.0}}).average


def test_the_mean_variance_comes_from_elsewhere() -> None:
    cells = published(6, "casia_surf")
    ours = {("sigma2", "sf_dmr[alpha=1e-3]", "average"): Summary(1.25, 0.1, 5, 0)}
    found = {
        (b.published.metric, b.published.label): b
        for b in compare_with_published(cells, measured({"sf_md": {0: 1.0}}), others=ours)
    }
    assert (
        found["sigma2", "sf_dmr[alpha=1e-3]"].difference == pytest.approx(0.14) and len(found) == 10
    )
    assert (
        found["sigma2", "sf_dmr[alpha=0]"].measured is None
        and found["acer", "sf_dmr[alpha=1e-3]"].measured is None
    )


def test_a_row_whose_seeds_all_failed_has_no_difference() -> None:
    nothing = measured({"sf_md": {0: 1.0}, "dmrnet": {}})
    found = [
        b
        for b in compare_with_published(
            published(3, "casia_surf"), nothing, {("dmrnet", "rgb"): (0.0, 9.0)}
        )
        if b.published.label == "dmrnet"
    ]
    assert math.isnan(nothing.average["dmrnet"].mean)
    assert all((b.measured, b.within, b.interval) == (None, None, None) for b in found)


def test_what_must_be_known_before_comparing() -> None:
    assert len(reservations(plan_of("casia_ablation"))) == 1
    smoke = reservations(
        Plan(
            load_study(
                ["study=casia_ablation", "preset=smoke", "seeds=[0,1,2]", "output=elsewhere"]
            )
        )
    )
    assert (
        len(smoke) == 2
        and "train.epochs" in smoke[0]
        and "backbone" in smoke[0]
        and "seeds" not in smoke[0]
    )


# ---------------------------------------------------------------------- mistakes

HEADER = "table,dataset,metric,method,combination,value\n"
MISTAKES = {
    "table,value\n1,2\n": "the first line must be table,dataset,metric,method,combination,value",
    "": "the first line must be",
    HEADER + "1,d,m,sf_md,a\n": "line 2: 6 values are needed",
    HEADER + "1,d,m,sf_md,,3\n": "none of them empty",
    HEADER + "one,d,m,sf_md,a,3\n": "line 2: table=one must be a whole number",
    HEADER + "1,d,m,sf_md,a,3%\n": "line 2: value=3% is not a number",
    HEADER + "1,d,m,sf_md,a,nan\n": "line 2: value=nan must be a finite number",
    HEADER + "1,d,m,sf_md,a,3\n1,d,m,sf_md,a,4\n": (
        "line 3: the cell sf_md, a of table 1 is there twice"
    ),
}


@pytest.mark.parametrize("content", MISTAKES)
def test_each_mistake_in_a_file_is_one_sentence(content: str, tmp_path: Path) -> None:
    path = tmp_path / "paper.csv"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        load(path)
    assert MISTAKES[content] in str(caught.value) and "paper.csv" in str(caught.value)


def test_a_file_or_table_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.csv: the published numbers cannot be read"):
        load(tmp_path / "nowhere.csv")
    with pytest.raises(
        UserError, match="published_table=8 does not exist; there are 1, 2, 3, 4, 5, 6, 7"
    ):
        published(8, "casia_surf")
    assert published(1, "digits") == ()
