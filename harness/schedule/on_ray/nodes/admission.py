"""The nodes of a cluster: each is examined before it trains, and left out if it cannot.

Lives in the process that speaks to Ray. What is examined is in nodes/checks.py: a node must
see the driver's store both ways, and have its code and its data. Nodes that are there at the
beginning are examined before anything is trained, and nodes that join later before their first
trial.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.schedule.on_ray.nodes import checks
from harness.schedule.on_ray.nodes.checks import ADMITTED, Expected
from harness.schedule.on_ray.source import job_of
from harness.study.settings import ResourcesConfig

if TYPE_CHECKING:
    from harness.training.spec import Job

EXAMINED_SECONDS = 120.0
"""How long a node may take, which mostly starts a Python and imports torch."""

LOOK_SECONDS = 1.0
"""How often the list of nodes is looked at for new ones."""

ARRIVES_SECONDS = 10.0
"""How long what a node wrote may be on its way through a shared file system."""

FOLDER = "nodes"
"""Below the store: where the driver and the nodes write what the other must see."""

Say = Callable[[str], None]
Node = Mapping[str, Any]
"""An entry of ``ray.nodes()``."""

LEFT_OUT: dict[str, str] = {}
"""Node id -> the sentence on it, of the nodes that may train nothing in this process's session."""


class Nodes:
    """The nodes of one session of Ray, as far as they can hold a trial."""

    def __init__(self, resources: ResourcesConfig, expected: Expected, warn: Say) -> None:
        self.resources, self.expected, self.warn = resources, expected, warn
        self._known: dict[str, None] = {}
        self._stop = threading.Event()

    def examine_all(self) -> None:
        """Examine the nodes that are there; UserError with a sentence for each that is unfit."""
        problems = self._examine(self._new())
        if problems:
            raise UserError(*problems)

    def examine_new(self) -> None:
        """Examine nodes that have joined, until ``stop``; say what is wrong with them."""
        while not self._stop.wait(LOOK_SECONDS):
            # Ray may be going down, or its head be away for a moment: others watch that.
            with suppress(Exception):
                for sentence in self._examine(self._new()):
                    self.warn(f"{sentence}; it is left out, the other nodes go on")

    def stop(self) -> None:
        """Examine no more."""
        self._stop.set()

    def _new(self) -> list[Node]:
        found = [node for node in able(self.resources) if node["NodeID"] not in self._known]
        self._known |= dict.fromkeys(node["NodeID"] for node in found)
        return found

    def _examine(self, nodes: Sequence[Node]) -> list[str]:
        """Examine nodes at the same time, and tell their workers; a sentence for each unfit one."""
        import ray
        from ray.experimental.internal_kv import _internal_kv_put
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task = ray.remote(num_cpus=0, max_retries=0)(checks.examine)
        asked = {}
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[node["NodeID"]] = task.options(scheduling_strategy=there).remote(self.expected)
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=EXAMINED_SECONDS)
        sentences = []
        for node in nodes:
            problem = self._problem(asked.pop(node["NodeID"]))
            if problem:
                sentences.append(leave_out(node["NodeID"], problem))
            place = checks.key(self.expected["token"], node["NodeID"])
            _internal_kv_put(place, (problem or ADMITTED).encode())
        return sentences

    def _problem(self, reference: Any) -> str:
        """What is wrong with a node, by its own answer and by what it wrote."""
        import ray

        try:
            said = ray.get(reference, timeout=0)
        except ray.exceptions.GetTimeoutError:
            return f"did not answer within {EXAMINED_SECONDS:g} s; end Ray there, or mend the node"
        except ray.exceptions.RayError as error:
            return f"cannot run a task of Ray: {str(error).strip().splitlines()[-1]}"
        if not said["problem"] and not _arrives(Path(self.expected["folder"]) / said["answer"]):
            return (
                f"sees the store {self.expected['store']}, and what it writes there does not"
                f" arrive at the driver; {checks.SHARED}"
            )
        return str(said["problem"])


@contextmanager
def examined(
    resources: ResourcesConfig,
    first: Mapping[str, str],
    warn: Say,
    settle: Callable[[], ResourcesConfig],
) -> Iterator[tuple[str | None, ResourcesConfig]]:
    """Examine the nodes of a cluster, and those that join while the context is open.

    Yields the token by which workers ask whether they may train, None on the driver's own machine,
    where there is nothing to examine; and the resources that trials have.

    Args:
        resources: those by which nodes are chosen for the first examination.
        first: the payload of the trial that is run first; its data and code are asked for.
        warn: told a sentence on each node that joins and is left out.
        settle: what trials have, once nodes are known to be fit; others may be able to hold trials
            then, and are examined too.

    UserError when a node that is there at the beginning is unfit.
    """
    LEFT_OUT.clear()
    _send_by_value()
    if resources.address is None:
        yield None, settle()
        return
    with _expected(first) as expected:
        nodes = Nodes(resources, expected, warn)
        nodes.examine_all()
        nodes.resources = settle()
        nodes.examine_all()
        watch = threading.Thread(target=nodes.examine_new, daemon=True)
        watch.start()
        try:
            yield expected["token"], nodes.resources
        finally:
            nodes.stop()
            # It holds references of Ray, which nothing may free while Ray is shut down.
            watch.join(EXAMINED_SECONDS)


def refusal(
    trial_id: str, node_id: str, problem: str, resources: ResourcesConfig
) -> tuple[str, ...]:
    """The message to the study's driver about a trial that a worker of a node must not train."""
    if resources.address is None:
        return (
            "refused",
            f"this machine {problem}: its files were changed while the study ran; the same command"
            " goes on with what they are now",
        )
    known = node_id in LEFT_OUT
    sentence = leave_out(node_id, problem)
    if not able(resources):
        return "refused", f"{sentence}; no other node can hold a trial: mend it, or add a node"
    return (
        "unfit",
        trial_id,
        "" if known else f"{sentence}; it is left out, the trial runs elsewhere",
    )


def leave_out(node_id: str, problem: str) -> str:
    """Let a node train nothing any more; the sentence on it."""
    sentence = f"node {name_of(node_id)} {problem}"
    LEFT_OUT.setdefault(node_id, sentence)
    return sentence


def able(resources: ResourcesConfig) -> list[Node]:
    """The nodes that live, can hold a trial and are not left out."""
    import ray

    wanted = {"CPU": resources.cpus, "GPU": resources.gpus}
    return [
        node
        for node in ray.nodes()
        if node["Alive"]
        and node["NodeID"] not in LEFT_OUT
        and all(node["Resources"].get(kind, 0.0) >= least for kind, least in wanted.items())
    ]


def name_of(node_id: str) -> str:
    """As people call a node: its name or host, and its address."""
    import ray

    for node in ray.nodes():
        if node["NodeID"] == node_id:
            address = node["NodeManagerAddress"]
            named = node.get("NodeName") or address
            return f"{node['NodeManagerHostname'] if named == address else named} ({address})"
    return node_id[:8]


def _send_by_value() -> None:
    """A node that lacks the harness gets the checks themselves, not their names."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(checks)


def _arrives(path: Path) -> bool:
    waited = threading.Event()
    for _ in range(int(ARRIVES_SECONDS / 0.1)):
        if path.is_file():
            return True
        waited.wait(0.1)
    return False


@contextmanager
def _expected(first: Mapping[str, str]) -> Iterator[Expected]:
    """What every node must show for a trial; its files are gone afterwards."""
    from harness.store import file_sha256

    job, token = job_of(first), secrets.token_hex(16)
    folder = Path(job.store) / FOLDER / token
    seen = _in_cache(job, token)
    try:
        folder.mkdir(parents=True)
        for path in [folder / "driver", *([seen] if seen is not None else [])]:
            path.write_text(token, encoding="utf-8")
        yield dict(first) | {
            "token": token,
            "store": job.store,
            "folder": str(folder),
            "manifest": file_sha256(Path(job.manifest)) if job.manifest is not None else None,
            "cache": str(seen) if seen is not None else None,
            "data": checks.data_evidence(job),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()
        if seen is not None:
            seen.unlink(missing_ok=True)


def _in_cache(job: Job, token: str) -> Path | None:
    """The file that nodes must see in the folder of prepared data, where that is one of its own."""
    cache = Path(job.cache) if job.cache is not None else None
    if cache is None or not cache.is_dir() or not os.access(cache, os.W_OK):
        return None
    return cache / f".seen-by-nodes-{token}"
