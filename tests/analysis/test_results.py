"""The long table and the comparison against numbers counted by hand (see handmade.py)."""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datasets.digits import Digits
from harness.analysis.comparison import comparison
from harness.analysis.results import holes, long_table, read
from harness.analysis.verification import verify
from harness.protocol.metrics import METRICS
from harness.store import write_json
from tests.support.handmade import (
    ENVIRONMENT,
    LADDER,
    NAMES,
    N,
    ladder,
    planned,
    trial_of,
    write_trial,
)


def exact_std(values: list[Fraction]) -> float:
    """Sample standard deviation in exact arithmetic up to the root."""
    mean = sum(values, Fraction(0)) / len(values)
    return math.sqrt(sum(((v - mean) ** 2 for v in values), Fraction(0)) / (len(values) - 1))


def test_long_table_has_one_row_per_trial_split_and_combination(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    second = write_trial(plan, store, "dmrnet", 2, ladder(12))
    first = write_trial(plan, store, "sf_md", 1, ladder(30), last=ladder(27))
    everything = long_table(plan, store)
    table = everything[everything["metric"] == "accuracy"]
    assert list(table.columns) == [
        *(
            "dataset",
            "method",
            "variant",
            "hparams",
            "label",
            "seed",
            "trial_id",
            "split",
            "combination",
            "n_present",
        ),
        *("metric", "value", "higher_is_better", "n", "collapsed", "status"),
    ]
    assert len(table) == 2 * 3 * 7
    assert table["trial_id"].unique().tolist() == [first.id, second.id]
    block = table[(table["label"] == "sf_md") & (table["split"] == "test")]
    assert block["combination"].tolist() == list(NAMES)
    assert block["n_present"].tolist() == [1, 1, 1, 2, 2, 2, 3]
    assert block["value"].tolist() == [50.0, 55.0, 60.0, 65.0, 70.0, 75.0, 80.0]
    assert (
        table[(table["label"] == "sf_md") & (table["split"] == "test_last_epoch")][
            "value"
        ].tolist()[0]
        == 45.0
    )
    assert table["split"].unique().tolist() == ["val", "test", "test_last_epoch"]
    assert set(table["hparams"]) == {"{}", '{"alpha":0.001,"beta":0.7,"hard_set":""}'}
    constant = ["dataset", "variant", "metric", "higher_is_better", "n", "collapsed", "status"]
    assert table[constant].drop_duplicates().values.tolist() == [
        ["digits", "paper", "accuracy", True, N, False, "done"]
    ]
    assert table[["label", "method", "seed"]].drop_duplicates().values.tolist() == [
        ["sf_md", "sf_md", 1],
        ["dmrnet", "dmrnet", 2],
    ]


def test_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    for seed, start in ((0, 30), (1, 33), (2, 36)):
        write_trial(plan, store, "sf_md", seed, ladder(start))
    found = read(plan, store).comparison()
    for position, name in enumerate(NAMES):
        cell = found.cells["sf_md", name]
        assert (cell.mean, cell.std, cell.seeds, cell.collapsed) == (
            pytest.approx(55 + 5 * position),
            pytest.approx(5),
            3,
            0,
        )
    average, worst = found.average["sf_md"], found.worst["sf_md"]
    assert (average.mean, average.std, average.seeds) == (pytest.approx(70), pytest.approx(5), 3)
    assert (worst.mean, worst.std, worst.seeds) == (pytest.approx(55), pytest.approx(5), 3)
    assert found.labels == ("sf_md", "hemis", "dmrnet")
    assert found.combinations == NAMES


def test_spread_uses_unrounded_values(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    counts = (20, 21, 23)
    for seed, start in enumerate(counts):
        write_trial(plan, store, "hemis", seed, ladder(start))
    expected = exact_std([Fraction(100 * count, N) for count in counts])
    found = read(plan, store).comparison()
    assert found.cells["hemis", "thumb"].std == pytest.approx(expected, rel=1e-12)
    assert found.average["hemis"].std == pytest.approx(expected, rel=1e-12)
    assert found.cells["hemis", "thumb"].mean == pytest.approx(
        float(Fraction(6400, 180)), rel=1e-12
    )


def test_worst_is_taken_within_each_trial(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0,1]")
    write_trial(plan, store, "sf_md", 0, [12, 30, 30, 30, 30, 30, 30])
    write_trial(plan, store, "sf_md", 1, [30, 30, 6, 30, 30, 30, 30])
    found = read(plan, store).comparison()
    # 20 % and 10 %; the columns' means are 35 % and 30 % at least.
    assert found.worst["sf_md"].mean == pytest.approx(15)
    assert found.worst["sf_md"].std == pytest.approx(math.sqrt(50))
    assert min(found.cells["sf_md", name].mean for name in NAMES) == pytest.approx(30)


def test_worst_follows_the_metric_direction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = dataclasses.replace(METRICS["accuracy"], name="error", higher_is_better=False)
    monkeypatch.setitem(METRICS, "error", error)
    plan, store = planned(tmp_path, "seeds=[0,1]")
    for seed, start in ((0, 30), (1, 36)):
        write_trial(plan, store, "sf_md", seed, ladder(start), metric="error")
    table = read(plan, store).table
    assert set(table["higher_is_better"]) == {False}
    found = comparison(table, error, ["sf_md"], NAMES, planned=2)
    # The largest of each ladder: 48 and 54 of 60.
    assert found.worst["sf_md"].mean == pytest.approx(85)
    assert found.average["sf_md"].mean == pytest.approx(70)


def test_missing_seeds_are_counted_and_one_seed_has_no_spread(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    write_trial(plan, store, "sf_md", 0, ladder(30))
    write_trial(plan, store, "hemis", 0, ladder(30))
    write_trial(plan, store, "hemis", 2, ladder(36))
    found = read(plan, store).comparison()
    assert found.planned == 3
    one, two, none = (found.average[label] for label in ("sf_md", "hemis", "dmrnet"))
    assert (one.seeds, one.mean) == (1, pytest.approx(65)) and math.isnan(one.std)
    assert (two.seeds, two.mean, two.std) == (2, pytest.approx(70), pytest.approx(math.sqrt(50)))
    assert none.seeds == 0 and math.isnan(none.mean) and math.isnan(none.std)
    assert math.isnan(found.cells["dmrnet", "thumb"].mean) and math.isnan(
        found.worst["dmrnet"].mean
    )


def test_a_row_that_lacks_a_combination_in_all_seeds_has_no_average() -> None:
    one = {"split": "test", "metric": "accuracy", "seed": 0, "collapsed": False}
    # No sample has b. One model per combination, and that of a+b failed.
    cells = {
        "robust": {"a": (50.0, 8), "b": (None, 0), "a+b": (70.0, 8)},
        "apart": {"a": (90.0, 8), "b": (None, 0)},
    }
    table = pd.DataFrame(
        one | {"label": label, "combination": name, "value": value, "n": n}
        for label, of_row in cells.items()
        for name, (value, n) in of_row.items()
    )
    found = comparison(table, METRICS["accuracy"], list(cells), ["a", "b", "a+b"], 1)
    assert found.unseen == ("b",)
    assert (found.average["robust"].mean, found.worst["robust"].mean) == (60.0, 50.0)
    apart = found.average["apart"]
    assert apart.seeds == found.worst["apart"].seeds == 0 and math.isnan(apart.mean)


def test_empty_store_gives_an_empty_table_with_its_columns(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    table = long_table(plan, store)
    assert table.empty and "n_present" in table.columns
    assert all(summary.seeds == 0 for summary in read(plan, store).comparison().cells.values())
    assert len(holes(plan, store)) == 9


def test_collapsed_models_count_as_scored(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0,1]")
    write_trial(plan, store, "sf_md", 0, [None, *ladder(30)[1:]])
    write_trial(plan, store, "sf_md", 1, ladder(30))
    zeros = int((plan.dataset.load("test").target == 0).sum())
    assert zeros != 30
    found = read(plan, store).comparison()
    assert found.cells["sf_md", "thumb"].collapsed == 1
    assert found.cells["sf_md", "thumb"].mean == pytest.approx((100 * zeros / N + 50) / 2)
    assert found.cells["sf_md", "spectrum"].collapsed == 0
    assert (found.average["sf_md"].collapsed, found.worst["sf_md"].collapsed) == (1, 1)
    assert [done.collapsed for done in read(plan, store).of("sf_md")] == [["thumb"], []]


def test_stale_trials_stay_in_the_table_and_say_so(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0,1]")
    write_trial(plan, store, "sf_md", 0, ladder(30), code="0123456789abcdef")
    write_trial(plan, store, "sf_md", 1, ladder(33))
    table = long_table(plan, store)
    assert table[["seed", "status"]].drop_duplicates().values.tolist() == [
        [0, "stale"],
        [1, "done"],
    ]
    assert read(plan, store).comparison().cells["sf_md", "thumb"].seeds == 2


def test_holes_tell_state_and_reason(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0,1]")
    write_trial(plan, store, "sf_md", 0, ladder(30))
    short = store.trial(write_trial(plan, store, "sf_md", 1, ladder(30)).id)
    (short / "scores.npz").write_bytes(b"cut")
    begun = store.trial(trial_of(plan, "hemis", 0).id)
    write_json(begun / "spec.json", {})
    begun.save_history(
        [{"step": 0, "time": 0.0, "values": {}}, {"step": 1, "time": 1.0, "values": {}}]
    )
    broken = store.trial(trial_of(plan, "dmrnet", 1).id)
    write_json(broken / "spec.json", {})
    write_json(broken / "failure.json", {"reason": "train/loss became nan in epoch 3"})
    found = holes(plan, store)
    assert [(hole.label, hole.seed, hole.state, hole.reason) for hole in found] == [
        (
            "sf_md",
            1,
            "started",
            "scores.npz missing, or not of the recorded size; the next run repeats it",
        ),
        ("hemis", 0, "started", "unfinished: 2 of 30 epochs"),
        ("hemis", 1, "new", "not run yet"),
        ("dmrnet", 0, "new", "not run yet"),
        ("dmrnet", 1, "failed", "train/loss became nan in epoch 3"),
    ]
    assert found[1].trial_id == trial_of(plan, "hemis", 0).id
    assert set(long_table(plan, store)["trial_id"]) == {trial_of(plan, "sf_md", 0).id}


def test_two_rows_may_share_a_trial(tmp_path: Path) -> None:
    plan, store = planned(
        tmp_path, "methods=[{method: sf_md, label: one}, {method: sf_md, label: two}]", "seeds=[0]"
    )
    trial = write_trial(plan, store, "one", 0, ladder(30))
    found = read(plan, store)
    assert found.comparison().average["two"].mean == pytest.approx(65)
    assert found.holes == ()
    (store.trial(trial.id) / "scores.npz").write_bytes(
        b"\0" * (store.trial(trial.id) / "scores.npz").stat().st_size
    )
    assert len(verify(plan, store)) == 1


def test_synthetic_data_are_named_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Digits.spec.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Digits, "spec", property(lambda self: dataclasses.replace(real(self), synthetic=True))
    )
    plan, store = planned(tmp_path)
    write_trial(plan, store, "sf_md", 0, ladder(30))
    assert set(long_table(plan, store)["dataset"]) == {"digits (synthetic)"}


def test_table_survives_csv_to_the_last_digit(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0]")
    write_trial(plan, store, "sf_md", 0, [7, 11, 13, 17, 19, 23, 29])
    table = long_table(plan, store)
    table.to_csv(tmp_path / "t.csv", index=False)
    again = pd.read_csv(tmp_path / "t.csv", float_precision="round_trip")
    assert again["value"].tolist() == table["value"].tolist()
    table = table[table["metric"] == "accuracy"]
    assert table[table["split"] == "test"]["value"].tolist() == [
        100.0 * count / 60 for count in (7, 11, 13, 17, 19, 23, 29)
    ]


# ---------------------------------------------------------------------- verify


def test_verify_finds_nothing_wrong_with_whole_trials(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    write_trial(plan, store, "sf_md", 0, [None, *ladder(30)[1:]])
    write_trial(plan, store, "hemis", 0, [7, 11, 13, 17, 19, 23, 29])
    assert verify(plan, store) == []


def test_verify_finds_changed_scores(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    good = write_trial(plan, store, "sf_md", 0, ladder(30))
    bad = write_trial(plan, store, "hemis", 1, ladder(30))
    path = store.trial(bad.id) / "scores.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (problem,) = verify(plan, store)
    assert (
        bad.id in problem
        and "hemis seed 1" in problem
        and "scores.npz" in problem
        and "sha256" in problem
    )
    assert good.id not in problem


def test_verify_finds_a_changed_record(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    trial = write_trial(plan, store, "sf_md", 0, ladder(30))
    path = store.trial(trial.id) / "record.json"
    record = json.loads(path.read_text())
    record["cells"]["test"]["thumb+profile"]["value"] = 99.0
    path.write_text(json.dumps(record))
    (problem,) = verify(plan, store)
    assert (
        "for thumb+profile on test, record.json says 99 on 60 samples, and scores.npz gives 70 on"
        " 60 samples" in problem
    )


def test_verify_finds_a_hidden_collapse(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    trial = write_trial(plan, store, "sf_md", 0, [None, *ladder(30)[1:]])
    path = store.trial(trial.id) / "record.json"
    record = json.loads(path.read_text())
    record["cells"]["test"]["thumb"]["collapsed"] = False
    path.write_text(json.dumps(record))
    (problem,) = verify(plan, store)
    assert "for thumb on test" in problem and "(collapsed)" in problem


def test_verify_counts_only_samples_that_have_the_modalities(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    trial = write_trial(plan, store, "sf_md", 0, ladder(30))
    folder = store.trial(trial.id)
    arrays = folder.scores()
    arrays["test_available"] = np.ones((N, 3), dtype=bool)
    arrays["test_available"][:15, 1] = (
        False  # 15 right predictions fewer wherever spectrum is needed
    )
    np.savez(folder / "scores.npz", **arrays)
    record = json.loads((folder / "record.json").read_text())
    record["files"] = folder.describe_files("scores.npz", "weights.pt")
    for name, step in zip(NAMES, LADDER, strict=True):
        if "spectrum" in name:
            record["cells"]["test"][name] = {
                "value": 100 * (15 + step) / 45,
                "n": 45,
                "collapsed": False,
            }
    write_json(folder / "record.json", record)
    assert verify(plan, store) == []


@pytest.mark.parametrize("name", ["scores.npz", "weights.pt"])
def test_verify_finds_a_missing_file(tmp_path: Path, name: str) -> None:
    plan, store = planned(tmp_path)
    trial = write_trial(plan, store, "sf_md", 0, ladder(30))
    (store.trial(trial.id) / name).unlink()
    (problem,) = verify(plan, store)
    assert trial.id in problem and f"{name} missing" in problem


def test_verify_finds_a_cut_record_and_a_foreign_one(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    write_trial(plan, store, "sf_md", 0, ladder(30), trial_id="feedfeedfeedfeed")
    cut = store.trial(write_trial(plan, store, "sf_md", 1, ladder(30)).id) / "record.json"
    cut.write_bytes(cut.read_bytes()[:100])
    foreign, unreadable = verify(plan, store)
    assert "its record belongs to trial feedfeedfeedfeed" in foreign
    assert "record.json cannot be read" in unreadable


def test_mixed_devices_are_known_per_row(tmp_path: Path) -> None:
    from harness.reporting.text import devices, marked

    plan, store = planned(tmp_path, "seeds=[0,1]")
    for label in ("sf_md", "hemis"):
        write_trial(plan, store, label, 0, ladder(30))
    write_trial(plan, store, "sf_md", 1, ladder(30), environment=ENVIRONMENT | {"device": "cuda"})
    write_trial(plan, store, "hemis", 1, ladder(30))
    found = read(plan, store)
    assert devices(found, "sf_md") == {"cpu", "cuda"}
    assert (marked(found, "sf_md"), marked(found, "hemis")) == ("sf_md ‡", "hemis")
