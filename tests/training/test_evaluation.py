"""Evaluation of all combinations: against a naive loop, by counted work, in shared calls, and with
methods that cannot be cached.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from harness.backbones.small import Small
from harness.conformance.synthetic import synthetic_spec, synthetic_split
from harness.dataset import Split
from harness.method import Method
from harness.protocol.cells import as_json, mean_value, score_cells
from harness.protocol.metrics import metric
from harness.protocol.seeds import Streams
from harness.registry import METHODS
from harness.store import Store
from harness.training.evaluation import Stopwatch, gather, predict
from harness.training.fusion import Fusion, NotSeparable
from harness.training.trial import run_trial
from methods.sf_md import SFMD
from tests.conftest import MakeJob
from tests.support import broken_methods as broken
from tests.support.registered import ON_SMALL

CPU = torch.device("cpu")
SPEC = synthetic_spec(3, 5)
SPLIT = synthetic_split(SPEC, 50)
EVERY_METHOD = pytest.mark.parametrize("name", ON_SMALL)
SIX = ("sf_md", "dmrnet", "rfnet", "mmformer")
"""Methods whose 63 fusions of six modalities are counted too."""


def model_of(cls: type[Method]) -> Method:
    with Streams(0).initialising("model"):
        model = cls(Small(SPEC, {"width": 8}))
    with torch.no_grad():  # running statistics that are not those of the start
        model.train()(SPLIT.inputs, torch.ones(50, 3, dtype=torch.bool))
    return model


def naive_scores(model: Method, split: Split, batch_size: int) -> Tensor:
    """One plain forward pass per combination and batch."""
    model.eval()
    rows = []
    with torch.no_grad():
        for combination in model.combinations:
            parts = []
            for start in range(0, len(split), batch_size):
                part = split.select(
                    torch.arange(start, min(start + batch_size, len(split)))
                ).received()
                mask = torch.tensor([combination.mask] * len(part))
                parts.append(model(part.inputs, mask).logits)
            rows.append(torch.cat(parts))
    return torch.stack(rows)


@EVERY_METHOD
@pytest.mark.parametrize("batch_size", [50, 16, 7, 64])
def test_predictions_are_bit_equal_to_one_forward_pass_per_combination(
    name: str, batch_size: int
) -> None:
    model = model_of(METHODS.get(name))
    scores = predict(model, SPLIT, batch_size, CPU)
    assert scores.dtype == torch.float32
    assert tuple(scores.shape) == (7, 50, 5)
    assert torch.equal(scores, naive_scores(model, SPLIT, batch_size))


@EVERY_METHOD
def test_the_batch_size_does_not_matter(name: str) -> None:
    model = model_of(METHODS.get(name))
    torch.testing.assert_close(
        predict(model, SPLIT, 50, CPU), predict(model, SPLIT, 9, CPU), rtol=1e-5, atol=1e-5
    )


@EVERY_METHOD
@pytest.mark.parametrize("training", [True, False])
def test_predicting_leaves_the_model_as_it_was(name: str, training: bool) -> None:
    model = model_of(METHODS.get(name)).train(training)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert not predict(model, SPLIT, 20, CPU).requires_grad
    assert model.training is training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@EVERY_METHOD
def test_each_encoder_is_called_once_per_batch(name: str) -> None:
    model = model_of(METHODS.get(name))
    calls = dict.fromkeys(SPEC.names, 0)

    def count(modality: str, rows: int) -> None:
        calls[modality] += rows

    for modality, encoder in zip(SPEC.names, model.encoders, strict=True):
        encoder.register_forward_hook(
            lambda module, inputs, output, m=modality: count(m, len(inputs[0]))
        )
    predict(model, SPLIT, 20, CPU)
    # Every sample once, and the first batch of 20 once more for the comparison with a plain forward
    # pass.
    assert calls == dict.fromkeys(SPEC.names, 50 + 20)


@pytest.mark.parametrize(
    ("name", "modalities"), [*((name, 3) for name in ON_SMALL), *((name, 6) for name in SIX)]
)
def test_work_is_encoding_once_and_fusing_each_combination(name: str, modalities: int) -> None:
    spec = synthetic_spec(modalities, 5)
    split = synthetic_split(spec, 64)
    with Streams(0).initialising("model"):
        model = METHODS.get(name)(Small(spec, {"width": 8})).eval()
    combinations = 2**modalities - 1
    mask = torch.ones(64, modalities, dtype=torch.bool)
    with torch.no_grad():
        encode, cache = flops(lambda: model.prepare(model.encode_all(split.inputs)))
        fuse, _ = flops(lambda: model.combine(cache, mask))
    total, _ = flops(lambda: predict(model, split, 16, CPU))
    check = (encode + fuse) / 4  # one of four batches is also predicted by a plain forward pass
    assert encode > 0
    assert fuse > 0
    assert total <= 1.02 * (encode + combinations * fuse + check)


def flops(function: Callable[[], Any]) -> tuple[int, Any]:
    counter = FlopCounterMode(display=False)
    with counter:
        result = function()
    return counter.get_total_flops(), result


# ---------------------------------------------------------------------- sharing calls


@EVERY_METHOD
def test_combinations_that_share_a_call_score_as_each_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(METHODS.get(name)).eval()
    alone, rows = predict(model, SPLIT, 16, CPU), fused_rows(model, monkeypatch)
    shared = gather(model, SPLIT, 16, CPU, at_once=1 << 30)["scores"]
    # The first batch is also fused alone and by a plain forward pass, in one combination.
    assert rows == [7 * 16, 16, 16, 7 * 16, 7 * 16, 7 * 2]
    assert float((shared - alone).abs().max()) <= 1e-6 * max(1.0, float(alone.abs().max()))


def fused_rows(model: Method, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Appended to: the rows of each call of ``fuse`` from now on."""
    fuse, rows = model.fuse, []

    def counted(features: Any, present: Tensor, noise: Any = None) -> Any:
        rows.append(len(present))
        return fuse(features, present, noise)

    monkeypatch.setattr(model, "fuse", counted)
    return rows


@pytest.mark.parametrize(
    ("combinations", "calls"), [(2.9, [2, 2, 2, 1]), (3, [3, 2, 2]), (6.9, [4, 3]), (7, [7])]
)
def test_no_call_gets_more_features_than_it_may(combinations: float, calls: list[int]) -> None:
    model = model_of(METHODS.get("sf_md")).eval()
    cache = model.prepare(model.encode_all(SPLIT.inputs))
    each = 50 * 3 * 8 * 2 * 2 * 4  # samples, modalities, channels, places, bytes
    fusion = Fusion(model, CPU, at_once=int(combinations * each))
    assert [len(call) for call in fusion.calls(cache, 50)] == calls
    assert torch.equal(torch.cat(list(fusion.calls(cache, 50))), fusion.masks)


def test_features_without_a_row_for_each_sample_are_not_repeated() -> None:
    model = model_of(METHODS.get("sf_md")).eval()
    cache = (model.prepare(model.encode_all(SPLIT.inputs)), torch.zeros(()))
    assert len(Fusion(model, CPU, at_once=1 << 30).calls(cache, 50)) == 7


class CouplesRows(SFMD):
    """Its scores depend on which other samples are in the call."""

    def fuse(self, features: Any, present: Tensor, noise: Any = None) -> Any:
        output = super().fuse(features, present, noise)
        output.logits = output.logits - output.logits.mean(0)
        return output


def test_a_method_whose_rows_are_coupled_is_evaluated_one_combination_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of(CouplesRows).eval()
    alone, rows = predict(model, SPLIT, 25, CPU), fused_rows(model, monkeypatch)
    assert torch.equal(gather(model, SPLIT, 25, CPU, at_once=1 << 30)["scores"], alone)
    assert rows == [7 * 25, 25, 25, *[25] * 14]


def test_encoding_and_fusing_are_timed_apart_and_the_first_batch_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clock that encoding moves by 5 s and fusing by 1 s.

    50 samples in batches of 16, 16, 16 and 2.
    """
    model, clock = model_of(METHODS.get("sf_md")), [0.0]

    def costing(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            clock[0] += seconds
            return function(*given)

        return call

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(model, "encode_all", costing(model.encode_all, 5.0))
    monkeypatch.setattr(model, "combine", costing(model.combine, 1.0))
    watch = Stopwatch(CPU)
    gather(model, SPLIT, 16, CPU, watch=watch)
    assert (watch.samples, watch.encode, watch.fuse) == (34, 15.0, 21.0)
    watch = Stopwatch(CPU)
    gather(model, SPLIT, 50, CPU, watch=watch)
    assert (watch.samples, watch.encode, watch.fuse) == (50, 5.0, 7.0)


def test_a_method_whose_features_depend_on_the_mask_is_refused() -> None:
    model = model_of(broken.SeesTheMask)
    with pytest.raises(
        NotSeparable,
        match=r"SeesTheMask: logits fused from cached features differ .* depends on more than",
    ):
        predict(model, SPLIT, 20, CPU)


STATEFUL = '''
from methods.sf_md import SFMD as _SFMD


class Stateful(_SFMD):
    """Couples a batch with the one that was prepared before it."""

    before = 0.0

    def prepare(self, features):
        mean = float(features[0][0].detach().mean())
        shifted = tuple((f[0] + self.before,) for f in features)
        self.before = mean if not self.training else 0.0
        return shifted
'''


def test_a_trial_of_a_method_that_couples_batches_fails_with_its_reason(
    make_job: MakeJob, tmp_path: Path
) -> None:
    (tmp_path / "stateful.py").write_text(STATEFUL)
    job = make_job(str(tmp_path / "stateful.py"))
    outcome = run_trial(job)
    assert outcome.status == "failed"
    assert outcome.reason.startswith(
        "Stateful: logits fused from cached features differ from a plain forward pass by up to "
    )
    trial = Store(Path(job.store)).trial(job.spec.id)
    assert trial.record() is None
    failure = trial.failure()
    assert failure is not None
    assert failure["reason"] == outcome.reason


# ---------------------------------------------------------------------- cells


def patchy_split(samples: int = 40) -> Split:
    split = synthetic_split(SPEC, samples)
    split.available[::3, 0] = False
    split.available[::4, 2] = False
    return split


def test_a_cell_counts_the_samples_that_have_all_its_modalities() -> None:
    split, combinations = patchy_split(), model_of(METHODS.get("sf_md")).combinations
    scores = torch.randn(7, 40, 5, generator=torch.Generator().manual_seed(0))
    cells = score_cells(metric("accuracy"), scores, split, combinations)
    assert list(cells) == [c.name for c in combinations]
    for row, combination in enumerate(combinations):
        right = total = 0
        for n in range(40):
            if all(bool(split.available[n, v]) for v in range(3) if combination.mask[v]):
                total += 1
                right += int(scores[row, n].argmax() == split.target[n])
        assert cells[combination.name].n == total
        assert cells[combination.name].value == pytest.approx(100 * right / total, abs=1e-12)
    assert [cell.n for cell in cells.values()] == [26, 40, 30, 26, 20, 30, 20]


def test_a_complete_split_is_counted_in_full_in_every_cell() -> None:
    model = model_of(METHODS.get("hemis"))
    cells = score_cells(
        metric("accuracy"), predict(model, SPLIT, 50, CPU), SPLIT, model.combinations
    )
    assert {cell.n for cell in cells.values()} == {50}


def test_a_collapsed_cell_is_scored_as_it_is_and_flagged() -> None:
    combinations = model_of(METHODS.get("sf_md")).combinations
    scores = torch.randn(7, 50, 5, generator=torch.Generator().manual_seed(0))
    scores[2] = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])
    cells = list(score_cells(metric("accuracy"), scores, SPLIT, combinations).values())
    assert [cell.collapsed for cell in cells] == [False, False, True, False, False, False, False]
    assert cells[2].value == 20.0  # ten of fifty samples are of class 2


def test_a_combination_that_no_sample_has_is_not_a_number() -> None:
    split = synthetic_split(SPEC, 10)
    split.available[:, 1] = False
    cells = score_cells(
        metric("accuracy"),
        torch.zeros(7, 10, 5),
        split,
        model_of(METHODS.get("sf_md")).combinations,
    )
    assert [cell.n for cell in cells.values()] == [10, 0, 10, 0, 10, 0, 0]
    assert [math.isnan(cell.value) for cell in cells.values()] == [
        False,
        True,
        False,
        True,
        False,
        True,
        True,
    ]


def test_the_mean_is_taken_over_unrounded_values() -> None:
    split = synthetic_split(SPEC, 7)
    scores = torch.nn.functional.one_hot(split.target, 5).float().repeat(7, 1, 1)
    scores[0, 0] = scores[0, 0].roll(1)
    cells = score_cells(
        metric("accuracy"), scores, split, model_of(METHODS.get("sf_md")).combinations
    )
    assert mean_value(cells) == pytest.approx((600 + 600 / 7) / 7, abs=1e-12)
    assert as_json(cells)["m0"] == {"value": pytest.approx(600 / 7), "n": 7, "collapsed": False}
