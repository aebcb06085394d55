"""The Ray that trials run on: a cluster that the user names, or one of our own on this machine.

Called by schedule/on_ray/main.py. Imports no torch, so that a Ray of our own begins to start at
once; and Ray behind what is set for it in the environment.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UserError
from harness.schedule.private_folder import private_folder
from harness.study.settings import ResourcesConfig

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


def keep_quiet(address: str | None) -> None:
    """Set what Ray reads from the environment; to be called before Ray is imported."""
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    if address is not None:
        return
    # A token of our own: Ray would otherwise write one into the home folder, which may be
    # read-only.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.update({key: value for key, value in LOOPBACK.items() if key not in os.environ})


@contextmanager
def cluster(address: str | None) -> Iterator[Path | None]:
    """Connect to the cluster at an address; without one, start one of our own.

    Behind ``keep_quiet``. Yields the private folder of our own; None on a cluster. UserError when
    it cannot be reached.
    """
    import ray

    if address is not None:
        yield from _remote(address)
        return
    with private_folder() as folder:
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=str(folder),
            )
            yield folder
        finally:
            ray.shutdown()


def check_capacity(resources: ResourcesConfig) -> None:
    """UserError where no node could ever hold a trial: Tune would wait for ever."""
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


def _remote(address: str) -> Iterator[None]:
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
    try:
        yield None
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """OSError when nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()
