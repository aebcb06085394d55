"""What lies beside a trial's numbers in MLflow: the data as an input, deployable weights.

And the report's links.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
import torch

from harness.analysis.results import read
from harness.deploy import load
from harness.errors import UserError
from harness.reporting.document import Document, section, table
from harness.reporting.html import html
from harness.reporting.markdown import markdown
from harness.reporting.sections.runs import runs
from harness.tracking.mlflow.addresses import Addresses


def fetched(study: Any, run: Any, name: str, to: Path) -> Path:
    to.mkdir(exist_ok=True)
    return Path(study.client.download_artifacts(run.info.run_id, name, str(to)))


def folder(run: Any) -> Path:
    """Where the artifacts of a run of a database lie."""
    return Path(urlparse(run.info.artifact_uri).path.replace("%20", " "))


def test_the_data_are_an_input_by_name_and_fingerprint(mirrored: Any) -> None:
    for trial in mirrored.plan.trials:
        run = mirrored.client.get_run(mirrored.run(trial).info.run_id)
        (given,) = run.inputs.dataset_inputs
        facts = mirrored.read(trial, "spec.json")["dataset"]
        assert (given.dataset.name, given.dataset.digest) == ("digits", facts["fingerprint"])
        assert {(tag.key, tag.value) for tag in given.tags} == {
            ("mlflow.data.context", "train, val, test")
        }
        assert json.loads(given.dataset.source)["protocol"] == "default"
        features = json.loads(json.loads(given.dataset.schema)["mlflow_tensorspec"]["features"])
        assert [(f["name"], f["tensor-spec"]["shape"]) for f in features] == [
            ("thumb", [-1, 1, 4, 4]),
            ("spectrum", [-1, 1, 3, 3]),
            ("profile", [-1, 1, 1, 8]),
        ]
        assert json.loads(given.dataset.profile)["samples_test"] == 60
        assert str(mirrored.output) not in repr(given.dataset.to_dictionary())


def test_the_weights_of_a_run_predict_what_its_trial_predicted(
    mirrored: Any, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    split = mirrored.plan.dataset.load("test")
    inputs = split.batch(torch.arange(len(split)))[0]
    for trial in mirrored.plan.trials:
        model = load(fetched(mirrored, mirrored.run(trial), "model", tmp_path / trial.id))
        scores = mirrored.store.trial(trial.id).scores()["test"]
        for at, present in ((0, [True, False, False]), (6, [True, True, True])):
            mask = torch.tensor(present).expand(len(split), -1)
            absent = {
                name: x if here else torch.full_like(x, torch.nan)
                for (name, x), here in zip(inputs.items(), present, strict=True)
            }
            with torch.no_grad():
                found = model(absent, mask).logits
            assert found.softmax(1).argmax(1).tolist() == scores[at].argmax(1).tolist()


def test_the_card_tells_what_the_record_tells(mirrored: Any, tmp_path: Path) -> None:
    trial = mirrored.plan.trials[1]
    model, record = (
        fetched(mirrored, mirrored.run(trial), "model", tmp_path / "card"),
        mirrored.read(trial, "record.json"),
    )
    card = json.loads((model / "card.json").read_text())
    assert card["weights"] == record["files"]["weights.pt"]
    assert {name: cell["value"] for name, cell in card["test"].items()} == {
        name: pytest.approx(mirrored.cells(trial)[0][name.replace("+", ".")])
        for name in record["combinations"]
    }
    text = (model / "README.md").read_text()
    assert (
        text.startswith(f"# {trial.row.label}, seed 0, on digits (default)\n") and trial.id in text
    )
    assert all(f"{cell['value']:.1f}" in text for cell in card["test"].values())
    assert str(mirrored.output) not in text + json.dumps(card)


def test_weights_below_the_output_folder_are_no_copy(mirrored: Any) -> None:
    trial = mirrored.plan.trials[0]
    weights = folder(mirrored.run(trial)) / "model" / "weights.pt"
    assert weights.samefile(mirrored.files(trial) / "weights.pt")
    assert {path.name for path in weights.parent.iterdir()} == {
        "weights.pt",
        "card.json",
        "README.md",
    }


def test_weights_can_be_left_out_and_asked_for_later(
    study: Any, mirrored: Any, tmp_path: Path
) -> None:
    bare = study("bare", "tracking.weights=false")
    bare.train()
    bare.mirror()
    model = folder(bare.run()) / "model"
    assert {path.name for path in model.iterdir()} == {"card.json", "README.md"}
    with pytest.raises(UserError, match=r"no weights\.pt; its card describes the file with sha256"):
        load(model)
    full = study("bare")
    full.mirror()
    assert load(model).spec.names == ("thumb", "spectrum", "profile")
    (copy := fetched(full, full.run(), "model", tmp_path / "x") / "weights.pt").write_bytes(
        b"other"
    )
    with pytest.raises(UserError, match=r"is not the file that its card describes"):
        load(copy.parent)
    with pytest.raises(UserError, match=r"there is no card\.json"):
        load(tmp_path)


def test_on_a_server_the_report_links_to_runs(mirrored: Any) -> None:
    results = read(mirrored.plan, mirrored.store)
    trial = mirrored.plan.trials[0]
    where = Addresses("7", "s", {"sf_md": "aaa"}, {trial.id: "bbb"})
    document = Document("t", "d", (runs(results, where.tracked("http://host:5000/")),))
    page = html(document)
    assert re.findall(r'<a href="(http[^"]*)">(\w+)</a>', page) == [
        ("http://host:5000/#/experiments/7/runs/aaa", "aaa"),
        ("http://host:5000/#/experiments/7/runs/bbb", "bbb"),
    ]
    assert "[bbb](http://host:5000/#/experiments/7/runs/bbb)" in markdown(document)
    here = Document("t", "d", (runs(results, where.tracked(None)),))
    assert '<a href="http' not in html(here) and "Runs in MLflow" in html(here)
    # Folders of a machine are still taken out of everything else.
    assert "home" not in markdown(
        Document("t", "d", (section("x", "seen", table(["a"], [["/home/me/file"]])),))
    )
