"""The optimiser of every trial: torch's SGD, as it is without torch's compiler."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

_step = inspect.unwrap(torch.optim.SGD.step)


class SGD(torch.optim.SGD):
    """``torch.optim.SGD``, whose methods do the same and import no compiler.

    Torch wraps them so that its compiler leaves them alone, for which it imports it: more than a
    second of every process that trains. Nothing is compiled here.
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)

    # The wrapper that is taken off does that, too.
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Move the parameters by their gradients."""
        return _step(self, closure)
