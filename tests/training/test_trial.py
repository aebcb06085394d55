"""One trial: exact resume, honest failure, no test data before selection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.digits import Digits
from harness.store import Store, TrialDirectory
from harness.study.config import load_study
from harness.study.plan import Plan, PlannedTrial
from harness.training.loop import EpochReport, Trainer
from harness.training.trial import run_trial

SMALL = (
    "dataset.limit=96",
    "train.epochs=6",
    "train.batch_size=32",
    "seeds=[0]",
    "backbone.width=6",
)


def planned(output: Path, method: str = "dmrnet", *arguments: str) -> PlannedTrial:
    return Plan(load_study([f"methods=[{method}]", f"output={output}", *SMALL, *arguments])).trials[
        0
    ]


def directory(trial: PlannedTrial) -> TrialDirectory:
    return Store(Path(trial.job.store)).trial(trial.id)


def results(trial: PlannedTrial) -> tuple[Any, ...]:
    """What must not depend on interruptions: weights, scores, curves and cells."""
    found = directory(trial)
    record = found.record()
    assert record is not None
    curves = [(line["step"], line["values"]) for line in found.history()]
    return record["files"], curves, record["cells"], record["selected_epoch"], record["remarks"]


class Killed(BaseException):
    """Stands for a process that ends here: nothing may catch it."""


@pytest.mark.parametrize("method", ["sf_md", "dmrnet"])
@pytest.mark.parametrize("epoch", [0, 1, 3, 5])
def test_resume_is_exact(tmp_path: Path, method: str, epoch: int) -> None:
    def stop(report: EpochReport) -> None:
        if report.epoch == epoch:
            raise Killed

    whole, broken = planned(tmp_path / "whole", method), planned(tmp_path / "broken", method)
    assert run_trial(whole.job).status == "done"
    with pytest.raises(Killed):
        run_trial(broken.job, stop)
    assert len(directory(broken).history()) == epoch + 1
    assert run_trial(broken.job).status == "done"
    assert results(whole) == results(broken)
    assert not (directory(broken) / "checkpoint.pt").exists()


def test_a_finished_trial_is_not_run_again(tmp_path: Path) -> None:
    trial = planned(tmp_path, "sf_md")
    run_trial(trial.job)
    before = (directory(trial) / "record.json").stat().st_mtime_ns
    epochs: list[int] = []
    assert run_trial(trial.job, lambda report: epochs.append(report.epoch)).status == "done"
    assert epochs == []
    assert (directory(trial) / "record.json").stat().st_mtime_ns == before


def test_record_agrees_with_its_scores(tmp_path: Path) -> None:
    trial = planned(tmp_path)
    run_trial(trial.job)
    record, arrays = directory(trial).record(), directory(trial).scores()
    assert record is not None
    assert arrays["test"].dtype == np.float32 and arrays["test"].shape == (7, 96, 10)
    for position, name in enumerate(record["combinations"]):
        # Accuracy by hand, from the stored per-sample scores.
        hits = (arrays["test"][position].argmax(1) == arrays["test_target"]).sum()
        assert record["cells"]["test"][name] == {
            "value": 100.0 * int(hits) / 96,
            "n": 96,
            "collapsed": False,
        } | {"collapsed": len(set(arrays["test"][position].argmax(1))) == 1}
    selected = max(
        directory(trial).history(),
        key=lambda line: (line["values"]["val/accuracy_mean"], -line["step"]),
    )
    assert record["selected_epoch"] == selected["step"]
    assert record["val_mean"] == selected["values"]["val/accuracy_mean"]


def test_weights_reproduce_the_scores(tmp_path: Path) -> None:
    from harness.backbones.small import Small
    from harness.protocol.seeds import Streams
    from harness.training.evaluation import predict

    trial = planned(tmp_path)
    run_trial(trial.job)
    with Streams(99).initialising("other"):
        model = trial.job.method_class()(
            Small(Digits().spec, {"width": 6}), "paper", trial.row.hparams
        )
    model.load_state_dict(directory(trial).weights())
    scores = predict(model, trial.job.open_dataset().load("test"), 256, torch.device("cpu"))
    assert np.array_equal(scores.numpy(), directory(trial).scores()["test"])


def test_a_loss_that_is_not_finite_fails_with_its_reason(tmp_path: Path) -> None:
    trial = planned(tmp_path, "sf_md", "train.lr=1e18", "train.schedule=constant")
    outcome = run_trial(trial.job)
    assert outcome.status == "failed" and "train/" in outcome.reason and "epoch" in outcome.reason
    failure = directory(trial).failure()
    assert failure is not None and failure["reason"] == outcome.reason
    assert directory(trial).record() is None


BROKEN = '''
from methods.sf_md import SFMD


class Broken(SFMD):
    """Fails in its loss."""

    def loss(self, output, batch):
        raise RuntimeError("no loss today")
'''


def test_an_exception_in_a_method_is_recorded_and_logged(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    trial = planned(tmp_path, str(tmp_path / "broken.py"))
    outcome = run_trial(trial.job)
    assert outcome.reason == "RuntimeError: no loss today"
    assert "Traceback" in (directory(trial) / "log.txt").read_text()


CONSTANT = '''
import torch
from methods.sf_md import SFMD


class Constant(SFMD):
    """Predicts class 3, whatever it sees."""

    def fuse(self, features, present, noise=None):
        output = super().fuse(features, present, noise)
        output.logits = output.logits * 1e-6 + torch.eye(10)[3]
        return output
'''


def test_a_collapsed_model_is_scored_as_what_it_is_and_flagged(tmp_path: Path) -> None:
    (tmp_path / "constant.py").write_text(CONSTANT)
    trial = planned(tmp_path, str(tmp_path / "constant.py"))
    assert run_trial(trial.job).status == "done"
    record = directory(trial).record()
    assert record is not None
    share = 100.0 * int((trial.job.open_dataset().load("test").target == 3).sum()) / 96
    for cell in record["cells"]["test"].values():
        assert cell == {"value": share, "n": 96, "collapsed": True}


def test_test_data_is_not_opened_before_selection_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    load, fit = Digits.load, Trainer.fit

    def spy_load(self: Digits, split: str) -> Any:
        opened.append(split)
        return load(self, split)

    def spy_fit(self: Trainer) -> Any:
        result = fit(self)
        opened.append("selected")
        return result

    monkeypatch.setattr(Digits, "load", spy_load)
    monkeypatch.setattr(Trainer, "fit", spy_fit)
    run_trial(planned(tmp_path).job)
    assert opened[:3] == ["train", "val", "selected"]
    assert "test" in opened[3:]


def test_all_methods_of_a_seed_see_the_same_masks_and_start_from_the_same_encoders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Trainer._update
    seen: dict[str, list[torch.Tensor]] = {}

    def recorded(self: Trainer, batch: Any, totals: Any) -> None:
        weights = (
            []
            if seen.get(type(self.model).__name__)
            else [p.detach().clone() for p in self.model.encoders.parameters()]
        )
        seen.setdefault(type(self.model).__name__, []).extend(
            [*weights, batch.present.clone(), batch.index.clone()]
        )
        update(self, batch, totals)

    monkeypatch.setattr(Trainer, "_update", recorded)
    for method in ("sf_md", "hemis", "dmrnet"):
        run_trial(planned(tmp_path, method).job)
    first, *others = seen.values()
    for other in others:
        assert len(first) == len(other) and all(
            torch.equal(a, b) for a, b in zip(first, other, strict=True)
        )


@pytest.mark.parametrize(
    "arguments", [("missing.train=random", "missing.rate=0.5"), ("train.encode=present",)]
)
def test_training_with_what_is_there(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    trial = planned(tmp_path, "dmrnet", *arguments)
    assert run_trial(trial.job).status == "done"
    plain = planned(tmp_path, "dmrnet")
    run_trial(plain.job)
    assert results(trial)[1] != results(plain)[1]


def test_absent_training_inputs_reach_no_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With half of the inputs absent and set to NaN, training stays finite: they were neither
    encoded nor normalised with.
    """
    load = Digits.load
    from harness.protocol.masks import drop_modalities
    from harness.protocol.seeds import Streams

    def holed(self: Digits, split: str) -> Any:
        data = load(self, split)
        if split == "train":
            data.available = drop_modalities(data.available, 0.5, Streams(7).generator("holes"))
            for v, name in enumerate(self.spec.names):
                data.inputs[name][~data.available[:, v]] = float("nan")  # type: ignore[index]
        return data

    monkeypatch.setattr(Digits, "load", holed)
    trial = planned(tmp_path, "dmrnet")
    assert run_trial(trial.job).status == "done"
    assert all(torch.isfinite(w).all() for w in directory(trial).weights().values())


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    import pickle

    trial = planned(tmp_path, "sf_md")
    directory(trial).path.mkdir(parents=True)

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "owned").touch, ())

    (directory(trial) / "checkpoint.pt").write_bytes(pickle.dumps({"code": Evil()}, protocol=2))
    assert run_trial(trial.job).status == "done"
    assert not (tmp_path / "owned").exists()


def test_spec_json_tells_what_runs(tmp_path: Path) -> None:
    trial = planned(tmp_path, "sf_md")
    run_trial(trial.job)
    spec = json.loads((directory(trial) / "spec.json").read_text())
    assert (
        spec["method"] == "sf_md"
        and spec["seed"] == 0
        and spec["dataset"]["fingerprint"] == Digits(limit=96).fingerprint()
    )
