"""What ``resources.gpus_per_trial=auto`` becomes once Ray is there: numbers, or the CPU.

Called by schedule/on_ray/trials.py when the nodes that are there have been examined. On one machine
the probe (schedule/packing.py) runs beside this process; on a cluster it runs on a node with a GPU.
It is decided once, before the study's first trial starts, and holds until the study is started
again: a GPU that joins a cluster without one later trains nothing as a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import one_line
from harness.schedule.on_ray.nodes.admission import Node, able, leave_out, name_of
from harness.schedule.on_ray.nodes.checks import look_at_gpu
from harness.schedule.packing import Packing, choose, probe
from harness.study.settings import ResourcesConfig
from harness.training.spec import Job

LOOK_SECONDS = 120.0
"""How long nodes may take to hand out a whole GPU and to say what it is."""

PROBE_SECONDS = 900.0
"""How long the probe may take on a node: its own patience ends a trial that does nothing."""

Look = Callable[[], dict[str, Any]]
Say = Callable[[str], None]
Choice = tuple[ResourcesConfig, str, dict[str, Any]]
"""The resources with numbers, a sentence on them, and what to write down."""


@dataclass(frozen=True)
class GpuNode:
    """A node whose GPUs torch can use.

    Attributes:
        id: Ray's.
        name: as people call it.
        gpu: what torch calls its GPU.
        memory: bytes of its GPU.
        cores: CPUs that Ray gives the node, for each of its GPUs.
    """

    id: str
    name: str
    gpu: str
    memory: int
    cores: float


def decided(resources: ResourcesConfig, job: Job, warn: Say) -> Choice:
    """What ``auto`` becomes.

    Args:
        resources: those of the study.
        job: of the first trial, which is what the probe trains.
        warn: told a sentence on each node whose GPU cannot be used.
    """
    if resources.address is not None:
        return decided_on_cluster(resources, job, warn)
    import ray

    there = ray.cluster_resources()
    return choose(resources, job, there.get("CPU", 1.0), there.get("GPU", 1.0))


def decided_on_cluster(
    resources: ResourcesConfig,
    job: Job,
    warn: Say,
    look: Look = look_at_gpu,
    device: str = "cuda",
) -> Choice:
    """What ``auto`` becomes on a cluster, by a probe on the node with the least GPU memory.

    The least cores per GPU of all nodes count, so that what is chosen fits each of them. Trials
    train on the CPU where no node has a GPU that torch can use.

    Args:
        resources, job, warn: see ``decided``.
        look: what a node executes to say what its GPU is.
        device: what the probe trains on.
    """
    nodes = able(replace(resources, gpus_per_trial=1.0))
    if not nodes:
        return _on_cpu(resources, "no node of the cluster has a GPU")
    seen = _look_at(nodes, look)
    if len(seen.problems) == len(nodes):
        node_id, problem = next(iter(seen.problems.items()))
        return _on_cpu(resources, f"node {name_of(node_id)} {problem}")
    for node_id, problem in seen.problems.items():
        warn(f"{leave_out(node_id, problem)}; it is left out, the other nodes go on")
    cores = min([*(node.cores for node in seen.usable), *map(_cores, seen.busy)])
    if not seen.usable:
        return choose(resources, job, cores, 1.0, _no_room)
    weakest = min(seen.usable, key=lambda node: (node.memory, node.cores, node.name))
    job = replace(job, device=device)
    chosen, sentence, facts = choose(resources, job, cores, 1.0, _probe_on(weakest))
    facts |= {"node": weakest.name, "gpu": weakest.gpu, "cores_per_gpu": cores}
    return chosen, f"{sentence}; {_where(weakest, seen, cores)}", facts


def _on_cpu(resources: ResourcesConfig, reason: str) -> Choice:
    sentence = f"trials train on the CPU: {reason}"
    return replace(resources, gpus_per_trial=0.0), sentence, {"trials_per_gpu": 0, "cpu": reason}


def _cores(node: Node) -> float:
    """CPUs of a node for each of its GPUs."""
    return float(node["Resources"].get("CPU", 0.0) / node["Resources"]["GPU"])


@dataclass(frozen=True)
class _Seen:
    """Nodes by what they say of their GPUs; ``busy`` had none to spare, or did not answer."""

    usable: list[GpuNode]
    problems: dict[str, str]
    busy: list[Node]


def _where(weakest: GpuNode, seen: _Seen, cores: float) -> str:
    """Where the probe was made, and what of the other nodes it does not say."""
    kinds = list(dict.fromkeys(node.gpu for node in seen.usable))
    sentence = f"probed on node {weakest.name} ({weakest.gpu})"
    if len(kinds) > 1:
        sentence += f", which has the least memory of {', '.join(kinds)}"
    if any(node.cores > cores for node in seen.usable):
        sentence += f", for {cores:g} cores a GPU, which is the least that a node has"
    if seen.busy:
        names = ", ".join(name_of(node["NodeID"]) for node in seen.busy)
        sentence += f"; without {names}, where no GPU was free"
    return sentence


# ---------------------------------------------------------------------- on the nodes


def _look_at(nodes: Sequence[Node], look: Look) -> _Seen:
    """Let all nodes say at the same time what their GPUs are."""
    import ray

    # A whole GPU, so that torch sees it; and a worker of its own, which frees it again.
    task = ray.remote(num_cpus=0, num_gpus=1, max_retries=0, max_calls=1)(look)
    asked = [task.options(scheduling_strategy=_there(node["NodeID"])).remote() for node in nodes]
    ray.wait(asked, num_returns=len(asked), timeout=LOOK_SECONDS)
    seen = _Seen([], {}, [])
    for node, reference in zip(nodes, asked, strict=True):
        node_id = node["NodeID"]
        try:
            said = ray.get(reference, timeout=0)
        except ray.exceptions.GetTimeoutError:
            ray.cancel(reference, force=True)
            seen.busy.append(node)
            continue
        except ray.exceptions.RayError as error:
            said = {"problem": f"cannot say what its GPU is: {str(error).strip().splitlines()[-1]}"}
        if "problem" in said:
            seen.problems[node_id] = said["problem"]
        else:
            name, cores = name_of(node_id), _cores(node)
            seen.usable.append(GpuNode(node_id, name, said["gpu"], said["memory"], cores))
    return seen


def _probe_on(node: GpuNode) -> Callable[[Job, int], Packing]:
    """The probe, executed by a node, which lends it a GPU and the cores of one."""

    def probe_there(job: Job, cores: int) -> Packing:
        import ray

        cpus = float(int(node.cores)) or node.cores
        task = ray.remote(num_cpus=cpus, num_gpus=1, max_retries=0, max_calls=1)(probe)
        reference = task.options(scheduling_strategy=_there(node.id)).remote(job, cores)
        try:
            measured: Packing = ray.get(reference, timeout=PROBE_SECONDS)
            return measured
        except ray.exceptions.RayTaskError as error:
            # Its own text is a traceback.
            raise RuntimeError(one_line(error.cause)) from error
        except ray.exceptions.GetTimeoutError as error:
            ray.cancel(reference, force=True)
            raise RuntimeError(f"it was not over within {PROBE_SECONDS:g} s") from error

    return probe_there


def _no_room(job: Job, cores: int) -> Packing:
    raise RuntimeError(f"no node had a whole GPU to spare within {LOOK_SECONDS:g} s")


def _there(node_id: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=False)
