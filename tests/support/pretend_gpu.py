"""A GPU that computes nothing: where tensors are is followed, and what they hold is not.

    python -m tests.support.pretend_gpu NETWORK
    python -m tests.support.pretend_gpu STUDY KEY=VALUE ...

takes training steps and an evaluation on it, of every method that the network can carry or of the
study's first row, and prints a JSON line for each with what a GPU would refuse: an operation on
tensors of the GPU and of the host (``FakeTensorDeviceMismatchError``), or a value that the host
reads to go on (``DataDependentOutputException``), for which a GPU is waited. Torch's FakeTensor
sees both; its "cuda" needs a torch that was built for it, so that the device is one of Python's
own.

In a process of its own: a device, once registered, is there for all that runs in it.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.overrides import TorchFunctionMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from harness.data.split import _per_channel
from harness.method import EpochContext, Method
from harness.protocol.seeds import Streams
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training import evaluation
from harness.training.fusion import Fusion
from harness.training.loop import Trainer
from harness.training.trial import prepared
from harness.training.trial import trainer_of as trainer_of_trial
from tests.support.registered import methods_on
from tests.support.trainers import LATE, NAMED, NETWORKS, Nothing, trainer_of

NAME = "pretend"
GPU = torch.device("privateuseone", 0)


def register() -> None:
    """Make the device known to torch, for the rest of this process."""
    module = SimpleNamespace(
        is_initialized=lambda: True,
        is_available=lambda: True,
        current_device=lambda: 0,
        device_count=lambda: 1,
        _is_in_bad_fork=lambda: False,
        manual_seed_all=lambda seed: None,
        get_amp_supported_dtype=lambda: [torch.bfloat16],
        is_autocast_enabled=lambda: False,
    )
    _setup_privateuseone_for_python_backend(NAME, module)
    # What code that asks `tensor.is_cuda` does on a GPU is what is to be done.
    FakeTensor.is_cuda = property(lambda self: self.device.type == NAME)
    # Parameters become others, instead of changing what they are.
    torch.__future__.set_overwrite_module_params_on_conversion(True)


class _Moves(TorchFunctionMode):
    """Tensors of the host go to the device, and are made there, as on a real one."""

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()
        self.mode = mode

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and _on_gpu(kwargs.get("device")):
            device = kwargs.pop("device")
            with unset_fake_temporarily():
                made = function(*args, **kwargs)
            return self.mode.from_tensor(made).to(device)
        if function is Tensor.to and not isinstance(args[0], FakeTensor):
            args = (self.mode.from_tensor(args[0]), *args[1:])
        return function(*args, **kwargs)


def _on_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


@contextmanager
def pretended() -> Iterator[None]:
    """Within, the device can be used; what is made there is not computed.

    Streams of random numbers are those of the host, for a device of Python's own has none.
    """
    own = Streams.generator

    def on_the_host(self: Streams, *purpose: str | int, device: Any = "cpu") -> torch.Generator:
        return own(self, *purpose)

    # It keeps tensors, which are of one pretence alone.
    _per_channel.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, _Moves(mode):
        Streams.generator = on_the_host  # type: ignore[method-assign]
        try:
            yield
        finally:
            Streams.generator = own  # type: ignore[method-assign]


def train_step(trainer: Trainer, epoch: int) -> None:
    """One training step of a trainer on the device, in this epoch; the trainer is used up."""
    trainer.model.train()
    trainer.model.begin_epoch(
        EpochContext(epoch, trainer.recipe.epochs, trainer.model.combinations)
    )
    # The host draws these, and looks at them.
    present, batch = trainer._draw_masks(epoch), trainer._batches(epoch)[0]
    draws = trainer.train.draw(trainer.streams.generator("augment", epoch))
    with pretended():
        move(trainer)
        trainer.train.draw = lambda generator: draws  # type: ignore[method-assign]
        trainer._step(batch.to(GPU), trainer._shared(epoch, present), None)
        found = {p.device for p in trainer.model.parameters() if p.grad is not None}
    assert found == {GPU}, found


def evaluate(trainer: Trainer) -> None:
    """Val's scores of every combination on the device; the trainer is used up."""
    check, checked = Fusion.check, evaluation._checked

    def unread(self: Fusion, inputs: Any, cache: Any, looked_at: Tensor) -> bool:
        """The same calls; their values, which the host compares once, are not there."""
        self.model(inputs, self.masks[-1].expand(len(looked_at), -1))
        return True

    # Both read values once a split.
    Fusion.check = unread  # type: ignore[method-assign]
    evaluation._checked = lambda found, combinations: found
    try:
        with pretended():
            move(trainer)
            size = trainer.evaluation.batch_size
            found = evaluation.gather(trainer.model, trainer.val, size, GPU)
            assert all(one.device.type == "cpu" for one in found.values())
    finally:
        Fusion.check = check  # type: ignore[method-assign]
        evaluation._checked = checked


def move(trainer: Trainer) -> None:
    """Everything of a trainer to the device, in the order in which a trial does it."""
    trainer.device = GPU
    trainer.model.to(GPU)
    # A trial adopts behind this, to where the model is.
    for adopted in adopted_by(trainer.model):
        adopted.to(GPU)
    trainer.train, trainer.val = trainer.train.to(GPU), trainer.val.to(GPU)
    trainer.optimiser = torch.optim.SGD(trainer.model.parameters(), lr=0.1, momentum=0.9)


def problem(work: Callable[[], None]) -> str:
    """What goes wrong, and in which line of ours; empty where nothing does."""
    try:
        work()
    except Exception as error:
        own = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if "site-packages" not in frame.filename and frame.filename != __file__
        ]
        where = f"{own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""
        return f"{type(error).__name__}: {str(error)[:300]} ({where})"
    return ""


def adopted_by(model: Method) -> list[torch.nn.Module]:
    """Other models that a method keeps beside its own parts."""
    kept = [one for value in vars(model).values() if isinstance(value, list) for one in value]
    return [one for one in kept if isinstance(one, torch.nn.Module)]


def main(given: Sequence[str]) -> None:
    """Print what becomes of each method of a network, or of a study's data."""
    register()
    if given[0] in NETWORKS:
        names = NAMED if given[0] == "small" else methods_on(NETWORKS[given[0]]())
        for named in names:
            tried(named, partial(trainer_of, named, backbone=NETWORKS[given[0]]()))
    else:
        tried(given[0], partial(trainer_on_data, [f"study={given[0]}", *given[1:]]))


def tried(named: str, made: Callable[[], Trainer]) -> None:
    """Steps in an early and a late epoch, and an evaluation, each of a new trainer."""
    for epoch in (0, LATE):
        say(named, f"step in epoch {epoch}", lambda: train_step(made(), epoch))  # noqa: B023
    say(named, "evaluation", lambda: evaluate(made()))


def trainer_on_data(settings: list[str]) -> Trainer:
    """What trains the first trial of a study, before it has a device."""
    plan = Plan(load_study(settings))
    plan.dataset.prepare(lambda *progress: None)
    job = plan.trials[0].job
    run = prepared(job, Store(Path(job.store)).trial(job.spec.id))
    return trainer_of_trial(run, Nothing(), lambda report: None)


def say(named: str, what: str, work: Callable[[], None]) -> None:
    """Print what a piece of work came to."""
    print(json.dumps({"method": named, "work": what, "problem": problem(work)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
