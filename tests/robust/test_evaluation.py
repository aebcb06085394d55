"""Evaluating trained models under corruptions: the same numbers as by the long way, resumable."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.analysis.results import Results, read
from harness.dataset import Split
from harness.method import Features, Method
from harness.robust import evaluation
from harness.robust.__main__ import main
from harness.robust.catalogue import CLEAN, Condition, conditions
from harness.robust.evaluation import Inputs, evaluate
from harness.robust.evidence import FOLDER, code_of, facts_of, path_of, stored
from harness.robust.progress import Steps
from harness.robust.trial_evaluation import raws_of
from harness.robust.work import work_of
from harness.robust.workers import run
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.trained_model import trained
from harness.training.trial import run_trial

SAMPLES, CONDITIONS = 60, 3 * 7 * 5


def below(output: Path) -> Results:
    """Two methods, one seed, one epoch on 60 digits; 25 samples a batch."""
    study = load_study(
        [
            *("study=quickstart", "dataset.limit=60", "methods=[sf_md,hemis]", "seeds=[0]"),
            *("train.epochs=1", "evaluation.batch_size=25", f"output={output}"),
        ]
    )
    return read(Plan(study), Store.below(output))


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained, and evaluated."""
    output = tmp_path_factory.mktemp("once") / "runs"
    for trial in below(output).plan.trials:
        assert run_trial(trial.job).status == "done"
    shutil.copytree(output, output.with_name("trained"))
    found = run(work_of(below(output)), Steps(1))
    assert (found.equal, found.unequal, found.failed) == (2, {}, [])
    assert found.conditions == 2 * (1 + CONDITIONS)
    return output


@pytest.fixture
def results(once: Path, tmp_path: Path) -> Results:
    """A copy of what was trained and evaluated."""
    return below(Path(shutil.copytree(once, tmp_path / "runs")))


@pytest.fixture
def untouched(once: Path, tmp_path: Path) -> Results:
    """A copy of what was trained only."""
    return below(Path(shutil.copytree(once.with_name("trained"), tmp_path / "untouched")))


def files(results: Results, label: str = "hemis") -> dict[str, bytes]:
    """Everything that lies beside a trial's own files."""
    folder = results.store.trial(results.of(label)[0].trial.id) / FOLDER
    return {path.name: _scores(path) for path in sorted(folder.iterdir())}


def _scores(path: Path) -> bytes:
    with np.load(path) as arrays:
        return bytes(arrays["scores"].tobytes())


def of_condition(results: Results, label: str, condition: Condition) -> torch.Tensor:
    done = results.of(label)[0]
    facts = facts_of(done.record, condition, code_of(done.trial.job))
    with np.load(path_of(results.store.trial(done.trial.id), facts)) as arrays:
        return torch.from_numpy(arrays["scores"])


def test_without_corruption_the_stored_evidence_comes_out_bit_for_bit(results: Results) -> None:
    for label in ("sf_md", "hemis"):
        kept = results.store.trial(results.of(label)[0].trial.id).scores()["test"]
        assert of_condition(results, label, CLEAN).numpy().tobytes() == kept.tobytes()


def test_evidence_is_that_of_plain_forward_passes_on_corrupted_inputs(results: Results) -> None:
    work = work_of(results)
    done = results.of("hemis")[0]
    model, split = trained(done.trial.job, results.store).eval(), work.inputs.split.received()
    for condition in (work.wanted[1], work.wanted[40], work.wanted[-1]):
        inputs = dict(split.inputs)
        everything = torch.arange(SAMPLES)
        fresh = Inputs(work.inputs.split, work.inputs.raws)
        inputs[condition.modality] = fresh.corrupted(condition, everything)
        holding = [c for c in model.combinations if condition.modality in c.members]
        found = of_condition(results, "hemis", condition)
        assert found.shape == (4, SAMPLES, 10)
        with torch.no_grad():
            for at, combination in enumerate(holding):
                mask = torch.tensor(combination.mask).expand(SAMPLES, -1)
                plain = model(inputs, mask).logits
                torch.testing.assert_close(found[at], plain, rtol=1e-5, atol=1e-5)
    whole = results.store.trial(done.trial.id).scores()["test"]
    last = of_condition(results, "hemis", work.wanted[-1])
    assert np.abs(last[-1].numpy() - whole[-1]).max() > 1e-3


class Counting:
    """A model that counts how many samples of each modality are encoded."""

    def __init__(self, model: Method) -> None:
        self.count: Counter[str] = Counter()
        plain = model.encode

        def encode(modality: str, x: torch.Tensor) -> Features:
            self.count[modality] += len(x)
            return plain(modality, x)

        model.encode = encode  # type: ignore[method-assign]


@pytest.mark.parametrize("kept", [True, False])
def test_only_what_changed_is_encoded_again(
    results: Results, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    if not kept:
        monkeypatch.setattr(evaluation, "FEATURES_KEPT", 0)
    work, job = work_of(results), results.of("hemis")[0].trial.job
    # One corruption of each modality.
    wanted = [CLEAN, *(one for one in work.wanted if one.corruption == "jpeg")]
    model = trained(job, results.store)
    counting = Counting(model)
    found: dict[Condition, torch.Tensor] = {}
    evaluate(
        model,
        work.inputs,
        wanted,
        25,
        torch.device("cpu"),
        lambda condition, scores, _: found.update({condition: scores}),
    )
    # Where features do not fit into memory, each modality's conditions are one pass over the
    # samples, of which the first batch stays: three passes beside the clean one.
    passes = SAMPLES if kept else SAMPLES + 3 * (SAMPLES - 25)
    expected = {name: passes + 5 * SAMPLES for name in ("thumb", "spectrum", "profile")}
    assert counting.count == expected
    for condition, scores in found.items():
        assert torch.equal(scores, of_condition(results, "hemis", condition))


def test_the_trials_own_files_stay_as_they_are(results: Results, untouched: Results) -> None:
    both = []
    for one in (results, untouched):
        trial = one.store.trial(one.of("hemis")[0].trial.id)
        both.append({p.name: p.read_bytes() for p in trial.path.iterdir() if p.is_file()})
    assert both[0] == both[1]
    assert len(files(results)) == 1 + CONDITIONS


def test_only_what_is_not_there_is_evaluated(results: Results) -> None:
    whole = files(results)
    assert work_of(results).evaluations == 0
    folder = results.store.trial(results.of("hemis")[0].trial.id) / FOLDER
    gone, cut, flipped = sorted(folder.iterdir())[:3]
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-100])
    body = bytearray(flipped.read_bytes())
    body[len(body) // 2] ^= 1
    flipped.write_bytes(bytes(body))
    again = work_of(results)
    assert again.evaluations == 3
    assert run(again, Steps(1)).conditions == 3
    assert files(results) == whole


def test_evidence_of_other_weights_does_not_count(results: Results) -> None:
    done = results.of("hemis")[0]
    trial = results.store.trial(done.trial.id)
    assert len(stored(trial, done.record)) == 1 + CONDITIONS
    others = json.loads(json.dumps(done.record))
    others["files"]["weights.pt"]["sha256"] = "0" * 64
    assert stored(trial, others) == []


def test_inputs_are_the_same_in_every_process_and_order(results: Results) -> None:
    code = """
import hashlib, torch
from datasets.digits import Digits
from harness.robust.catalogue import conditions
from harness.robust.evaluation import Inputs
from harness.robust.trial_evaluation import raws_of
data = Digits(limit=60)
split, raws = data.load("test"), raws_of(data)
inputs, sha = Inputs(split, raws), hashlib.sha256()
for condition in conditions(raws, split.available):
    sha.update(inputs.corrupted(condition, torch.arange(60)).numpy().tobytes())
print(sha.hexdigest())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    data = results.plan.dataset
    split, raws = data.load("test"), raws_of(data)
    parts = {}
    for condition in reversed(conditions(raws, split.available)):
        inputs = Inputs(split, raws, limit=0)
        halves = [inputs.corrupted(condition, torch.arange(*span)) for span in ((30, 60), (0, 30))]
        parts[condition] = torch.cat(halves[::-1])
    sha = hashlib.sha256()
    for condition in conditions(raws, split.available):
        sha.update(parts[condition].numpy().tobytes())
    assert done.stdout.strip() == sha.hexdigest()


def test_samples_that_lack_the_modality_are_left_alone_and_never_shown(results: Results) -> None:
    data = results.plan.dataset
    raws, whole = raws_of(data), data.load("test")
    available = torch.ones(SAMPLES, 3, dtype=torch.bool)
    available[10:, 0] = False
    split = Split(whole.inputs, whole.target, available)
    frozen = Condition("thumb", "picture", "frozen", 5, 1.0)
    found = Inputs(split, raws).corrupted(frozen, torch.arange(SAMPLES))
    plain = whole.inputs["thumb"]
    assert torch.equal(found[10:], plain[10:])
    shown = [any(torch.equal(row, other) for other in plain[:10]) for row in found[:10]]
    assert all(shown)
    nothing = Split(whole.inputs, whole.target, torch.zeros(SAMPLES, 3, dtype=torch.bool))
    assert conditions(raws, nothing.available) == []


# ---------------------------------------------------------------------- the command

QUICK = ("study=quickstart", "dataset.limit=60", "methods=[sf_md]", "seeds=[0]", "train.epochs=2")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a finished study of one trial."""
    output = tmp_path_factory.mktemp("quick") / "runs"
    arguments = [*QUICK, f"output={output}", "tracking.enabled=false"]
    for trial in Plan(load_study(arguments)).trials:
        assert run_trial(trial.job).status == "done"
    return arguments


def test_the_plan_says_what_it_costs_and_does_nothing(
    quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*quick, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "evaluations: 106 of 106 to do, 6,480 encodings of one modality of a sample" in said
    assert re.search(r"time: about \d+ s \(.*from the trials' own evaluation", said)
    output = Path(quick[-2].partition("=")[2])
    assert not list(output.rglob(FOLDER))


def test_the_command_evaluates_reports_and_then_has_nothing_to_do(
    quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(quick) == 0
    said = capsys.readouterr().out
    assert "check: without corruption 1 trials give their stored scores, bit for bit" in said
    assert "With a bad sensor, sf_md (the row with the best average)" in said
    output = Path(quick[-2].partition("=")[2])
    page = (output / "quickstart" / "report.html").read_text()
    assert '<section id="bad-sensors">' in page and "without it" in page
    assert "## Bad sensors" in (output / "quickstart" / "report.md").read_text()
    assert main([*quick, "--dry-run"]) == 0
    assert "evaluations: 0 of 106 to do" in capsys.readouterr().out


def test_scores_that_are_not_finite_fail_the_trial_and_the_command(
    untouched: Results,
) -> None:
    results = untouched
    for done in results.finished:
        trial = results.store.trial(done.trial.id)
        weights = {
            name: x.fill_(float("nan")) if x.is_floating_point() else x
            for name, x in trial.weights().items()
        }
        torch.save(weights, trial / "weights.pt")
        files = trial.describe_files("scores.npz", "weights.pt")
        trial.save_record("record.json", done.record | {"files": files})
    results = read(results.plan, results.store)
    found = run(work_of(results), Steps(1))
    assert len(found.failed) == 2 and found.conditions == 0
    assert found.failed[0] == "sf_md seed 0: scores of thumb are not finite with nothing corrupted"
    assert not any(name.suffix == ".npz" for name in results.store.root.rglob(f"{FOLDER}/*"))
