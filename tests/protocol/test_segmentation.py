"""Segmentation through evaluation, trial, store and report, against scikit-learn on predictions
made one image at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score
from torch import Tensor
from torch.nn import functional as F

from harness.analysis.evidence import stored_evidence
from harness.analysis.verification import verify
from harness.backbones.small import Small
from harness.dataset import Split
from harness.errors import TrialFailure
from harness.method import EpochContext, Method
from harness.protocol.cells import score_cells
from harness.protocol.label_maps import VOID
from harness.protocol.metrics import metric
from harness.protocol.seeds import Streams
from harness.protocol.segmentation import confusion, counted, histogram, resized
from harness.registry import METHODS
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan, PlannedTrial
from harness.training.evaluation import gather, predict
from harness.training.fusion import NotSeparable
from harness.training.loop import EpochReport
from harness.training.trial import run_trial
from methods.sf_md import SFMD
from tests.support.blocks import Blocks, install
from tests.support.reports import write_report

CPU = torch.device("cpu")
DATA = Blocks()
NAMES = ("m0", "m1", "m0+m1")


def model_of(cls: type[Method] = SFMD) -> Method:
    with Streams(0).initialising("model"):
        model = cls(Small(DATA.spec, {"width": 4}))
    with torch.no_grad():  # running statistics that are not those of the start
        model.train()(DATA.load("train").inputs, torch.ones(24, 2, dtype=torch.bool))
    return model.eval()


def naive_logits(model: Method, split: Split, size: tuple[int, int] | None = None) -> Tensor:
    """(C, N, K, H, W) by one plain forward pass per combination and image, resized to ``size``."""
    rows = []
    with torch.no_grad():
        for combination in model.combinations:
            mask = torch.tensor([combination.mask])
            images = [
                model({name: x[n : n + 1] for name, x in split.inputs.items()}, mask).logits
                for n in range(len(split))
            ]
            rows.append(torch.cat(images))
    logits = torch.stack(rows)
    if size is None:
        return logits
    return torch.stack(
        [F.interpolate(row, size=size, mode="bilinear", align_corners=False) for row in logits]
    )


def by_sklearn(logits: Tensor, target: Tensor, classes: int = 3) -> np.ndarray[Any, Any]:
    """(N, K, K) confusion counts of (N, K, H, W) logits, void left out."""
    matrices = []
    for predicted, wanted in zip(logits.argmax(1).numpy(), target.numpy(), strict=True):
        valid = wanted != VOID
        matrices.append(confusion_matrix(wanted[valid], predicted[valid], labels=range(classes)))
    return np.stack(matrices)


# ---------------------------------------------------------------------- counting


@pytest.mark.parametrize("classes", [2, 7, 40])
@pytest.mark.parametrize("case", ["random", "one class", "all void", "no void"])
def test_confusion_counts_equal_scikit_learns(classes: int, case: str) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(3, classes, 9, 11, generator=generator)
    target = torch.randint(classes, (3, 9, 11), generator=generator)
    if case != "no void":
        target[torch.rand(3, 9, 11, generator=generator) < 0.3] = VOID
    target[1] = {"one class": 1, "all void": VOID}.get(case, target[1])
    found = counted(logits, target)["scores"]
    assert found.dtype == torch.int32
    if case == "all void":
        assert int(found[1].sum()) == 0
        found, logits, target = found[::2], logits[::2], target[::2]
    assert np.array_equal(found.numpy(), by_sklearn(logits, target, classes))


def test_counting_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = torch.randn(7, 5, 4, 6), torch.randint(5, (7, 8, 12))
    whole = counted(logits, target, calibration=True)
    monkeypatch.setattr(
        "harness.protocol.segmentation.AT_ONCE", 2 * 5 * 8 * 12
    )  # two images at a time
    pieces = counted(logits, target, calibration=True)
    assert whole.keys() == pieces.keys() and all(
        torch.equal(whole[name], pieces[name]) for name in ("scores", "labelled", "finite")
    )
    torch.testing.assert_close(whole["calibration"], pieces["calibration"])


def test_counts_of_a_full_size_image_are_exact() -> None:
    """480 x 640 pixels, all of one class: the count that float32 must hold, and an odd one beside
    it.
    """
    predicted, target = (
        torch.zeros(1, 480 * 640, dtype=torch.long),
        torch.zeros(1, 480 * 640, dtype=torch.long),
    )
    predicted[0, :3], target[0, 3:8] = 1, VOID
    assert confusion(predicted, target, 2).tolist() == [[[480 * 640 - 8, 3], [0, 0]]]


def test_an_image_whose_counts_float32_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="16777216 pixels"):
        confusion(
            torch.zeros(1, 1 << 24, dtype=torch.uint8),
            torch.zeros(1, 1 << 24, dtype=torch.uint8),
            2,
        )


def test_logits_are_brought_to_the_targets_size() -> None:
    """Bilinear with corners not aligned, twofold, by hand: weights 3/4 and 1/4 of the two nearest,
    the border repeated.
    """
    logits = torch.tensor([[[[0.0, 4.0]]]])
    assert resized(logits, torch.zeros(1, 1, 4)).tolist() == [[[[0.0, 1.0, 3.0, 4.0]]]]
    # Argmax of the resized logits, not the resized argmax: class 1 wins where 4 * weight > 1.5.
    pair = torch.cat([torch.full_like(logits, 1.5), logits], 1)
    assert counted(pair, torch.tensor([[[0, 0, 1, VOID]]]))["scores"].tolist() == [[[2, 0], [0, 1]]]


def test_calibration_histogram_equals_a_loop() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(2, 4, 6, 5, generator=generator)
    target = torch.randint(4, (2, 6, 5), generator=generator)
    target[:, 0] = VOID
    expected = np.zeros((2, 15, 3))
    share = torch.softmax(logits.double(), 1).numpy()
    for n, row, column in np.ndindex(2, 6, 5):
        if target[n, row, column] != VOID:
            confidence = share[n, :, row, column].max()
            right = share[n, :, row, column].argmax() == int(target[n, row, column])
            expected[n, min(int(confidence * 15), 14)] += (1, confidence, right)
    found = counted(logits, target, calibration=True)["calibration"]
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert found[..., 0].sum((1,)).tolist() == [25.0, 25.0]


def test_calibration_bins_hold_their_lower_edge_and_the_last_holds_one() -> None:
    confidence = torch.tensor([[0.0, 1.0, 0.999, 0.5]])
    found = histogram(
        confidence, torch.ones(1, 4, dtype=torch.bool), torch.tensor([[True, True, True, False]])
    )
    assert found[0, :, 0].nonzero().flatten().tolist() == [0, 14]
    assert found[0, 14].tolist() == [2.0, pytest.approx(1.999), 2.0]


# ---------------------------------------------------------------------- evaluation


SEPARABLE = [
    n for n in METHODS.names() if "segmentation" in METHODS.get(n).tasks and METHODS.get(n).separate
]


@pytest.mark.parametrize("name", SEPARABLE)
def test_counts_of_all_combinations_are_those_of_plain_forward_passes(name: str) -> None:
    model, split = model_of(METHODS.get(name)), DATA.load("test")
    found = gather(model, split, 3, CPU, calibration=True)
    assert {what: tuple(x.shape) for what, x in found.items()} == {
        "scores": (3, 7, 3, 3),
        "calibration": (3, 7, 15, 3),
    }
    expected = naive_logits(model, split)
    for row in range(3):
        assert np.array_equal(found["scores"][row].numpy(), by_sklearn(expected[row], split.target))
    assert torch.equal(predict(model, split, 3, CPU), found["scores"])


def test_targets_larger_than_the_logits_are_counted_at_their_own_size() -> None:
    model, split = model_of(), DATA.load("val")
    target = torch.randint(3, (6, 50, 70), generator=torch.Generator().manual_seed(0))
    found = predict(model, Split(split.inputs, target, split.available), 6, CPU)
    expected = naive_logits(model, split, (50, 70))
    for row in range(3):
        assert np.array_equal(found[row].numpy(), by_sklearn(expected[row], target))


class _AlmostFinite(SFMD):
    """One logit of one image is NaN where m1 is shown alone."""

    def fuse(self, features: Any, present: Tensor, noise: Any = None) -> Any:
        output = super().fuse(features, present, noise)
        alone = present[:, 1] & ~present[:, 0] & (torch.arange(len(present)) == 2)
        output.logits[alone, 0, 5, 5] = float("nan")
        return output


def test_one_logit_that_is_not_finite_is_an_error_that_names_its_combination() -> None:
    with pytest.raises(TrialFailure, match="the scores of m1 are not finite on 1 of 7 images"):
        predict(model_of(_AlmostFinite), DATA.load("test"), 7, CPU)


def test_a_label_that_is_neither_class_nor_void_is_an_error() -> None:
    split = DATA.load("test")
    split.target[2, 10, 10:13] = 3
    with pytest.raises(TrialFailure, match="3 pixels have a label that is neither a class nor 255"):
        predict(model_of(), split, 4, CPU)


class _SeesTheMask(SFMD):
    """Its logits depend on how many times it was asked."""

    asked = 0

    def fuse(self, features: Any, present: Tensor, noise: Any = None) -> Any:
        self.asked += 1
        output = super().fuse(features, present, noise)
        output.logits = output.logits + 1e-3 * self.asked
        return output


def test_label_maps_are_held_to_separability_too() -> None:
    with pytest.raises(NotSeparable, match="logits fused from cached features differ"):
        predict(model_of(_SeesTheMask), DATA.load("test"), 4, CPU)


@pytest.mark.parametrize("size", [16, 128])
def test_logits_of_the_split_are_never_held(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of an image does not depend on its size: the live tensors between batches are K
    x K counts.
    """
    shapes: list[tuple[int, ...]] = []
    stack = torch.stack
    monkeypatch.setattr(
        "harness.training.evaluation.torch.stack",
        lambda parts: shapes.append(tuple(parts[0].shape)) or stack(parts),
    )
    split = DATA.load("test")
    inputs = {name: F.interpolate(x, size=(size, size)) for name, x in split.inputs.items()}
    predict(
        model_of(),
        Split(inputs, torch.zeros(7, size, size, dtype=torch.long), split.available),
        4,
        CPU,
    )
    assert {shape[1:] for shape in shapes} == {(3, 3), ()}


def test_cells_of_a_segmentation_pool_the_images_that_have_the_modalities() -> None:
    split = DATA.load("test")
    split.available[::2, 1] = False
    logits = torch.randn(3, 7, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    counts = torch.stack([counted(row, split.target)["scores"] for row in logits])
    cells = score_cells(metric("miou"), counts, split, model_of().combinations)
    assert [cell.n for cell in cells.values()] == [7, 3, 3]
    chosen = torch.arange(7)[1::2]
    target, predicted = split.target[chosen], logits[1, chosen].argmax(1)
    valid = target != VOID
    expected = 100 * jaccard_score(target[valid], predicted[valid], average="macro")
    assert cells["m1"].value == pytest.approx(expected, abs=1e-10)


def test_mining_gets_the_shares_of_predicted_pixels() -> None:
    counts = torch.tensor(
        [[[[3, 1], [0, 4]], [[0, 2], [0, 6]]], [[[8, 0], [2, 0]], [[6, 0], [0, 0]]]]
    )
    context = EpochContext(0, 1, (), counts)
    assert context.predicted_shares().tolist() == [[3 / 16, 13 / 16], [1.0, 0.0]]
    scores = torch.tensor([[[2.0, 1.0, 0.0], [2.0, 3.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    assert EpochContext(0, 1, (), scores).predicted_shares().tolist() == [[0.5, 0.25, 0.25]]
    with pytest.raises(ValueError, match="before an epoch's validation"):
        EpochContext(0, 1, ()).predicted_shares()


# ---------------------------------------------------------------------- a whole trial


SETTINGS = (
    "dataset=synthetic",
    "train.epochs=3",
    "train.batch_size=8",
    "train.schedule=constant",
    "seeds=[0]",
    "backbone.width=4",
)


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)


def plan_of(output: Path, *arguments: str) -> Plan:
    return Plan(load_study([f"output={output}", "executor=local", *SETTINGS, *arguments]))


class Killed(BaseException):
    """Stands for a process that ends here: nothing may catch it."""


def run_interrupted(trial: PlannedTrial) -> None:
    """Killed after its second epoch, and resumed."""

    def stop(report: EpochReport) -> None:
        if report.epoch == 1:
            raise Killed

    with pytest.raises(Killed):
        run_trial(trial.job, stop)
    assert run_trial(trial.job).status == "done"


@pytest.mark.usefixtures("blocks")
def test_a_segmentation_trial_from_training_to_the_report(tmp_path: Path) -> None:
    whole, plan = (
        plan_of(tmp_path / "whole", "methods=[dmrnet]"),
        plan_of(tmp_path / "runs", "methods=[dmrnet]"),
    )
    store, other = Store.below(plan.study.output), Store.below(whole.study.output)
    for trial in plan.trials:
        run_interrupted(trial)
    assert run_trial(whole.trials[0].job).status == "done"
    files = write_report(plan, store)
    assert files.problems == []
    first = [path.read_bytes() for path in files.paths]
    assert [path.read_bytes() for path in write_report(plan, store).paths] == first
    table = pd.read_csv((files.folder / "report.csv"), float_precision="round_trip")
    for trial in plan.trials:
        assert_reported_as_predicted(trial, store, table[table["trial_id"] == trial.id])
    records = [s.trial(plan.trials[0].id).record() or {} for s in (store, other)]
    assert records[0]["cells"] == records[1]["cells"] and records[0]["files"] == records[1]["files"]


def assert_reported_as_predicted(trial: PlannedTrial, store: Store, table: pd.DataFrame) -> None:
    """Predictions from the stored weights, one image at a time, give every reported number by
    scikit-learn.
    """
    found, split = store.trial(trial.id), DATA.load("test")
    arrays = found.scores()
    assert sorted(arrays) == [
        f"{s}{what}" for s in ("test", "val") for what in ("", "_available", "_calibration")
    ]
    assert (arrays["test"].dtype, arrays["test"].shape) == (np.int32, (3, 7, 3, 3))
    model = trial.row.method_class(Small(DATA.spec, {"width": 4}), "paper", trial.row.hparams)
    model.load_state_dict(found.weights())
    logits = naive_logits(model.eval(), split)
    valid = (split.target != VOID).numpy()
    target = split.target.numpy()[valid]
    for position, name in enumerate(NAMES):
        predicted = logits[position].argmax(1).numpy()[valid]
        test = table[(table["split"] == "test") & (table["combination"] == name)].set_index(
            "metric"
        )["value"]
        assert test["miou"] == pytest.approx(
            100 * jaccard_score(target, predicted, average="macro"), abs=1e-9
        )
        assert test["pixel_accuracy"] == pytest.approx(
            100 * accuracy_score(target, predicted), abs=1e-9
        )
        assert list(test.index) == ["miou", "miou_all", "pixel_accuracy"]
        assert arrays["test_calibration"][position, :, :, 0].sum() == 7 * 26 * 26
        assert arrays["test_calibration"][position, :, :, 2].sum() == (target == predicted).sum()
    assert set(table[table["split"] == "test_last_epoch"]["metric"]) == {"miou"}


@pytest.mark.usefixtures("blocks")
def test_a_changed_count_is_found(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "runs", "methods=[sf_md]", "train.epochs=1")
    store, (trial,) = Store.below(plan.study.output), plan.trials
    assert run_trial(trial.job).status == "done"
    assert verify(plan, store) == []
    folder = store.trial(trial.id)
    arrays = folder.scores()
    arrays["test"][2, 0, 0, 0] += 1000
    np.savez(folder / "scores.npz", **arrays)
    record = folder.record() or {}
    files = folder.describe_files("scores.npz", "weights.pt")
    folder.save_record("record.json", record | {"files": files})
    (problem,) = verify(plan, store)
    assert "for m0+m1 on test, record.json says" in problem


@pytest.mark.usefixtures("blocks")
def test_one_class_for_all_pixels_is_marked(tmp_path: Path) -> None:
    (tmp_path / "constant.py").write_text(
        "import torch\nfrom methods.sf_md import SFMD\n\n\nclass Constant(SFMD):\n"
        '    """Predicts class 1 everywhere."""\n\n'
        "    def fuse(self, features, present, noise=None):\n"
        "        output = super().fuse(features, present, noise)\n"
        "        output.logits = output.logits * 1e-9 + torch.eye(3)[1].reshape(3, 1, 1)\n"
        "        return output\n"
    )
    plan = plan_of(tmp_path / "runs", f"methods=[{tmp_path / 'constant.py'}]", "train.epochs=1")
    store, (trial,) = Store.below(plan.study.output), plan.trials
    assert run_trial(trial.job).status == "done"
    target = DATA.load("test").target
    share = float((target == 1).sum() / (target != VOID).sum())
    record = store.trial(trial.id).record() or {}
    for cell in record["cells"]["test"].values():
        # IoU of class 1 is its share of the pixels, those of the two others are 0.
        assert cell == {"value": pytest.approx(100 * share / 3), "n": 7, "collapsed": True}
    assert "†" in (write_report(plan, store).folder / "report.md").read_text()


@pytest.mark.usefixtures("blocks")
def test_methods_see_counts_and_values_of_val(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts: list[EpochContext] = []
    monkeypatch.setattr(SFMD, "end_epoch", lambda self, context: contexts.append(context))
    plan = plan_of(tmp_path / "runs", "methods=[sf_md]", "train.epochs=1")
    store, (trial,) = Store.below(plan.study.output), plan.trials
    assert run_trial(trial.job).status == "done"
    (context,) = contexts
    assert context.val_scores is not None
    evidence, record = stored_evidence(store.trial(trial.id)), store.trial(trial.id).record() or {}
    assert torch.equal(context.val_scores, evidence.scores["val"])
    assert context.val_values == {name: record["cells"]["val"][name]["value"] for name in NAMES}
