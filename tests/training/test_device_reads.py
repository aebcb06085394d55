"""How often training and evaluation wait for a GPU: counted on a CPU, where the same lines run."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.conformance.synthetic import synthetic_split
from harness.method import Method
from harness.training.evaluation import predict
from harness.training.loop import Trainer
from tests.support.device_reads import DeviceReads
from tests.support.trainers import BATCHES, LATE, NAMED, SPEC, trainer_of


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> DeviceReads:
    """A counter that does not see what is done with tensors of the host on every machine.

    On a CPU `combine` looks at the mask to raise a plain error; on a GPU an asynchronous assertion
    does.
    """
    counter = DeviceReads()

    def on_the_host(name: str) -> None:
        function = getattr(Trainer, name)

        def called(self: Trainer, *given: Any) -> Any:
            with counter.elsewhere():
                return function(self, *given)

        monkeypatch.setattr(Trainer, name, called)

    on_the_host("_draw_masks")
    on_the_host("_batches")
    monkeypatch.setattr(Method, "combine", lambda self, f, p, n=None: self.fuse(f, p, n))
    return counter


@pytest.mark.parametrize("named", NAMED)
def test_a_training_step_reads_nothing_and_an_epoch_once(named: str, reads: DeviceReads) -> None:
    trainer = trainer_of(named)
    step, in_steps = trainer._step, []

    def counted(*given: Any) -> None:
        before = reads.count
        step(*given)
        in_steps.append(reads.count - before)

    trainer._step = counted  # type: ignore[method-assign]
    with reads.counted():
        for epoch in (0, LATE):
            trainer._train_epoch(epoch)
    assert in_steps == [0] * 2 * BATCHES
    # The sums of the epoch's losses; RFNet looks at its class counts before an epoch, too.
    assert reads.count == 2 * (2 if named == "rfnet" else 1)


@pytest.mark.parametrize("encode", ["dense", "present"])
def test_clipping_and_the_policy_of_encoding_read_nothing(encode: str, reads: DeviceReads) -> None:
    """But for the samples to encode, which are picked by a mask of the host, once a modality."""
    trainer = trainer_of("sf_md", clip_norm=0.1)
    trainer.recipe.encode = encode
    with reads.counted():
        trainer._train_epoch(LATE)
    assert reads.count == 1 + (3 * BATCHES if encode == "present" else 0)


@pytest.mark.parametrize("named", NAMED)
def test_evaluation_checks_once_and_moves_scores_once(named: str, reads: DeviceReads) -> None:
    model, split = trainer_of(named).model, synthetic_split(SPEC, 40)
    with reads.counted():
        scores = predict(model, split, 16, torch.device("cpu"))
    # The comparison with a plain forward pass, and the copy to the host.
    assert reads.count == 2
    assert tuple(scores.shape) == (7, 40, 5)


def test_the_counter_sees_what_it_is_for() -> None:
    reads, x = DeviceReads(), torch.arange(4.0)

    def found(function: Any) -> int:
        reads.count = 0
        with reads.counted():
            function()
        return reads.count

    conditions = (lambda: bool(x.any()), lambda: float(x[0]), lambda: x[x > 1])
    for read in (x.tolist, x.cpu, x.numpy, x.sum().item, x.nonzero, x.unique, *conditions):
        assert found(read) == 1
    for silent in (lambda: x + x, lambda: torch.where(x > 1, x, -x), lambda: x[torch.tensor([1])]):
        assert found(silent) == 0
