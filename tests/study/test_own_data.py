"""study=own_data from a manifest to its report, and the rows that the entry `all` stands for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness import run, show
from harness.analysis.results import read
from harness.cli import guarded
from harness.data import contents
from harness.deploy import CARD, WEIGHTS, card, card_text, load
from harness.errors import UserError
from harness.registry import METHODS
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from tests.support.media import classification, read_rows, segmentation, write_csv

QUICK = (
    "seeds=[0]",
    "train.epochs=1",
    "train.batch_size=8",
    "backbone.width=4",
    "executor=local",
    "tracking.enabled=false",
)


def study(path: Path, *settings: str) -> list[str]:
    return [
        "study=own_data",
        f"dataset.manifest={path}",
        f"output={path.parent / 'runs'}",
        *QUICK,
        *settings,
    ]


def test_all_is_the_baseline_and_every_method_of_the_task(tmp_path: Path) -> None:
    labels = [row.label for row in Plan(load_study(study(classification(tmp_path)))).rows]
    assert labels[0] == "sf_md" and labels[1:] == sorted(labels[1:])
    assert {"dmrnet", "hemis", "lcr", "mmanet", "mmformer", "rfnet", "shaspec"} <= set(labels)
    other = {
        "sf_dmr",
        "sf_pe",
        "sf_pcme",
        "sf_md_scaled",
        "sf_dmr_scaled",
        "sf_md_reweighted",
        "dedicated",
    }
    assert not other & set(labels)
    roles = {name: METHODS.get(name).role for name in other}
    assert {name for name, role in roles.items() if role == "ablation"} == {
        "sf_dmr",
        "sf_pe",
        "sf_pcme",
    }
    assert {name for name, role in roles.items() if role == "reference"} == {"dedicated"}


def test_all_follows_the_task_and_goes_with_other_entries(tmp_path: Path) -> None:
    plan = Plan(
        load_study(study(segmentation(tmp_path), "methods=[all,{method: sf_md, label: again}]"))
    )
    labels = [row.label for row in plan.rows]
    # OGM-MD does no segmentation; ESANet's method needs its own network.
    assert (
        labels[0] == "sf_md" and labels[-1] == "again" and not {"ogm_md", "esanet_md"} & set(labels)
    )
    assert all("segmentation" in row.method_class.tasks for row in plan.rows)


def lacking(path: Path, keep: int) -> Path:
    """Only the first ``keep`` training samples have every modality."""
    rows = read_rows(path)
    train = [row for row in rows if row["split"] == "train"]
    for row in train[keep:]:
        row["vec"] = ""
    return write_csv(path, rows)


def test_a_method_that_needs_complete_data_asks_or_is_left_out(tmp_path: Path) -> None:
    path = lacking(classification(tmp_path), keep=6)
    with pytest.raises(
        UserError,
        match=(
            r"only 6 training samples of manifest have every"
            r" modality.*missing\.complete_subset=true"
        ),
    ):
        Plan(load_study(study(path, "missing.complete_subset=false", "methods=[mmanet]")))
    assert "mmanet" in {row.label for row in Plan(load_study(study(path))).rows}
    lacking(path, keep=1)
    assert "mmanet" not in {row.label for row in Plan(load_study(study(path))).rows}
    with pytest.raises(UserError, match=r"leave it out$"):
        Plan(load_study(study(path, "methods=[mmanet]")))


def without_complete_val(path: Path) -> Path:
    """No sample of val has every modality; every two are seen together."""
    rows = read_rows(path)
    for n, row in enumerate(row for row in rows if row["split"] == "val"):
        row[("pic", "snd", "vec")[n % 3]] = ""
    return write_csv(path, rows)


def test_a_method_whose_teacher_no_val_sample_selects_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = without_complete_val(classification(tmp_path))
    plan = Plan(load_study(study(path)))
    assert plan.spec.unselectable == ("pic+snd+vec",)
    assert "mmanet" not in {row.label for row in plan.rows} and len(plan.rows) > 5
    with pytest.raises(UserError, match=r"'mmanet' cannot do without val samples .*; leave it out"):
        Plan(load_study(study(path, "methods=[mmanet]")))
    with pytest.raises(UserError, match=r"train\.combination=pic\+snd\+vec: no sample of val"):
        Plan(load_study(study(path, "train.combination=vec+snd+pic")))
    assert guarded(run.main, study(path)) == 0
    printed = capsys.readouterr().out
    assert (
        "left out of methods=all: mmanet, for want of val samples that have every modality (there"
        " are none), by which the weights of its teacher are selected" in printed
    )
    assert "holes" not in printed


def apart(path: Path) -> Path:
    """No sample has both a picture and a vector, nor a picture and a sound."""
    rows = read_rows(path)
    for n, row in enumerate(rows):
        for name in ("snd", "vec") if n // 2 % 2 else ("pic",):
            row[name] = ""
    return write_csv(path, rows)


def test_combinations_that_no_sample_has_are_said_and_no_method_needs_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = apart(classification(tmp_path))
    plan = Plan(load_study(study(path)))
    assert plan.spec.complete == 0 and "mmanet" not in {row.label for row in plan.rows}
    assert guarded(run.main, study(path, "--dry-run")) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "methods=all: mmanet, for want of training samples that have every modality (there are 0)"
        in printed
    )
    # Of all 7 combinations samples have pic, snd, vec and snd+vec.
    assert guarded(run.main, study(path, "methods=[sf_md,hemis]")) == 0
    printed = capsys.readouterr().out
    assert (
        "averaged over the 4 of 7 combinations that test samples have, without pic+snd, pic+vec and"
        in printed
    )
    row = next(line for line in printed.splitlines() if line.startswith("sf_md "))
    assert row.split().count("–") == 3 and "(0/1)" not in row
    for split, what in (("test", "average and worst are over"), ("val", "weights are selected")):
        line = next(s for s in printed.splitlines() if s.startswith(f"no sample of {split} has"))
        assert what in line and "pic+snd or pic+vec or pic+snd+vec" in line
    report = (tmp_path / "runs/own_data/report.md").read_text()
    assert "no sample of test has pic+snd or pic+vec or pic+snd+vec" in report


def test_a_card_says_how_files_become_what_a_model_takes(tmp_path: Path) -> None:
    path = classification(tmp_path)
    given = study(path, "methods=[sf_md]")
    assert guarded(run.main, given) == 0
    results = read(Plan(load_study(given)), Store.below(tmp_path / "runs"))
    done, folder = results.finished[0], tmp_path / "model"
    facts = card(done.trial.job, done.record, results.plan.spec)
    folder.mkdir()
    (folder / CARD).write_text(json.dumps(facts))
    trial = results.store.trial(done.trial.id)
    (folder / WEIGHTS).write_bytes((trial / WEIGHTS).read_bytes())
    rows = [row for row in read_rows(path) if row["split"] == "test"]
    files = {
        "pic": [np.array(Image.open(tmp_path / row["pic"]))[None] for row in rows],
        "vec": [np.load(tmp_path / row["vec"])[:, None, None] for row in rows],
        # Absent: it may hold anything.
        "snd": [np.full(results.plan.spec.modalities[1].shape, np.nan) for _ in rows],
    }
    inputs = {}
    for modality in facts["data"]["modalities"]:
        mean, std = (np.reshape(modality[key], (-1, 1, 1)) for key in ("mean", "std"))
        values = (np.stack(files[modality["name"]]).astype(np.float64) - mean) / std
        inputs[modality["name"]] = torch.tensor(values, dtype=torch.float32)
    present = torch.tensor([[True, False, True]]).expand(len(rows), -1)
    torch.set_num_threads(1)
    with torch.no_grad():
        logits = load(folder)(inputs, present).logits
    at = [c.name for c in results.plan.combinations].index("pic+vec")
    assert logits.numpy() == pytest.approx(trial.scores()["test"][at], rel=1e-4, abs=1e-5)
    text = card_text(facts)
    pixels = np.stack([Image.open(tmp_path / f"pic/train{n}.png") for n in range(16)])
    assert f"| {pixels.mean():g} " in text and f"| {pixels.std():g} " in text
    # A trial of an older version did not keep them.
    del done.record["normalisation"]
    assert "not recorded" in card_text(card(done.trial.job, done.record, results.plan.spec))


@pytest.mark.parametrize("word", ["worst", "Average", "average_low"])
def test_a_modality_called_like_a_summary_is_one_sentence(
    tmp_path: Path, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = classification(tmp_path)
    rows = [{(word if k == "vec" else k): v for k, v in row.items()} for row in read_rows(path)]
    assert guarded(run.main, study(write_csv(path, rows))) == 2
    said = capsys.readouterr()
    assert f"has a modality called '{word}', which is what reports call" in said.err + said.out
    assert not (tmp_path / "runs/store").exists()


@pytest.mark.parametrize("word", ["all", "test"])
def test_other_words_of_ours_are_names_like_any(
    tmp_path: Path, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = classification(tmp_path)
    rows = []
    for row in read_rows(path):
        renamed = {(word if key == "vec" else key): value for key, value in row.items()}
        rows.append(renamed | {"label": word if row["label"] == "cat" else "average"})
    settings = study(write_csv(path, rows), f"methods=[{{method: sf_md, label: {word}}},hemis]")
    assert guarded(run.main, settings) == 0
    plan = Plan(load_study(settings))
    assert plan.rows[0].label == word and set(plan.spec.classes) == {word, "average"}
    assert word in plan.spec.names and f"pic+{word}" in capsys.readouterr().out


def test_the_card_of_a_manifest_tells_what_is_inferred(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = classification(tmp_path)
    (tmp_path / "vec/test7.npy").write_bytes(b"no array")
    rows = [
        row | {"group": f"p{n % 4}", "subject": "Dr. Ng"} for n, row in enumerate(read_rows(path))
    ]
    write_csv(path, rows)
    before = sorted(tmp_path.rglob("*"))
    words = ["dataset=manifest", f"dataset.manifest={path}", f"output={tmp_path / 'runs'}"]
    assert guarded(show.main, words) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for line in (
        "pic 1x16x12: 30 pictures, grey, 8 bits, 16x12",
        "vec: array, npy (5,) features -> float32 (5, 1, 1)",
        "train: 16 (cat 8, dog 8)",
        "test: 8 (cat 4, dog 4)",
        "val: 4 groups",
        "subject",
    ):
        assert line in lines, line
    assert any("vec/test7.npy (no header" in line for line in lines)
    assert sorted(tmp_path.rglob("*")) == before
    assert guarded(show.main, ["dataset=manifest", "dataset.manifest=nowhere.csv"]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert guarded(show.main, [*words, "dataset.options.vectors=sequence"]) == 0
    assert "npy (5,) sequence -> float32 (1, 1, 5)" in capsys.readouterr().out


def test_the_study_without_a_manifest_is_shown_and_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert guarded(show.main, ["study=own_data"]) == 0
    assert "needs dataset.manifest=PATH" in capsys.readouterr().out
    assert guarded(show.main, ["studies"]) == 0 and "own_data" in capsys.readouterr().out
    assert (
        guarded(show.main, ["dataset=manifest"]) == 0
        and "needs dataset.manifest=PATH" in capsys.readouterr().out
    )
    assert guarded(run.main, ["study=own_data"]) == 2
    assert "needs dataset.manifest=PATH" in capsys.readouterr().err


def test_classification_end_to_end_with_missing_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lacking(classification(tmp_path), keep=10)
    rows = read_rows(path)
    tests = [row for row in rows if row["split"] == "test"]
    for row in tests[:3]:
        row["snd"] = ""
    settings = study(write_csv(path, rows), "methods=[sf_md,mmanet]")
    assert guarded(run.main, settings) == 0
    printed = capsys.readouterr().out
    assert "data: pic: 30 pictures, grey, 8 bits, 16x12 -> 1x16x12" in printed
    plan = Plan(load_study(settings))
    table = read(plan, Store.below(tmp_path / "runs")).table
    cells = table[(table["split"] == "test") & (table["label"] == "sf_md")].set_index(
        "combination"
    )["n"]
    assert cells.to_dict() == {name: 8 - 3 * ("snd" in name) for name in cells.index}
    report = (tmp_path / "runs/own_data/report.md").read_text()
    assert "trained on the 10 of 16 training samples that have all modalities" in report
    assert (
        "samples without 'snd': 3 of 8 in test" in report
        and "on which it is scored: pic 8, snd 5, vec 8, pic+snd 5" in report
    )
    assert str(tmp_path) not in report
    # Again: everything is there, nothing is trained, nothing is different.
    assert guarded(run.main, settings) == 0
    assert "0 to run" in capsys.readouterr().out


def test_segmentation_end_to_end(tmp_path: Path) -> None:
    settings = study(segmentation(tmp_path), "methods=[sf_md,hemis]", "dataset.options.size=32x48")
    assert guarded(run.main, settings) == 0
    table = read(Plan(load_study(settings)), Store.below(tmp_path / "runs")).table
    test = table[table["split"] == "test"]
    assert (
        set(test["metric"]) == {"miou"} and len(test) == 6 and test["value"].between(0, 100).all()
    )


def test_workers_read_the_cache_and_no_media(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The files of a test are too young to be remembered.
    monkeypatch.setattr(contents, "RACY_NS", 0)
    settings = study(classification(tmp_path), "methods=[sf_md]")
    assert guarded(run.main, settings) == 0
    job = Plan(load_study(settings)).trials[0].job
    opened: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open":
            opened.append(str(arguments[0]))

    # It cannot be taken out again.
    sys.addaudithook(watch)
    job.open_dataset().load("test").received()
    watching = False
    media = [str(tmp_path / folder) for folder in ("pic", "snd", "vec")]
    assert any("manifest.csv" in path for path in opened)
    assert not [path for path in opened if path.startswith(tuple(media))]
    assert not [path for path in opened if path.endswith(contents.MEMORY)]
