"""Runs with Tune what the study's driver hands out, once Ray is there.

Called by schedule/on_ray/main.py, which imports this file while Ray's servers start: it needs
torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from harness.schedule.on_ray.gpus import decided, foreseen
from harness.schedule.on_ray.nodes.admission import examined
from harness.schedule.on_ray.nodes.checks import trainable
from harness.schedule.on_ray.source import job_of, on_device, searcher
from harness.schedule.on_ray.tune import listener, tuner
from harness.study.settings import ResourcesConfig
from harness.training.spec import Job

Say = Callable[..., None]


def train(
    first: tuple[Any, ...],
    ask: Callable[[], tuple[Any, ...]],
    say: Say,
    tell: Say,
    resources: ResourcesConfig,
    storage: Path,
) -> None:
    """Run trials until the driver has no more.

    Args:
        first: the driver's first answer, ``trial PAYLOAD``.
        ask: its next one (see main.py for the words).
        say: tells the driver something of the nodes and GPUs.
        tell: tells it what happens to trials.
        resources: those of the study.
        storage: Tune's folder.
    """
    answers = iter([first])
    settle = partial(_settled, say, resources, job_of(first[1]))
    nodes = examined(foreseen(resources), first[1], partial(say, "warned"), settle)
    with nodes as (token, settled):

        def next_answer() -> tuple[Any, ...]:
            word, *facts = next(answers, None) or ask()
            # The plan does not know what the nodes of a cluster have.
            return word, *(on_device(payload, settled.device) for payload in facts)

        work, heard = trainable(token), listener(tell, settled)
        tuner(work, settled, storage, heard, searcher(next_answer)).fit()


def _settled(say: Say, resources: ResourcesConfig, job: Job) -> ResourcesConfig:
    """The resources of trials, with numbers where ``auto`` had to be decided."""
    choice = decided(resources, job, partial(say, "warned"))
    if choice is None:
        return resources
    say("chosen", *choice)
    return choice[0]
