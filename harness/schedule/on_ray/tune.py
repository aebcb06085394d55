"""Ray's side of the executor ``ray``: Tune places trials on a cluster, and workers execute them.

Resume, retries, ids, results and progress are ours: the store decides what is left to run, so Ray's
own experiment state is thrown away. All of it runs in a process of its own (main.py).
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.schedule.on_ray.nodes.admission import refusal
from harness.schedule.on_ray.nodes.placement import placement
from harness.schedule.on_ray.nodes.worker import STACK
from harness.schedule.private_folder import private_folder
from harness.study.config import ResourcesConfig

# Read by Ray when it is imported: silent, without telemetry, without its own log files per trial;
# and so many trials that wait for a worker at once (Tune's default for our kind of source is one).
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "8",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Lets Ray know this machine as 127.0.0.1, and all its servers listen there alone.

The one switch that Ray has for it, named after the systems where it is the default.
"""

OBJECT_STORE_BYTES = 128 * 1024**2
KNOCK_SECONDS = 10.0

STACK_SECONDS = 0.5
END_SECONDS = 30.0


def end_worker(process: int, node: str) -> None:
    """End the worker with this process number on a node, after it wrote down where it stands."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if node == ray.get_runtime_context().get_node_id():
        _end_process(process)
        return
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(num_cpus=0, scheduling_strategy=there)(_end_process)
    ray.get(task.remote(process), timeout=END_SECONDS)


def _end_process(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, STACK)
        # A process that is stopped writes nothing; nothing stops SIGKILL.
        time.sleep(STACK_SECONDS)
        os.kill(process, signal.SIGKILL)


def tuner(
    trainable: Any, resources: ResourcesConfig, storage: Path, callback: Any, algorithm: Any
) -> Any:
    """A Tune run of ``trainable`` over what a search algorithm suggests."""
    from ray import tune

    return tune.Tuner(
        tune.with_resources(trainable, placement(resources)),
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=resources.max_concurrent,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
            search_alg=algorithm,
            # How many trials there will be is the driver's business; -1 is Tune's word for that.
            num_samples=-1,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(storage),
            verbose=0,
            callbacks=[callback],
            # A trial whose worker died is the driver's business too.
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial"]["id"])


def listener(say: Callable[..., None], resources: ResourcesConfig) -> Any:
    """A Tune callback that passes on what happens to trials; see schedule/on_ray/main.py.

    Built here, so that importing this module does not import Ray.
    """
    from ray import tune

    class Listener(tune.Callback):
        def __reduce__(self) -> tuple[type[dict[str, str]], tuple[()]]:
            # Tune pickles its callbacks with the experiment, which is never restored; ours hold a
            # connection.
            return dict, ()

        def on_trial_start(
            self, iteration: int, trials: list[Any], trial: Any, **info: Any
        ) -> None:
            say("started", _trial_name(trial))

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            trial_id = _trial_name(trial)
            if "outcome" in result:
                say("finished", trial_id, result["outcome"])
            elif "worker" in result:
                say("worker", trial_id, *result["worker"])
            elif "epoch" in result:
                say("epoch", trial_id, result["epoch"], result["epochs"], result["value"])
            elif "beat" in result:
                say("beat", trial_id)
            elif "unfit" in result:
                node, problem = result["unfit"]
                say(*refusal(trial_id, node, problem, resources))

        def on_trial_error(
            self, iteration: int, trials: list[Any], trial: Any, **info: Any
        ) -> None:
            say("lost", _trial_name(trial))

    return Listener()


# ---------------------------------------------------------------------- the cluster


@contextmanager
def cluster(resources: ResourcesConfig, folder: Path) -> Iterator[Path]:
    """Connect to the given cluster, or start one of our own with a private folder.

    Yields Tune's storage path.

    UserError when it cannot be reached or can never hold a trial.
    """
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    with _connected(resources, folder) as storage:
        _check_capacity(resources)
        yield storage


@contextmanager
def _connected(resources: ResourcesConfig, folder: Path) -> Iterator[Path]:
    if resources.address is not None:
        yield from _remote(resources.address, folder)
        return
    # A token of our own, before Ray is imported: it would otherwise write one into the home folder,
    # which may be read-only.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.update({key: value for key, value in LOOPBACK.items() if key not in os.environ})
    with private_folder() as temporary:
        import ray

        try:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=str(temporary),
            )
            yield temporary / "tune"
        finally:
            ray.shutdown()


def _remote(address: str, folder: Path) -> Iterator[Path]:
    import ray

    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"no Ray cluster answers at resources.address={address} "
            f"({str(error).splitlines()[0]}); if one is running there, give every node and this "
            "driver the same RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"
        ) from error
    storage = folder / "ray"
    try:
        yield storage
    finally:
        ray.shutdown()
        shutil.rmtree(storage, ignore_errors=True)


def _knock(address: str) -> None:
    """OSError when nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


def _check_capacity(resources: ResourcesConfig) -> None:
    """Refuse what no node could ever run: Tune would wait for ever."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for kind, wanted, key in (
        ("GPU", resources.gpus, "gpus"),
        ("CPU", resources.cpus, "cpus"),
    ):
        largest = max((node.get(kind, 0.0) for node in nodes), default=0.0)
        if wanted > largest:
            raise UserError(
                f"resources.{key}_per_trial={wanted:g}, and no machine of the cluster has more "
                f"than {largest:g} {kind}s; lower it"
            )
