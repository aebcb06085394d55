"""What a node of a cluster must show before it trains: it has the driver's store, code and data.

Executed on the nodes, by a task for each node (``examine``) and by each worker before each trial
(``unfit``). Sent there by value, for a node on which the harness is lacking must be able to say so:
nothing but the standard library is imported before that is known. nodes/admission.py is the
driver's half.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from pathlib import Path
from typing import Any

TOLD_SECONDS, POLL_SECONDS = 300.0, 0.2
"""How long a worker waits for what the driver says of its node, and how often it asks."""

ADMITTED = "admitted"
SHARED = (
    "put output on a file system that the driver and all nodes mount at the same path, such as"
    " output=/shared/runs"
)

Expected = dict[str, Any]
"""What is the same on every node, as plain data; ``admission`` makes it."""


def examine(expected: Expected) -> dict[str, str]:
    """What is wrong with this node, to be read behind its name, empty if nothing; and the
    ``answer`` that it has written into the store for the driver to find.
    """
    answer, problem = "", ""
    try:
        answer = _answer(expected)
        for check in (_harness, _code, _places, _data):
            problem = problem or check(expected)
    except Exception as error:  # nothing may be taken for an admission
        problem = str(error) or type(error).__name__
    return {"answer": answer, "problem": problem}


def unfit(token: str | None, trial: dict[str, str]) -> str:
    """Why this worker must not train a trial, to be read behind the node's name; empty if it may.

    Args:
        token: of the session, on a cluster: the driver must have admitted the node; None on the
            driver's own machine.
        trial: a worker's payload, with the code that the driver would execute.
    """
    said = ADMITTED if token is None else _told(token)
    if said != ADMITTED:
        return said
    try:
        # On one machine torch is the driver's own.
        return _code(trial) or ("" if token is None else _gpu(trial))
    except Exception as error:
        # On the driver's machine the trial itself fails of it, and that is recorded.
        return "" if token is None else str(error)


def key(token: str, node: str) -> bytes:
    """Where the driver says whether a node is admitted, among what Ray's head keeps."""
    return f"harness/{token}/{node}".encode()


def _told(token: str) -> str:
    """What the driver says of this node, once it has."""
    import ray
    from ray.experimental.internal_kv import _internal_kv_get

    place = key(token, ray.get_runtime_context().get_node_id())
    deadline = time.monotonic() + TOLD_SECONDS
    while time.monotonic() < deadline:
        said = _internal_kv_get(place)
        if said is not None:
            return bytes(said).decode()
        time.sleep(POLL_SECONDS)
    return f"was not examined by the driver within {TOLD_SECONDS:g} s; start Ray there again"


# ---------------------------------------------------------------------- the store


def _answer(expected: Expected) -> str:
    """Read in the store what the driver wrote there, and write something back."""
    store, folder = expected["store"], Path(expected["folder"])
    try:
        read = (folder / "driver").read_text(encoding="utf-8")
    except FileNotFoundError:
        what = "something else lies there" if Path(store).is_dir() else "there is no such folder"
        raise RuntimeError(f"does not see the driver's store {store}: {what}; {SHARED}") from None
    except OSError as error:
        raise RuntimeError(f"cannot read the store {store} ({error.strerror}); {SHARED}") from None
    if read != expected["token"]:
        raise RuntimeError(f"sees another store in {store}; {SHARED}")
    answer = uuid.uuid4().hex
    try:
        with (folder / answer).open("w", encoding="utf-8") as stream:
            stream.write(answer)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise RuntimeError(
            f"cannot write to the store {store} ({error.strerror}); let the user that Ray runs as"
            " there write to output"
        ) from None
    return answer


# ---------------------------------------------------------------------- the code


def _harness(expected: Expected) -> str:
    try:
        import harness.schedule.on_ray.nodes.worker  # noqa: F401
    except ImportError as error:
        return (
            f"cannot import the harness ({error}); install this repository there, in the Python"
            " environment that Ray was started in, and start Ray there again"
        )
    return ""


def _code(trial: dict[str, Any]) -> str:
    import harness
    from harness.schedule.on_ray.source import job_of
    from harness.training.executed_code import source_hash

    job = job_of(trial)
    try:
        same = job.code() == trial["code"]
        if job.method_file is not None:
            # The trial's identity has it: it is what the study began with.
            same = same and source_hash(Path(job.method_file)) == job.spec.source
    except Exception as error:
        return f"cannot load the code of {job.label}: {error}; put the same files there"
    if same:
        return ""
    return (
        f"has other code for {job.label} in {job.method_file or harness.PROJECT} than the driver;"
        " bring both to the same state"
    )


# ---------------------------------------------------------------------- the GPU


def _gpu(trial: dict[str, Any]) -> str:
    from harness.schedule.on_ray.source import job_of

    return str(look_at_gpu().get("problem", "")) if job_of(trial).device == "cuda" else ""


def look_at_gpu() -> dict[str, Any]:
    """What torch calls the GPU that Ray gave this process (``gpu``), and its bytes (``memory``).

    Instead a ``problem``, to be read behind the node's name, where torch cannot use it.
    """
    import torch

    if not torch.cuda.is_available():
        return {
            "problem": f"has a GPU by what Ray says, which torch {torch.__version__} there cannot"
            " use; install a torch for it there, or start Ray there with --num-gpus=0"
        }
    facts = torch.cuda.get_device_properties(0)
    return {"gpu": facts.name, "memory": facts.total_memory}


# ---------------------------------------------------------------------- the data


def _places(expected: Expected) -> str:
    """Whether the files that the driver names are there: the manifest with the same content."""
    from harness.schedule.on_ray.source import job_of
    from harness.store import file_sha256

    job = job_of(expected)
    there = "; put the data there at the same path, or share the folder"
    if job.root is not None and not Path(job.root).is_dir():
        return f"has no data: dataset.root={job.root} is not a folder there{there}"
    if job.manifest is not None:
        if not Path(job.manifest).is_file():
            return f"has no data: dataset.manifest={job.manifest} is not a file there{there}"
        if file_sha256(Path(job.manifest)) != expected["manifest"]:
            return f"has another file at dataset.manifest={job.manifest} than the driver{there}"
    seen = expected["cache"]
    if seen is not None and not Path(seen).is_file():
        return (
            f"does not see the driver's prepared data in {job.cache}; name a folder that all nodes"
            " share with dataset.cache=, or leave it out for one below output"
        )
    return ""


def _data(expected: Expected) -> str:
    from harness.schedule.on_ray.source import job_of

    job = job_of(expected)
    name = job.spec.dataset["name"]
    try:
        found = data_evidence(job)
    except Exception as error:
        return f"cannot read the data of {name}: {error}"
    if found == expected["data"]:
        return ""
    return f"has other data of {name} than the driver; put the same files there, or share them"


def data_evidence(job: Any) -> str:
    """A hash of what a trial's data are, as far as that costs no reading of samples.

    That is, of each split, its size, targets, groups, and which modality of which sample is there.
    No number that a machine computes: those may differ in their last bits.
    """
    dataset, sha = job.open_dataset(), hashlib.sha256()
    for name in ("train", "val", "test"):
        split = dataset.load(name)
        sha.update(f"{name}:{len(split)}:{tuple(split.target.shape)}:{split.groups}\n".encode())
        sha.update(split.available.numpy().tobytes())
        if not split.dense:
            sha.update(split.target.numpy().tobytes())
    return sha.hexdigest()


# ---------------------------------------------------------------------- in a worker


def trainable(token: str | None) -> Any:
    """What Tune's workers execute: a trial, on a node that may train it.

    A worker that must not train says ``unfit``, its node and why, and ends with an error, so that
    Tune does not use it again.
    """

    def train(config: dict[str, Any]) -> None:
        import ray
        from ray import tune

        problem = unfit(token, config["trial"])
        if problem:
            tune.report({"unfit": [ray.get_runtime_context().get_node_id(), problem]})
            raise RuntimeError(problem)
        from harness.schedule.on_ray.nodes.worker import run_in_worker

        run_in_worker(config["trial"])

    return train
