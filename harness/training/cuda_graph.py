"""Training steps replayed from a CUDA graph, which costs Python nothing, where that gives the bits
of plain steps.

A graph is a recording of one step: its kernels, with the addresses that they read and write. What
Python decides while it is recorded (the learning rate, the phases of a method) stays as it was, so
each epoch is recorded anew. Random numbers are those of plain steps: the graph reads the state of
the epoch's generator at each replay. Called by the loop; nothing here decides a trial's result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from harness.errors import one_line

COMPARED = 2
"""Replays of an epoch that are compared with plain steps. The first shows what was recorded
wrongly; the second also what changes from step to step without being a tensor of the state.
"""

LEAST_STEPS = 16
"""An epoch with fewer is not recorded: the recording and what is compared cost about five."""


class Recording(Protocol):
    """A recorded piece of work."""

    def replay(self) -> None:
        """Do it again, on the memory that it was recorded on."""


Recorder = Callable[[Callable[[], None], torch.Generator], Recording]
"""Records a piece of work that draws from a generator; whether it is also done is left open."""


def on_gpu(work: Callable[[], None], generator: torch.Generator) -> Recording:
    """A CUDA graph of the work, which is not done.

    RuntimeError when it waits for the device, copies from the host, or its shapes depend on data.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        work()
    return graph


class ReplayedSteps:
    """Takes the training steps of one epoch, most of them by replaying a recording.

    The first step is plain, so that the optimiser and the libraries have allocated what they keep.
    The next COMPARED are taken twice from the same state, plainly and by replay. Unless both give
    the same bits, ``refused`` says why and all steps are plain ones.

    Args:
        step: takes one step on the samples at ``index`` (B,) int64; what it makes of them depends
            on ``index`` and on what ``state`` and ``generator`` hold alone.
        state: the tensors that a step changes, always the same ones after the first step.
        generator: what steps draw from.
        record: makes the recording.
    """

    def __init__(
        self,
        step: Callable[[Tensor], None],
        state: Callable[[], Sequence[Tensor]],
        generator: torch.Generator,
        record: Recorder,
    ) -> None:
        self.refused = ""
        self._step, self._state, self._generator = step, state, generator
        self._record = record
        self._recording: Recording | None = None
        self._index: Tensor | None = None
        """Where a recording reads the positions of its samples."""
        self._compared = 0

    def __call__(self, index: Tensor) -> None:
        """Take one step; plainly where its batch is smaller than the first one's."""
        if self._index is None:
            self._index = index.clone()
            self._step(index)
        elif self.refused or index.shape != self._index.shape:
            self._step(index)
        elif self._compared < COMPARED:
            self._compare(index)
        else:
            self._replay(index)

    def _compare(self, index: Tensor) -> None:
        before = self._snapshot()
        self._step(index)
        plain = self._snapshot()
        try:
            if self._recording is None:
                self._recording = self._recorded()
            self._restore(before)
            self._replay(index)
            if not same(self._snapshot(), plain):
                self.refused = "a replayed step gave other values than a plain one"
        except Exception as error:  # a method's step may do anything that cannot be recorded
            self.refused = one_line(error)
        if self.refused:
            self._recording = None
            self._restore(plain)
        self._compared += 1

    def _recorded(self) -> Recording:
        index = self._index
        assert index is not None
        return self._record(lambda: self._step(index), self._generator)

    def _replay(self, index: Tensor) -> None:
        assert self._index is not None and self._recording is not None
        self._index.copy_(index)
        self._recording.replay()

    def _snapshot(self) -> list[Tensor]:
        """Copies of all that a step changes, the generator's state last."""
        return [*(tensor.detach().clone() for tensor in self._state()), self._generator.get_state()]

    @torch.no_grad()
    def _restore(self, snapshot: list[Tensor]) -> None:
        *values, generator = snapshot
        for tensor, value in zip(self._state(), values, strict=True):
            tensor.copy_(value)
        self._generator.set_state(generator)


def same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Whether all values are equal; NaN equals NaN and nothing else."""
    for one, other in zip(some, others, strict=True):
        # Only NaN differs from itself.
        both_nan = (one != one) & (other != other)
        if not bool(((one == other) | both_nan).all()):
            return False
    return True
