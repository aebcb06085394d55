"""Replayed training steps: on a CPU, whose recorded operations stand for a GPU's graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.conformance.synthetic import synthetic_split
from harness.method import Losses, Method, Output, TrainBatch
from harness.protocol.seeds import Noise
from harness.training.cuda_graph import COMPARED, Recorder, ReplayedSteps, same
from harness.training.loop import NOT_REPLAYED, Trainer
from methods.sf_md import SFMD
from tests.support.recorded_operations import RecordedOperations, Recordings
from tests.support.registered import methods_on
from tests.support.trainers import LATE, NAMED, NETWORKS, SPEC, trainer_of

BATCHES = 6


FAST = ("sf_md", "dmrnet", "esanet_md")
ON_OTHER_NETWORKS = [
    pytest.param(network, name, marks=() if name in FAST else pytest.mark.slow)
    for network, made in NETWORKS.items()
    if network != "small"
    for name in methods_on(made())
]


@pytest.fixture(autouse=True)
def asynchronous_and_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """``combine`` looks at the mask on a CPU; on a GPU an asynchronous assertion does. Epochs of
    four steps are recorded, to keep tests short.
    """
    monkeypatch.setattr(Method, "combine", lambda self, f, p, n=None: self.fuse(f, p, n))
    monkeypatch.setattr("harness.training.loop.LEAST_STEPS", 4)


def trained(
    named: str, record: Recorder | None, batches: float = BATCHES, **recipe: Any
) -> tuple[Trainer, list[dict[str, float]]]:
    """A trainer after an early and a late epoch, and what these logged."""
    trainer = trainer_of(named)
    trainer.train = synthetic_split(SPEC, int(16 * batches))
    trainer.available = trainer.train.available
    trainer.record = record
    for key, value in recipe.items():
        setattr(trainer.recipe, key, value)
    return trainer, [trainer._train_epoch(epoch) for epoch in (0, LATE)]


def trained_alike(one: Trainer, other: Trainer) -> bool:
    """Whether weights, buffers and momenta are the same bits."""
    both = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    momenta = zip(one.optimiser.state.values(), other.optimiser.state.values(), strict=True)
    pairs = [*both, *((a["momentum_buffer"], b["momentum_buffer"]) for a, b in momenta)]
    return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)


@pytest.mark.parametrize("named", NAMED)
def test_every_methods_step_can_be_recorded_and_trains_the_same_bits(named: str) -> None:
    recordings = Recordings()
    (plain, logged), (replayed, again) = trained(named, None), trained(named, recordings)
    assert replayed.remarks == []
    assert [made.replays for made in recordings.made] == [BATCHES - 1] * 2
    assert [made.in_any_order() for made in recordings.made] == [[], []]
    assert again == logged
    assert trained_alike(plain, replayed)


@pytest.mark.parametrize(("network", "named"), ON_OTHER_NETWORKS)
def test_steps_on_the_other_networks_are_recorded_too(network: str, named: str) -> None:
    """Two epochs of four batches: one plain step, two that are compared, and one replayed."""
    backbone = NETWORKS[network]()
    recordings = Recordings()
    trainer = trainer_of(named, backbone=backbone)
    trainer.train = synthetic_split(backbone.spec, 4 * 4)
    trainer.available = trainer.train.available
    trainer.recipe.batch_size = 4
    trainer.record = recordings
    trainer._train_epoch(LATE)
    assert trainer.remarks == []
    assert [made.replays for made in recordings.made] == [3]
    assert recordings.made[0].in_any_order() == []


def test_what_a_gpu_would_sum_in_any_order_is_seen() -> None:
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    logits, target = x.log_softmax(1), torch.zeros(2, 4, 4, dtype=torch.long)
    with RecordedOperations() as recording:
        torch.nn.functional.adaptive_avg_pool2d(x, 3).sum().backward()
        torch.nn.functional.nll_loss(logits, target, reduction="none")
        torch.arange(4).cumsum(0)
    assert recording.in_any_order() == ["_adaptive_avg_pool2d_backward"]
    with RecordedOperations() as recording:
        torch.nn.functional.nll_loss(logits, target).backward()
        x.cumsum(0)
    assert recording.in_any_order() == ["nll_loss2d_forward", "nll_loss2d_backward", "cumsum"]


def test_clipping_and_bf16_are_recorded_too() -> None:
    recipe = {"clip_norm": 0.1, "precision": "bf16"}
    recordings = Recordings()
    (plain, logged), (replayed, again) = (
        trained("dmrnet", record, **recipe) for record in (None, recordings)
    )
    assert len(recordings.made) == 2
    assert again == logged
    assert trained_alike(plain, replayed)


def test_a_smaller_last_batch_is_a_plain_step() -> None:
    recordings = Recordings()
    (plain, logged), (replayed, again) = (
        trained("dmrnet", record, batches=4.5, drop_last=False) for record in (None, recordings)
    )
    assert [made.replays for made in recordings.made] == [3, 3]
    assert again == logged
    assert trained_alike(plain, replayed)


def test_short_epochs_are_not_recorded() -> None:
    recordings = Recordings()
    trainer, _ = trained("sf_md", recordings, batches=3)
    assert recordings.made == [] == trainer.remarks


def test_a_number_of_samples_that_masks_decide_is_not_recorded() -> None:
    recordings = Recordings()
    trainer, _ = trained("sf_md", recordings, encode="present")
    assert recordings.made == [] == trainer.remarks


class _Counts(SFMD):
    """A number that Python counts: a recording would keep the one that it saw."""

    steps = 0

    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        self.steps += 1
        return {"task": self.task_loss(output.logits, batch.target).mean() / self.steps}


class _Reads(SFMD):
    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        loss = self.task_loss(output.logits, batch.target).mean()
        return {"task": loss / max(1.0, float(loss.detach()))}


class _Copies(SFMD):
    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        weight = torch.tensor(0.5, device=output.logits.device)
        return {"task": weight * self.task_loss(output.logits, batch.target).mean()}


@pytest.mark.parametrize(
    ("cls", "why", "recorded"),
    [
        (_Counts, "a replayed step gave other values than a plain one", 1),
        (_Reads, "_local_scalar_dense cannot be recorded", 0),
        (_Copies, "lift_fresh cannot be recorded", 0),
    ],
)
def test_what_cannot_be_replayed_is_trained_by_plain_steps_and_says_so(
    cls: type[Method], why: str, recorded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("methods.sf_md.SFMD.loss", cls.loss)
    monkeypatch.setattr(SFMD, "steps", 0, raising=False)
    plain, logged = trained("sf_md", None)
    recordings = Recordings()
    replayed, again = trained("sf_md", recordings)
    if cls is _Counts:  # which counts on where a step is taken twice
        assert [values["train/lr"] for values in again] == [v["train/lr"] for v in logged]
    else:
        assert again == logged
        assert trained_alike(plain, replayed)
    assert replayed.remarks == [f"{NOT_REPLAYED} ({why})"]
    assert len(recordings.made) == recorded


class _Steps:
    """``x`` becomes 2 x + noise + index, in place."""

    def __init__(self) -> None:
        self.x = torch.zeros(2, dtype=torch.float64)
        self.noise = Noise(torch.Generator().manual_seed(0))

    def __call__(self, index: Tensor) -> None:
        self.x.mul_(2).add_(self.noise.normal_like(self.x)).add_(index)


class _Forgets(RecordedOperations):
    """Replays without the generator: each replay draws what the first one drew."""

    def replay(self) -> None:
        generator = next(k["generator"] for _, _, k, _ in self.operations if "generator" in k)
        state = generator.get_state()
        super().replay()
        generator.set_state(state)


def _forgetful(work: Callable[[], None], generator: torch.Generator) -> RecordedOperations:
    recording = _Forgets()
    with recording:
        work()
    return recording


def _full(work: Callable[[], None], generator: torch.Generator) -> RecordedOperations:
    raise RuntimeError("no room\nin the pool")


@pytest.mark.parametrize(
    ("record", "refused"),
    [
        (Recordings(), ""),
        (_forgetful, "a replayed step gave other values than a plain one"),
        (_full, "no room"),
    ],
)
def test_steps_are_those_of_a_loop_whatever_the_recording_does(
    record: Recorder, refused: str
) -> None:
    """By hand: x_n = 2 x_(n-1) + e_n + n, with e drawn one after the other."""
    steps = _Steps()
    take = ReplayedSteps(steps, lambda: [steps.x], steps.noise.generator, record)
    draws, expected = torch.Generator().manual_seed(0), torch.zeros(2, dtype=torch.float64)
    for n in range(3 + COMPARED):
        take(torch.full((2,), n))
        drawn = torch.randn(2, generator=draws, dtype=torch.float64)
        expected = 2 * expected + drawn + n
        assert torch.equal(steps.x, expected)
    assert take.refused == refused


def test_nan_equals_nan_alone() -> None:
    nan, zero, most = torch.tensor([float("nan")]), torch.zeros(1), torch.tensor([torch.inf])
    largest = torch.tensor([torch.finfo(torch.float32).max])
    assert same([nan, zero, most], [nan.clone(), zero.clone(), most.clone()])
    for one, other in ((nan, zero), (zero, nan), (most, largest), (most, nan)):
        assert not same([one], [other])
    assert same([torch.tensor([True, False])], [torch.tensor([True, False])])
    assert not same([torch.tensor([3])], [torch.tensor([4])])


def test_a_resumed_training_replays_to_the_same_bits() -> None:
    """Two epochs in one process, or one each in two: the second is recorded anew in both."""
    whole, _ = trained("dmrnet", Recordings())
    first = trainer_of("dmrnet")
    second, _ = trained("dmrnet", None)
    first.train = synthetic_split(SPEC, 16 * BATCHES)
    first.available = first.train.available
    first.record = Recordings()
    first._train_epoch(0)
    second.model.load_state_dict(first.model.state_dict())
    second.optimiser.load_state_dict(first.optimiser.state_dict())
    second.record = Recordings()
    second._train_epoch(LATE)
    assert trained_alike(whole, second)
