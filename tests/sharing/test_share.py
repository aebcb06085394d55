"""Trials from one store to another: what arrives, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.store import Store, file_sha256, only_holder, write_atomically, write_json
from harness.study.config import load_study
from harness.study.plan import Plan
from tests.support.archives import (
    ARGUMENTS,
    COMMAND,
    CORRECT,
    Source,
    contents,
    imported,
    main,
    snapshot,
    write_four,
)
from tests.support.handmade import planned, trial_of
from tests.support.reports import write_report

ELSEWHERE = "## Where trials come from"


def without(text: str, heading: str) -> str:
    """A report without one of its sections."""
    before, _, after = text.partition(f"{heading}\n")
    return before + after[after.index("\n## ") + 1 :] if after else before


# ---------------------------------------------------------------------- there and back


def test_a_store_exported_and_imported_elsewhere_is_reported_identically(
    source: Source, elsewhere: Store
) -> None:
    own = write_report(source.plan, source.store, COMMAND)
    assert imported(source.archive, elsewhere) == 0
    plan, _ = planned(elsewhere.root.parent, *ARGUMENTS)
    other = write_report(plan, elsewhere, COMMAND)
    assert (own.folder / "report.csv").read_bytes() == (
        other.folder / "report.csv"
    ).read_bytes() and (own.folder / "report.tex").read_bytes() == (
        other.folder / "report.tex"
    ).read_bytes()
    assert (own.folder / "heatmap.png").read_bytes() == (other.folder / "heatmap.png").read_bytes()
    assert (own.folder / "report.md").read_text() == without(
        (other.folder / "report.md").read_text(), ELSEWHERE
    )
    assert ELSEWHERE not in (own.folder / "report.md").read_text()
    sha = file_sha256(source.archive)[:12]
    assert (
        f"- shared.zip (sha256 {sha}, by Ann, lab A): 4 trials, of sf_md, hemis\n- made in this"
        " store: 0" in (other.folder / "report.md").read_text()
    )


def test_everything_of_a_trial_arrives_but_what_belongs_to_the_machine(
    source: Source, elsewhere: Store
) -> None:
    trial = source.store.trial(source.plan.trials[0].id)
    write_atomically(trial / "log.txt", lambda stream: stream.write(b"/home/ann: process 12"))
    imported(source.archive, elsewhere)
    for planned_trial in source.plan.trials:
        mine, theirs = (store.trial(planned_trial.id) for store in (source.store, elsewhere))
        assert {path.name for path in theirs.path.iterdir()} == {
            *(
                "record.json",
                "spec.json",
                "scores.npz",
                "weights.pt",
                "metrics.jsonl",
                "origin.json",
            )
        }
        for name in ("record.json", "spec.json", "scores.npz", "weights.pt", "metrics.jsonl"):
            assert (mine / name).read_bytes() == (theirs / name).read_bytes()
    assert not (elsewhere.root / "incoming").exists()


def test_the_archive_says_what_it_holds_and_nothing_of_the_machine(source: Source) -> None:
    files = contents(source.archive)
    manifest = json.loads(files["manifest.json"])
    assert set(manifest["files"]) == set(files) - {"manifest.json"}
    for name, facts in manifest["files"].items():
        assert facts == {
            "bytes": len(files[name]),
            "sha256": hashlib.sha256(files[name]).hexdigest(),
        }
    assert manifest["by"] == "Ann, lab A" and {"python", "torch", "numpy", "platform"} <= set(
        manifest["environment"]
    )
    description = next(json.loads(body) for name, body in files.items() if name.startswith("data/"))
    assert description["facts"]["fingerprint"] == source.plan.dataset.fingerprint()
    assert description["counts"] == {"train": 60, "val": 60, "test": 60}
    assert all(
        str(source.output).encode() not in body and b"/home/" not in body for body in files.values()
    )


def test_the_same_trials_give_the_same_archive(source: Source, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    assert main("export", *COMMAND, f"output={source.output}", str(again), "by=Ann, lab A") == 0
    assert again.read_bytes() == source.archive.read_bytes()


def test_an_archive_goes_on_with_its_way(source: Source, elsewhere: Store, tmp_path: Path) -> None:
    imported(source.archive, elsewhere)
    second = tmp_path / "second.zip"
    assert main("export", *COMMAND, f"output={elsewhere.root.parent}", str(second), "by=Bob") == 0
    third = Store.below(tmp_path / "third")
    imported(second, third)
    origin = third.trial(source.plan.trials[0].id).origin()
    assert origin is not None
    assert [(one["archive"], one["by"]) for one in origin["archives"]] == [
        ("shared.zip", "Ann, lab A"),
        ("second.zip", "Bob"),
    ]
    assert origin["archives"][0]["sha256"] == file_sha256(source.archive)


def test_the_study_of_an_archive_plans_the_same_trials(
    source: Source, elsewhere: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(source.archive, elsewhere)
    file = elsewhere.root.parent / "imported" / "shared.yaml"
    assert f"study={file}" in capsys.readouterr().out
    plan = Plan(load_study([f"study={file}"]))
    assert [(t.id, t.row.label, t.seed) for t in plan.trials] == [
        (t.id, t.row.label, t.seed) for t in source.plan.trials
    ]
    assert plan.study.description == source.plan.study.description


# ---------------------------------------------------------------------- twice, and in another way


def test_a_second_import_changes_nothing(
    source: Source, elsewhere: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(source.archive, elsewhere)
    before = {
        path: path.stat().st_mtime_ns
        for path in elsewhere.root.glob("*/*")
        if path.parent.name != "locks"
    }
    assert imported(source.archive, elsewhere) == 0
    assert "added: 0\n  already there with the same results: 4" in capsys.readouterr().out
    assert {
        path: path.stat().st_mtime_ns
        for path in elsewhere.root.glob("*/*")
        if path.parent.name != "locks"
    } == before


def other_results(output: Path) -> tuple[Plan, Store]:
    """The same four trials made on another machine, one with three more correct predictions."""
    return write_four(output, CORRECT | {("sf_md", 0): 23}, device="y")


def test_other_results_under_one_id_are_refused_and_listed(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, store = other_results(tmp_path / "runs")
    before = snapshot(store)
    assert imported(source.archive, store) == 2
    error = capsys.readouterr().err
    # Averages: (20 + 9) / 60 there, (23 + 9) / 60 here; the other three trials agree though another
    # machine made them.
    assert error.count("\n") == 1 and "1 of its trials are here with other results" in error
    assert (
        f"sf_md seed 0 (trial {trial_of(plan, 'sf_md', 0).id}): average on test 53.3333 here,"
        " 48.3333 there" in error
    )
    assert "made on y, torch 2 here, x, torch 2 there" in error and "keep=ours" in error
    assert snapshot(store) == before


def test_keep_says_whose_results_stay(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, store = other_results(tmp_path / "runs")
    trial = store.trial(trial_of(plan, "sf_md", 0).id)
    ours, theirs = (
        (one.trial(trial.path.name) / "record.json").read_bytes() for one in (store, source.store)
    )
    assert imported(source.archive, store, "keep=ours") == 0
    assert "here with other results, ours kept: 1" in capsys.readouterr().out
    assert (trial / "record.json").read_bytes() == ours and trial.origin() is None
    assert imported(source.archive, store, "keep=theirs") == 0
    assert (trial / "record.json").read_bytes() == theirs and trial.origin() is not None
    aside = list((store.root / "superseded").glob(f"{trial.path.name}-*/record.json"))
    assert [path.read_bytes() for path in aside] == [ours]


def test_what_was_begun_here_gives_way_and_is_kept_aside(source: Source, elsewhere: Store) -> None:
    begun, failed = source.plan.trials[0].id, source.plan.trials[1].id
    write_json(elsewhere.trial(begun) / "spec.json", {})
    write_json(elsewhere.trial(failed) / "failure.json", {"reason": "no memory"})
    assert imported(source.archive, elsewhere) == 0
    assert all(elsewhere.trial(trial.id).record() is not None for trial in source.plan.trials)
    assert elsewhere.trial(failed).failure() is None
    assert {path.parent.name[:16] for path in (elsewhere.root / "superseded").glob("*/*.json")} == {
        begun,
        failed,
    }


def test_a_trial_in_use_is_left_alone(
    source: Source, elsewhere: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    held = source.plan.trials[0].id
    with elsewhere.locked(held):
        assert imported(source.archive, elsewhere) == 1
    assert (
        "left out, in use by another process; import again when it has ended: 1"
        in capsys.readouterr().out
    )
    assert not elsewhere.trial(held).path.exists() and len(elsewhere.ids()) == 3
    assert imported(source.archive, elsewhere) == 0 and len(elsewhere.ids()) == 4


# ---------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["exprt", "x.zip"], "unknown command of harness.share: 'exprt'"),
        (["export", "study=quickstart"], "harness.share export needs one FILE, and 0 are given"),
        (
            ["import", "a.zip", "b.zip"],
            "harness.share import needs one FILE, and 2 are given: a.zip, b.zip",
        ),
        (["import", "a.zip", "study=quickstart"], "'study=quickstart' does not go with import"),
        (["import", "a.zip", "keep=mine"], "keep=mine must be ours or theirs"),
        (["import", "a.zip", "--no-weights"], "--no-weights goes with export"),
        (["import", "absent.zip"], "absent.zip is not a file"),
        (["export", "study=quickstrt", "x.zip"], "unknown study 'quickstrt'"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: Sequence[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1
    assert not [
        path for path in tmp_path.rglob("*") if path.is_file() and "locks" not in path.parts
    ]


def test_help_and_a_second_import_at_the_same_time(
    source: Source, elsewhere: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main("--help") == 0 and "usage: python -m harness.share export" in capsys.readouterr().out
    )
    with only_holder(elsewhere.root / "locks" / "import", "x"):
        assert imported(source.archive, elsewhere) == 2
    assert "another archive is being imported" in capsys.readouterr().err
