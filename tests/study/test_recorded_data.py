"""Reports where the data are not: what the store recorded stands in, or a sentence says what is
missing.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from harness import report, run, share
from harness.analysis.results import read
from harness.cli import guarded
from harness.errors import UserError
from harness.reporting.sections.background import ABSENT_DATA
from harness.search.stored_plan import plan_of
from harness.sharing.export import as_yaml, resolved
from harness.store import Store, file_sha256, write_atomically, write_json
from harness.study.config import load_study, study_files
from harness.study.plan import Plan, data_needed
from harness.study.recorded_data import Recorded, described, remember, spec_of
from harness.training.trial import run_trial
from tests.support.archives import contents
from tests.support.handmade import ladder, planned, write_trial
from tests.support.media import classification
from tests.test_store import RECORD

QUICK = (
    "seeds=[0]",
    "train.epochs=1",
    "train.batch_size=8",
    "backbone.width=4",
    "executor=local",
    "tracking.enabled=false",
)
STUDY = ("study=own_data", "methods=[sf_md,hemis]", *QUICK)
TOLD = f"- {ABSENT_DATA}\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``runs``, trained on data that are gone.

    ``with.md``, the report when they were there; and an archive.
    """
    folder = tmp_path_factory.mktemp("gone")
    manifest = classification(folder / "data")
    settings = [*STUDY, f"dataset.manifest={manifest}", f"output={folder / 'runs'}"]
    assert guarded(run.main, settings) == 0
    shutil.copy(folder / "runs" / "own_data" / "report.md", folder / "with.md")
    assert guarded(share.main, ["export", *settings, str(folder / "own.zip")]) == 0
    shutil.rmtree(folder / "data")
    shutil.rmtree(folder / "runs" / "cache")
    return folder


def test_a_report_without_the_data_is_the_same_and_says_so(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(report.main, [*STUDY, f"output={trained / 'runs'}"]) == 0
    assert f"note: {ABSENT_DATA}" in capsys.readouterr().out
    text = (trained / "runs" / "own_data" / "report.md").read_text()
    assert TOLD in text and TOLD not in (trained / "with.md").read_text()
    shown, had = (
        part.split("## How to reproduce")[0] for part in (text, (trained / "with.md").read_text())
    )
    # Commands name the place of the data where there is one.
    assert shown.replace(TOLD, "") == had.replace(" dataset.manifest=YOUR_MANIFEST.csv", "")
    # A place that is named and is not there counts as no place.
    study = load_study(
        [*STUDY, f"dataset.manifest={trained / 'data/manifest.csv'}", f"output={trained / 'runs'}"]
    )
    assert isinstance(plan_of(study, Store.below(trained / "runs")).dataset, Recorded)


def test_after_an_import_nothing_else_is_needed(trained: Path, tmp_path: Path) -> None:
    assert guarded(share.main, ["import", str(trained / "own.zip"), f"output={tmp_path}"]) == 0
    assert guarded(report.main, [f"study={tmp_path}/imported/own.yaml", f"output={tmp_path}"]) == 0
    text = (tmp_path / "own" / "report.md").read_text()
    assert TOLD in text and "16, val 6, test 8" in text and str(trained) not in text
    assert not [
        name
        for name, body in contents(trained / "own.zip").items()
        if str(trained).encode() in body
    ]


def test_nothing_is_trained_without_the_data(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(run.main, [*STUDY, f"output={trained / 'runs'}"]) == 2
    assert "needs dataset.manifest=PATH" in capsys.readouterr().err
    plan = plan_of(
        load_study([*STUDY, f"output={trained / 'runs'}"]), Store.below(trained / "runs")
    )
    assert (
        isinstance(plan.dataset, Recorded)
        and len(read(plan, Store.below(trained / "runs")).finished) == 2
    )
    with pytest.raises(UserError, match="the samples of manifest are not on this machine"):
        plan.dataset.load("test")


def test_two_copies_of_the_data_ask_which(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(trained / "runs", runs)
    other = classification(tmp_path / "data", seed=1)
    with other.open("a") as stream:
        stream.write("train,cat,pic/train1.png,snd/train1.wav,\n")
    plan, store = (
        Plan(load_study([*STUDY, f"dataset.manifest={other}", f"output={runs}"])),
        Store.below(runs),
    )
    plan.dataset.prepare(lambda *_: None)
    assert run_trial(plan.trials[0].job).status == "done"
    remember(store, plan.dataset)
    prints = dict(copies(runs))
    assert set(prints) == {16, 17}
    shutil.rmtree(tmp_path / "data")
    assert guarded(report.main, [*STUDY, f"output={runs}"]) == 2
    error = capsys.readouterr().err
    assert (
        "the store has trials on 2 copies of them" in error
        and "say which with dataset.fingerprint=..." in error
    )
    for count, fingerprint in prints.items():
        assert f"{fingerprint[:8]} (train {count}, val 6, test 8)" in error
        chosen = load_study([*STUDY, f"output={runs}", f"dataset.fingerprint={fingerprint[:8]}"])
        assert plan_of(chosen, store).dataset.counts() == {"train": count, "val": 6, "test": 8}


def copies(runs: Path) -> list[tuple[int, str]]:
    """The number of training samples and the fingerprint of each description in a store."""
    found = [json.loads(path.read_text()) for path in (runs / "store" / "data").glob("*.json")]
    return [(one["counts"]["train"], one["facts"]["fingerprint"]) for one in found]


def test_data_that_nobody_recorded_and_data_that_are_wrong_are_told(tmp_path: Path) -> None:
    store = Store.below(tmp_path)
    with pytest.raises(UserError, match=r"needs dataset\.manifest=PATH"):
        plan_of(load_study([*STUDY, f"output={tmp_path}"]), store)
    bad = tmp_path / "bad.csv"
    bad.write_text("split,label\n")
    with pytest.raises(UserError, match=r"bad\.csv"):
        plan_of(load_study([*STUDY, f"dataset.manifest={bad}", f"output={tmp_path}"]), store)
    with pytest.raises(UserError, match=r"dataset\.fingerprint=0000, and the data given have"):
        plan_of(load_study(["dataset.fingerprint=0000", f"output={tmp_path}"]), store)


def test_a_store_from_before_descriptions_is_understood_by_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CASIA-SURF's layout is known without its data: fingerprint, counts and flag come from the
    record.
    """
    plan, store = planned(tmp_path, "methods=[sf_md]", "seeds=[0]")
    facts = {
        "name": "casia_surf",
        "fingerprint": "f" * 16,
        "protocol": "challenge",
        "limit": None,
        "synthetic": True,
    }
    study = load_study(
        ["study=casia_all_methods", "methods=[sf_md]", "seeds=[0]", f"output={tmp_path}"]
    )
    monkeypatch.delenv("CASIA_SURF_ROOT", raising=False)
    facts |= {"protocol": Plan(study).dataset.protocol, "options": dict(Plan(study).dataset.values)}
    trial = write_trial(plan, store, "sf_md", 0, ladder(20))
    counts = {"train": 3, "val": 2, "test": 1}
    spec = asdict(trial.job.spec) | {"dataset": facts}
    rewrite(store, trial.id, spec=spec, counts=counts)
    found = plan_of(study, store)
    assert isinstance(found.dataset, Recorded) and found.dataset.counts() == counts
    assert (
        found.spec.synthetic
        and found.spec.metric == "acer"
        and found.trials[0].job.spec.dataset == facts
    )


def rewrite(store: Store, trial_id: str, **changes: object) -> None:
    path = store.trial(trial_id) / "record.json"
    body = json.dumps(json.loads(path.read_text()) | changes).encode()
    write_atomically(path, lambda stream: stream.write(body))


def test_a_description_is_written_once_and_read_as_it_was(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    remember(store, plan.dataset)
    remember(store, plan.dataset)
    assert len(list((store.root / "data").iterdir())) == 1 and store.ids() == []
    assert spec_of(asdict(plan.spec)) == plan.spec
    again = Recorded(described(plan.dataset))
    assert (again.spec, again.counts(), again.fingerprint()) == (
        plan.spec,
        plan.dataset.counts(),
        plan.dataset.fingerprint(),
    )
    assert [t.id for t in Plan(plan.study, dataset=again).trials] == [t.id for t in plan.trials]


@pytest.mark.parametrize(
    "name", [name for name in study_files() if data_needed(load_study([f"study={name}"])) is None]
)
def test_every_study_spelled_out_plans_the_same_trials(name: str, tmp_path: Path) -> None:
    study = load_study([f"study={name}"])
    told = Plan(study)
    facts = {
        "name": told.spec.name,
        "fingerprint": "0012345678912e45",
        "protocol": told.dataset.protocol,
        "limit": told.dataset.limit,
    }
    facts |= {"options": dict(told.dataset.values), "synthetic": told.spec.synthetic}
    data = Recorded(
        {"facts": facts, "spec": asdict(told.spec), "counts": {"train": 1, "val": 1, "test": 1}}
    )
    plan = Plan(study, dataset=data)
    file = tmp_path / "again.yaml"
    file.write_bytes(as_yaml(resolved(plan)))
    again = Plan(load_study([f"study={file}"]), dataset=data)
    assert [(t.id, t.row.label) for t in again.trials] == [(t.id, t.row.label) for t in plan.trials]
    assert [t.id for t in again.stages] == [t.id for t in plan.stages]
    assert again.study.published_table == study.published_table


def test_pretrained_weights_need_not_be_here_for_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials know a file of weights by its sha256 alone.

    The study of an archive has that, and no path.
    """
    monkeypatch.delenv("NYUV2_ROOT", raising=False)
    width = ("backbone.encoder=r18_basic", "backbone.width=4")
    told = Plan(load_study(["study=nyuv2_segmentation", "methods=[sf_md]", "seeds=[0]", *width]))
    facts = {
        "name": told.spec.name,
        "fingerprint": "f" * 16,
        "protocol": told.dataset.protocol,
        "limit": None,
    }
    facts |= {"options": dict(told.dataset.values), "synthetic": False}
    data = Recorded(
        {"facts": facts, "spec": asdict(told.spec), "counts": {"train": 1, "val": 1, "test": 1}}
    )
    torch.save({}, tmp_path / "w.pt")
    own = load_study(
        [
            *("study=nyuv2_segmentation", "methods=[sf_md]", "seeds=[0]"),
            *width,
            f"backbone.pretrained={tmp_path}/w.pt",
        ]
    )
    plan = Plan(own, dataset=data)
    sha = file_sha256(tmp_path / "w.pt")
    assert plan.backbone["pretrained_sha256"] == sha and str(tmp_path) not in str(resolved(plan))
    (tmp_path / "w.pt").unlink()
    (tmp_path / "again.yaml").write_bytes(as_yaml(resolved(plan)))
    study = load_study([f"study={tmp_path / 'again.yaml'}", f"output={tmp_path}"])
    store = Store.below(tmp_path)
    trial = store.trial(plan.trials[0].id)
    trial.path.mkdir(parents=True)
    (trial / "scores.npz").write_bytes(b"evidence")
    record = RECORD | {
        "code": "x",
        "files": trial.describe_files("scores.npz"),
        "counts": {"train": 1, "val": 1, "test": 1},
        "spec": asdict(plan.trials[0].job.spec),
    }
    write_json(trial / "spec.json", record["spec"])
    write_json(trial / "record.json", record)
    assert [trial.id for trial in plan_of(study, store).trials] == [
        trial.id for trial in plan.trials
    ]
