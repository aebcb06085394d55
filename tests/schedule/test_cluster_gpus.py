"""``resources.gpus_per_trial=auto`` on a cluster: real raylets, whose GPUs are only Ray's.

A node that is started with ``--num-gpus=1`` hands out a GPU that does not exist. So torch cannot
use it, which is what the command is told; and where the probe must succeed, it is told to train on
the CPU, in the task on the node that would hold the GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.store import Store
from tests.support.clusters import Cluster, cluster
from tests.support.faults import method_file
from tests.support.processes import run

pytestmark = [pytest.mark.slow, pytest.mark.long]

TINY = (
    *("methods=[sf_md]", "seeds=[0]", "dataset.limit=60", "train.epochs=1"),
    *("train.batch_size=20", "backbone.width=4", "tracking.enabled=false"),
)

DECIDE = """
import json
import os
import sys

import ray

from harness.schedule.on_ray import gpus
from harness.schedule.on_ray.nodes.admission import LEFT_OUT
from harness.study.config import load_study
from harness.study.plan import Plan

GPUS = {"weak": ("Weak", 8 << 30), "strong": ("Strong", 16 << 30)}


def decide(file, working):
    def look():
        name = os.environ["NODE"]
        if name not in working:
            return {"problem": "has no GPU for torch"}
        gpu, memory = GPUS[name]
        return {"gpu": gpu, "memory": memory}

    LEFT_OUT.clear()
    warnings = []
    plan = Plan(load_study([*sys.argv[3:], f"methods=[{file}]"]))
    found, sentence, facts = gpus.decided_on_cluster(
        plan.study.resources, plan.trials[0].job, warnings.append, look, device="cpu"
    )
    said = {"sentence": sentence, "facts": facts, "warnings": warnings}
    print(json.dumps(said | {"gpus": found.gpus, "cpus": found.cpus}), flush=True)


@ray.remote(num_gpus=1)
class Holder:
    def there(self):
        return True


good, broken = sys.argv[1:3]
address = load_study(sys.argv[3:]).resources.address
ray.init(address=address, log_to_driver=False, logging_level="ERROR")
decide(good, ["weak", "strong"])
decide(good, ["strong"])
decide(good, [])
decide(broken, ["weak", "strong"])
holders = [Holder.remote() for _ in range(3)]
ray.get([holder.there.remote() for holder in holders])
gpus.LOOK_SECONDS = 5.0
decide(good, ["weak", "strong"])
"""
"""What the process that Ray runs in does when ``auto`` is to be decided, five times.

Its arguments: a method file, one whose trials fail, and a study's.
"""


def decisions(nodes: Cluster, good: Path, broken: Path, output: Path) -> list[dict[str, Any]]:
    """What ``DECIDE`` prints."""
    study = [*TINY[1:], f"output={output}", *nodes.arguments]
    answer = subprocess.run(
        [sys.executable, "-c", DECIDE, str(good), str(broken), *study],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env=os.environ | nodes.environment,
    )
    assert answer.returncode == 0, answer.stderr
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_the_probe_runs_on_the_weakest_gpu_node_and_its_answer_arrives(tmp_path: Path) -> None:
    """The method itself writes where it was built: on which node, and with which GPU of Ray's."""
    built = tmp_path / "built"
    where = "os.environ.get('NODE', '') + ' ' + os.environ.get('CUDA_VISIBLE_DEVICES', 'none')"
    good = method_file(tmp_path, "Good", build=f"print({where}, file=open({str(built)!r}, 'a'))")
    broken = method_file(tmp_path, "Broken", loss="raise ValueError('mistake')")
    with cluster() as nodes:
        nodes.start("head", cpus=0)
        nodes.start("plain", cpus=4, NODE="plain")
        nodes.start("strong", cpus=2, gpus=1, NODE="strong")
        # Two cores for each of its GPUs.
        nodes.start("weak", cpus=4, gpus=2, NODE="weak")
        both, one, none, failed, busy = decisions(nodes, good, broken, tmp_path / "runs")
    lines = [line for line in built.read_text().splitlines() if line.startswith(("w", "s", "p"))]
    # Alone, and again where two at once were tried, which two cores hold.
    assert {line.split()[0] for line in lines} == {"weak", "strong"}
    assert all(line.split()[1] in {"0", "1"} for line in lines)
    assert lines.index("strong 0") == sum(line.startswith("weak") for line in lines)

    assert both["warnings"] == []
    trials = both["facts"]["trials_per_gpu"]
    assert trials in {1, 2} and (both["gpus"], both["cpus"]) == (1 / trials, 1.0)
    assert next(iter(both["facts"]["seconds_per_step"])) == "1"
    assert both["facts"]["node"].startswith("weak (")
    assert both["facts"]["gpu"] == "Weak" and both["facts"]["cores_per_gpu"] == 2
    assert both["sentence"].startswith(f"{trials} trial")
    assert "(Weak), which has the least memory of " in both["sentence"]

    assert one["facts"]["node"].startswith("strong (")
    (warning,) = one["warnings"]
    assert warning.startswith("node weak (")
    assert warning.endswith("has no GPU for torch; it is left out, the other nodes go on")

    assert none["gpus"] == 0 and none["facts"]["trials_per_gpu"] == 0
    assert none["sentence"].startswith("trials train on the CPU: node ")

    expected = "1 trial has a GPU: the probe of how many can share one failed ("
    assert failed["sentence"].startswith(f"{expected}mistake); probed on node weak (")
    assert (failed["gpus"], failed["facts"]["trials_per_gpu"]) == (1.0, 1)
    assert busy["sentence"] == f"{expected}no node had a whole GPU to spare within 5 s)"
    assert (busy["gpus"], busy["cpus"]) == (1.0, 1.0)


def test_where_torch_cannot_use_the_gpus_trials_train_on_the_cpu(tmp_path: Path) -> None:
    """Which is said and written down; numbers win: 0 asks nobody, 1 is refused by the node."""
    with cluster() as nodes:
        nodes.start("head", cpus=0)
        nodes.start("plain", cpus=1)
        nodes.start("gpu", cpus=1, gpus=1)
        auto, none, whole = (
            run(
                *(*TINY, *nodes.arguments, f"output={tmp_path / name}", *given),
                environment=nodes.environment,
            )
            for name, given in (
                ("auto", ()),
                ("none", ("resources.gpus_per_trial=0",)),
                ("whole", ("resources.gpus_per_trial=1",)),
            )
        )
    cannot = "has a GPU by what Ray says, which torch "
    assert auto.returncode == 0, auto.stdout + auto.stderr
    assert "where the cluster has GPUs a share of one, which a probe decides" in auto.stdout
    assert auto.stderr.count("trials train on the CPU: node gpu (") == 1
    assert cannot in auto.stderr
    written = json.loads((tmp_path / "auto" / "quickstart" / "resources.json").read_text())
    assert written["trials_per_gpu"] == 0 and written["cpu"].startswith("node gpu (")
    assert trained_on(tmp_path / "auto") == ["cpu"]

    assert none.returncode == 0, none.stdout + none.stderr
    assert "1 CPU and 0 GPU per trial" in none.stdout and "trials train on" not in none.stderr
    assert not (tmp_path / "none" / "quickstart" / "resources.json").exists()
    assert trained_on(tmp_path / "none") == ["cpu"]

    assert whole.returncode == 2, whole.stdout + whole.stderr
    assert "1 CPU and 1 GPU per trial" in whole.stdout
    assert whole.stderr.startswith("error: node gpu (") and cannot in whole.stderr
    assert whole.stderr.rstrip().endswith("no other node can hold a trial: mend it, or add a node")
    assert trained_on(tmp_path / "whole") == []


def trained_on(output: Path) -> list[str]:
    """The devices in the records of a store."""
    store = Store.below(output)
    records = [store.trial(trial_id).record() for trial_id in store.ids()]
    return [record["environment"]["device"] for record in records if record is not None]
