"""Break-even severities and what is said of them, against cases counted by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from harness.analysis.findings import analyse
from harness.analysis.results import read
from harness.reporting.sections.bad_sensors import console_lines, even_text, sentence
from harness.robust.catalogue import Condition
from harness.robust.evidence import FOLDER, facts_of, keep
from harness.robust.findings import ALL, BadSensors, BreakEven, bad_sensors, crossing
from harness.store import Store
from harness.study.plan import Plan
from tests.support.handmade import planned, scores, trial_of, write_condition, write_trial
from tests.support.reports import write_report

CLEAN = (30, 24, 24, 42, 42, 36, 54)
"""Correct of 60: thumb, spectrum, profile, thumb+spectrum, thumb+profile, spectrum+profile, all."""

# thumb, thumb+spectrum, thumb+profile, all: the last three have partners without thumb, 24, 24 and
# 36 correct, 84 in all; clean 138.
SOUND = {1: (28, 40, 40, 50), 2: (20, 34, 34, 40), 3: (10, 24, 24, 30), 4: (6, 18, 18, 24)}
BAD = SOUND | {5: (6, 12, 12, 12)}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 2, 1, 1, 1, 0], math.inf),
        ([3, 2, 1, 1, 1, -1], 4.5),
        ([2, 1, -3, -4, -5, -6], 1.25),
        ([1, -1, 1, 1, -1, -1], 3.5),  # what comes back in between does not count
        ([-1, -1, -1, -1, -1, -1], 0.0),
        ([1, 0, -1, -1, -1, -1], 1.0),
        ([math.inf, math.inf, -1, -1, -1, -1], 1.0),
    ],
)
def test_the_severity_from_which_on_all_are_worse(values: list[float], expected: float) -> None:
    assert crossing(values) == pytest.approx(expected)


def written(output: Path, last: tuple[int, ...] = BAD[5]) -> tuple[Plan, Store]:
    """Two seeds of one row, alike, with thumb corrupted in two ways that differ at severity 5."""
    plan, store = planned(output, "methods=[sf_md]", "seeds=[0,1]")
    for seed in (0, 1):
        write_trial(plan, store, "sf_md", seed, CLEAN)
        for severity in range(1, 6):
            for name in ("blur", "jpeg"):
                correct = (BAD | {5: last if name == "jpeg" else BAD[5]})[severity]
                condition = Condition("thumb", "picture", name, severity, float(severity))
                write_condition(plan, store, "sf_md", seed, condition, correct)
    return plan, store


def found_in(plan: Plan, store: Store) -> BadSensors:
    found = bad_sensors(analyse(read(plan, store)))
    assert found is not None
    return found


def test_a_case_counted_by_hand(tmp_path: Path) -> None:
    plan, store = written(tmp_path, last=(6, 30, 30, 30))
    found = found_in(plan, store)
    assert list(found.declines) == [("sf_md", "thumb", name) for name in (ALL, "blur", "jpeg")]
    blur, jpeg = found.declines["sf_md", "thumb", "blur"], found.declines["sf_md", "thumb", "jpeg"]
    percent = [100 * n / 180 for n in (138, 130, 108, 78, 60, 36)]
    assert blur.trusted == pytest.approx(percent)
    assert blur.left_out == pytest.approx(100 * 84 / 180)
    # 108 at 2, 78 at 3, 84 without: 24 above, 6 below.
    assert blur.break_even.severity == pytest.approx(2 + 24 / 30)
    assert blur.break_even.low <= blur.break_even.severity <= blur.break_even.high
    # At severity 5, 90 are correct: trusting it is better again.
    assert jpeg.break_even.severity == math.inf
    mean = found.declines["sf_md", "thumb", ALL]
    assert mean.trusted[5] == pytest.approx(100 * (36 + 90) / 2 / 180)
    assert mean.untold[0] == pytest.approx(100 * (84 - 63) / 180)
    assert blur.untold[0] == pytest.approx(100 * (84 - 36) / 180)
    assert blur.each["thumb"] == pytest.approx([100 * n / 60 for n in (30, 28, 20, 10, 6, 6)])
    assert (found.stale, found.lacks) == (0, [])


def test_the_interval_is_where_the_ends_of_the_difference_cross_zero(tmp_path: Path) -> None:
    found = found_in(*written(tmp_path))
    blur = found.declines["sf_md", "thumb", "blur"]
    # Seeds are alike: the noise is that of the samples alone, each the mean of three differences.
    target = 60
    per_sample = np.zeros((6, target))
    for severity, correct in enumerate([(30, 42, 42, 54), *BAD.values()]):
        for trusted, left_out in zip(correct[1:], (24, 24, 36), strict=True):
            per_sample[severity, :trusted] += 100 / 3
            per_sample[severity, :left_out] -= 100 / 3
    half = 2.0010 * per_sample.std(1, ddof=1) / np.sqrt(target)  # t on 59 degrees of freedom
    mean = per_sample.mean(1)
    assert blur.break_even.low == pytest.approx(crossing((mean - half).tolist()), abs=1e-3)
    assert blur.break_even.high == pytest.approx(crossing((mean + half).tolist()), abs=1e-3)
    assert blur.break_even.low < blur.break_even.severity < blur.break_even.high


def test_what_is_half_evaluated_is_said_and_not_guessed(tmp_path: Path) -> None:
    plan, store = written(tmp_path)
    folder = store.trial(trial_of(plan, "sf_md", 1).id) / FOLDER
    sorted(folder.iterdir())[0].unlink()
    found = found_in(plan, store)
    assert found.lacks == ["sf_md, thumb: 1 of 2 seeds are evaluated to the end"]
    assert found.declines["sf_md", "thumb", ALL].seeds == 1


def test_damaged_evidence_is_no_evidence(tmp_path: Path) -> None:
    plan, store = written(tmp_path)
    for seed in (0, 1):
        for path in (store.trial(trial_of(plan, "sf_md", seed).id) / FOLDER).iterdir():
            body = bytearray(path.read_bytes())
            body[len(body) // 2] ^= 1
            path.write_bytes(bytes(body))
    assert bad_sensors(analyse(read(plan, store))) is None


def test_evidence_of_another_version_of_the_code_is_shown_and_said(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "methods=[sf_md]", "seeds=[0]")
    write_trial(plan, store, "sf_md", 0, CLEAN)
    folder = store.trial(trial_of(plan, "sf_md", 0).id)
    record = folder.record()
    assert record is not None
    target = plan.dataset.load("test").target.numpy()
    for severity, correct in BAD.items():
        condition = Condition("thumb", "picture", "blur", severity, float(severity))
        facts = facts_of(record, condition, "0123456789abcdef")
        keep(folder, facts, torch.from_numpy(scores(target, correct)), 0.5)
    found = found_in(plan, store)
    assert found.stale == 5 and found.declines["sf_md", "thumb", "blur"].seeds == 1
    text = write_report(plan, store).folder.joinpath("report.md").read_text()
    assert "5 evaluations were made by another version of the code" in text


# ---------------------------------------------------------------------- what is said


def test_the_report_says_it_in_one_sentence_and_shows_it(tmp_path: Path) -> None:
    plan, store = written(tmp_path)
    results = read(plan, store)
    findings = analyse(results)
    found = bad_sensors(findings)
    assert found is not None
    expected = (
        "With a bad sensor, sf_md (the row with the best average) is better told to do without"
        " thumb from severity 2.8 on."
    )
    assert sentence(findings, found) == expected
    assert console_lines(findings, found)[0] == expected
    folder = write_report(plan, store).folder
    text = (folder / "report.md").read_text()
    section = text[text.index("## Bad sensors") :]
    assert section.split("\n")[2] == expected
    assert "| sf_md  | thumb        | 76.7     | 72.2       | 60.0 " in section
    page = (folder / "report.html").read_text()
    assert '<section id="bad-sensors">' in page and "leave out from 2.8 on" in page


def test_the_long_table_has_the_corrupted_values_below_the_others(tmp_path: Path) -> None:
    plan, store = written(tmp_path)
    with_it = write_report(plan, store).folder / "report.csv"
    lines = with_it.read_text().splitlines()
    for seed in (0, 1):
        folder = store.trial(trial_of(plan, "sf_md", seed).id) / FOLDER
        for path in folder.iterdir():
            path.unlink()
    plain = (write_report(plan, store).folder / "report.csv").read_text().splitlines()
    assert [line.removesuffix(",,,") for line in lines[1 : len(plain)]] == plain[1:]
    assert lines[0] == f"{plain[0]},corrupted,corruption,severity"
    with_it.write_text("\n".join(lines))
    table = pd.read_csv(with_it)
    new = table[table["corrupted"].notna()]
    # One modality, two corruptions and their mean, four combinations, six severities.
    assert len(new) == 3 * 4 * 6
    one = new[(new["corruption"] == "blur") & (new["combination"] == "thumb+profile")]
    assert one.sort_values("severity")["value"].tolist() == pytest.approx(
        [100 * n / 60 for n in (42, 40, 34, 24, 18, 12)]
    )


def test_without_evidence_there_is_no_section(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "methods=[sf_md]", "seeds=[0]")
    write_trial(plan, store, "sf_md", 0, CLEAN)
    assert "Bad sensors" not in (write_report(plan, store).folder / "report.md").read_text()


def test_a_sensor_that_is_never_better_left_out_is_said_to_be_kept(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "methods=[sf_md]", "seeds=[0]")
    write_trial(plan, store, "sf_md", 0, CLEAN)
    for severity in range(1, 6):
        condition = Condition("thumb", "picture", "blur", severity, float(severity))
        write_condition(plan, store, "sf_md", 0, condition, SOUND[1])
    findings = analyse(read(plan, store))
    found = bad_sensors(findings)
    assert found is not None
    assert sentence(findings, found) == (
        "With a bad sensor, sf_md (the row with the best average) is better off with thumb up to"
        " severity 5, however bad."
    )
    assert even_text(BreakEven(2.41, 1.94, math.inf)) == "2.4 (1.9 to > 5)"
