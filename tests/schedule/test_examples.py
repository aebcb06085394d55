"""The examples for clusters: what would read them reads them, and they say what the README says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import PROJECT
from harness.study.config import load_study

EXAMPLES = PROJECT / "harness" / "schedule" / "examples"
README = (PROJECT / "harness" / "README.md").read_text(encoding="utf-8")

# Fields of ray.io/v1 in KubeRay's reference of its API (1.6), as far as a study needs them.
JOB = {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"}
JOB |= {"rayClusterSpec", "submissionMode", "activeDeadlineSeconds", "suspend"}
CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
HEAD = {"rayStartParams", "template", "serviceType"}
WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def read(name: str) -> dict[str, Any]:
    content = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def commands(text: str) -> list[list[str]]:
    """The settings of every start of a study in a text."""
    found = re.findall(r"python -m harness\.run ((?:[^\s\"]*(?:\"[^\"]*\")?[^\s\"]*[ \t]?)+)", text)
    return [one.split() for one in found]


def test_every_example_is_explained_and_no_other_is() -> None:
    named = set(re.findall(r"`?schedule/examples/([\w.-]+)", README))
    assert named == {path.name for path in EXAMPLES.iterdir()}


def test_ray_takes_the_configuration_for_ray_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = read("ray-up.yaml")
    prepared = prepare_config(config)
    validate_config(prepared)
    workers = len(config["provider"]["worker_ips"])
    (kind,) = prepared["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == workers
    for start in (config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]):
        assert "RAY_AUTH_MODE=token" in start and "RAY_AUTH_TOKEN_PATH=~/.ray/auth_token" in start
    assert "~/.ray/auth_token" in config["file_mounts"]
    # It does refuse what it does not know.
    with pytest.raises(Exception, match="worker_ip"):
        validate_config(prepare_config(config | {"worker_ip": ["one"]}))


def test_kuberays_manifest_has_fields_that_kuberay_knows() -> None:
    manifest = read("kuberay.yaml")
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    job = manifest["spec"]
    cluster = job["rayClusterSpec"]
    assert set(job) <= JOB and set(cluster) <= CLUSTER
    assert cluster["authOptions"] == {"mode": "token"}
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert set(head) <= HEAD and set(workers) <= WORKERS
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    study = load_study(job["entrypoint"].split()[3:])
    for group in (head, workers):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert {"name", "image", "resources", "volumeMounts"} == set(container)
        # The output lies on the one volume that all pods mount at the same path.
        (mount,) = container["volumeMounts"]
        (volume,) = pod["volumes"]
        assert Path(study.output).is_relative_to(mount["mountPath"])
        assert mount["name"] == volume["name"] and "persistentVolumeClaim" in volume


def test_slurms_script_is_a_script_with_directives_that_sbatch_knows() -> None:
    script = EXAMPLES / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    lines = script.read_text(encoding="utf-8").splitlines()
    directives = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    # SLURM reads directives up to the first command only.
    first = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(lines.index(f"#SBATCH {directive}") < first for directive in directives)
    options = dict(directive.removeprefix("--").partition("=")[::2] for directive in directives)
    known = {"job-name", "nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-task", "time"}
    assert set(options) <= known | {"signal", "requeue", "open-mode", "output"}
    assert re.fullmatch(r"B:TERM@\d+", options["signal"]) and options["requeue"] == ""
    assert re.fullmatch(r"\d+:\d\d:\d\d", options["time"])
    (settings,) = commands("\n".join(lines))
    assert 'output="$OUTPUT"' in settings and '"$@"' in settings
