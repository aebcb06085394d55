"""Named random streams: one generator per purpose, derived from the trial's seed alone.

A stream's state is a function of (seed, purpose, epoch, ...), so results do not depend on the
number of workers, on packing or on where a run was interrupted, and all methods that share a seed
share the streams that are not their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose: the leading bits of sha256 over ``seed/purpose/...``."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Streams:
    """All random streams of one trial."""

    seed: int

    def generator(self, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator for (seed, purpose, ...)."""
        return torch.Generator(device=device).manual_seed(derive(self.seed, *purpose))

    @contextmanager
    def initialising(self, *purpose: str | int) -> Iterator[None]:
        """Inside, torch's global CPU generator is this stream (layers initialise themselves from
        it); restored afterwards.
        """
        state = torch.get_rng_state()
        torch.manual_seed(derive(self.seed, "init", *purpose))
        try:
            yield
        finally:
            torch.set_rng_state(state)


class Noise:
    """The only source of randomness inside a model.

    ``None`` in its place means the deterministic, evaluation form.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def normal_like(self, x: torch.Tensor) -> torch.Tensor:
        """Independent N(0, 1) draws with the shape, type and device of ``x``."""
        return torch.randn(x.shape, generator=self.generator, dtype=x.dtype, device=x.device)

    def dropout(self, x: torch.Tensor, p: float | torch.Tensor) -> torch.Tensor:
        """Inverted dropout: each element is zeroed with probability ``p`` (a number or 0-d), the
        others divided by 1 - p.
        """
        if isinstance(p, float) and p == 0.0:
            return x
        keep = torch.rand(x.shape, generator=self.generator, dtype=x.dtype, device=x.device) >= p
        return torch.where(keep, x / (1.0 - p), torch.zeros_like(x))
