"""Counts what would wait for a GPU, as far as a CPU shows it: values read from tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

MOVES = ("cpu", "numpy", "tolist", "item", "__array__")
READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2")
"""Operators whose result, or its size, is needed on the host."""


class DeviceReads:
    """How many values or arrays were read from tensors inside ``counted``.

    A tensor's ``cpu``, ``tolist`` and the like count once each, as one copy; conditions, ``float``
    and operators with a size that depends on the data count where they are executed.
    """

    def __init__(self) -> None:
        self.count = 0
        self.paused = False

    @contextmanager
    def counted(self) -> Iterator[None]:
        with _Moves(self), _Operators(self):
            yield

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Inside, nothing counts: for work on tensors that are on the host on every machine."""
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before

    def add(self) -> None:
        self.count += not self.paused


class _Moves(TorchFunctionMode):
    def __init__(self, reads: DeviceReads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") not in MOVES:
            return func(*args, **(kwargs or {}))
        self.reads.add()
        with self.reads.elsewhere():
            return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    def __init__(self, reads: DeviceReads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        # A mask in an index is made to positions, of which there may be any number.
        masked = name in ("index", "index_put_") and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if name in READS or masked:
            self.reads.add()
        return func(*args, **(kwargs or {}))
