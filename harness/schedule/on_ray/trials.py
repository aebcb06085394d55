"""Runs with Tune what the study's driver hands out, once Ray is there.

Called by schedule/on_ray/main.py. Torch is imported on a cluster, and for a probe of GPUs, alone:
Ray's side of a run on one machine has no use for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.schedule.on_ray.nodes.admission import able, examined
from harness.schedule.on_ray.nodes.checks import trainable
from harness.schedule.on_ray.source import device_of, job_of, on_device, searcher
from harness.schedule.on_ray.tune import listener, tuner
from harness.study.settings import AUTO, ResourcesConfig

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
    settle = partial(_settled, say, resources, first[1])
    nodes = examined(_foreseen(resources), first[1], partial(say, "warned"), settle)
    with nodes as (token, settled):

        def next_answer() -> tuple[Any, ...]:
            word, *facts = next(answers, None) or ask()
            # The plan does not know what the nodes of a cluster have.
            return word, *(on_device(payload, settled.device) for payload in facts)

        work, heard = trainable(token), listener(tell, settled)
        tuner(work, settled, storage, heard, searcher(next_answer)).fit()


def _foreseen(resources: ResourcesConfig) -> ResourcesConfig:
    """By which a cluster's nodes are chosen to be examined before ``auto`` is decided: those with a
    GPU where there are any.
    """
    if resources.gpus_per_trial != AUTO or resources.address is None:
        return resources
    on_gpus = replace(resources, gpus_per_trial=1.0)
    return on_gpus if able(on_gpus) else resources


def _settled(say: Say, resources: ResourcesConfig, first: Mapping[str, str]) -> ResourcesConfig:
    """The resources of trials, with numbers where ``auto`` had to be decided."""
    planned_on_cpu = resources.address is None and device_of(first) == "cpu"
    if resources.gpus_per_trial != AUTO or planned_on_cpu:
        return resources
    from harness.schedule.on_ray.gpus import decided

    chosen, sentence, facts = decided(resources, job_of(first), partial(say, "warned"))
    say("chosen", chosen, sentence, facts)
    return chosen
