"""A second tracker, which appends JSON lines to a file, goes through the whole command."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.findings import Findings
from harness.report import main as report_main
from harness.reporting.document import Document
from harness.reporting.sections.runs import TrackedRuns
from harness.robust.findings import BadSensors
from harness.run import main
from harness.study.plan import PlannedTrial
from harness.tracking.registry import TRACKERS
from harness.tracking.tracker import Tracker, TrackingError

STUDY = (
    *("methods=[sf_md,hemis]", "seeds=[0,1]", "executor=local", "dataset.limit=40"),
    *("train.epochs=2", "train.batch_size=20", "backbone.width=2"),
)


class JsonLines(Tracker):
    """Appends a line for whatever it is asked to mirror to the file of ``tracking.uri``."""

    @property
    def path(self) -> Path:
        return Path(str(self.study.tracking.uri).removeprefix("jsonl:"))

    def mirror_trial(self, trial: PlannedTrial, corrupted: BadSensors | None = None) -> None:
        files = self.store.trial(trial.id)
        record = files.record()
        weights = None if record is None or not self.study.tracking.weights else "weights.pt"
        self._append(
            kind="trial",
            id=trial.id,
            spec=trial.job.spec.method,
            epochs=len(files.history()),
            val=None if record is None else record["val_mean"],
            weights=weights,
        )

    def mirror_comparison(
        self,
        findings: Findings,
        problems: Sequence[str] = (),
        corrupted: BadSensors | None = None,
    ) -> None:
        for label, summary in findings.comparison.average.items():
            self._append(kind="row", label=label, average=summary.mean)

    def mirror_study(
        self,
        artifacts: Sequence[Path],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        document: Document | None = None,
    ) -> None:
        names = [path.name for path in artifacts]
        self._append(kind="study", files=names, **dict(metrics), **dict(tags))

    def explain(self, error: Exception) -> str:
        return f"{self.path} is not up to date ({error})"

    def runs(self) -> TrackedRuns | None:
        if not self.path.is_file():
            return None
        lines = self.path.read_text().splitlines()
        trials = {
            line["id"]: f"line {number}"
            for number, line in enumerate(map(json.loads, lines), 1)
            if line["kind"] == "trial"
        }
        return TrackedRuns("a file", f"See {self.path.name}.", {}, trials)

    def how_to_open(self) -> list[str]:
        return [f"read {self.path.name}"]

    def _append(self, **facts: Any) -> None:
        try:
            with self.path.open("a") as stream:
                stream.write(json.dumps(facts) + "\n")
        except OSError as error:
            raise TrackingError(self.explain(error)) from error


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRACKERS, "jsonl", JsonLines)


def test_a_study_with_another_tracker_writes_trials_rows_and_the_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tracked.jsonl"
    arguments = [*STUDY, f"output={tmp_path / 'runs'}", f"tracking.uri=jsonl:{file}"]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert said.out.endswith("read tracked.jsonl\n") and said.err == ""
    assert not (tmp_path / "runs" / "mlflow.db").exists()

    lines = [json.loads(line) for line in file.read_text().splitlines()]
    records = {path.parent.name: path for path in tmp_path.glob("runs/store/*/record.json")}
    done = {line["id"]: line for line in lines if line["kind"] == "trial" and line["val"]}
    assert set(done) == set(records) and len(done) == 4
    for trial, line in done.items():
        assert line["val"] == json.loads(records[trial].read_text())["val_mean"]
        assert (line["epochs"], line["weights"]) == (2, "weights.pt")
    # Each was mirrored when it ended, and once more when all had.
    assert len([line for line in lines if line["kind"] == "trial" and line["val"]]) == 8
    assert [line["label"] for line in lines if line["kind"] == "row"] == ["sf_md", "hemis"]
    assert lines[-1]["kind"] == "study" and lines[-1]["trials"] == "4 of 4"
    assert "report.html" in lines[-1]["files"] and lines[-1]["trials_finished"] == 4
    report = (tmp_path / "runs" / "quickstart" / "report.md").read_text()
    assert "Runs in a file" in report and "See tracked.jsonl." in report and "line 1" in report

    # The places were put into a report that was there; a new one has them from the beginning.
    files = {path: path.read_bytes() for path in (tmp_path / "runs/quickstart").glob("report.*")}
    assert len(files) == 4
    capsys.readouterr()
    assert report_main(arguments) == 0
    assert {path: path.read_bytes() for path in files} == files


def test_a_tracker_that_refuses_is_one_warning_and_the_report_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*STUDY, f"output={tmp_path / 'runs'}", f"tracking.uri=jsonl:{tmp_path}/no/file"]
    assert main(arguments) == 0
    error = capsys.readouterr().err
    assert error.count("is not up to date") == 1
    assert (tmp_path / "runs" / "quickstart" / "report.html").is_file()
