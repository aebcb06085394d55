"""What Tune asks of Ray for a trial: its CPUs and GPUs, on a node that is not left out.

Called by schedule/on_ray/tune.py; Ray is imported when it is built.
"""

from __future__ import annotations

from typing import Any

from harness.study.settings import ResourcesConfig

NODE = "ray.io/node-id"
"""The label that Ray gives to every node."""


def placement(resources: ResourcesConfig) -> Any:
    """What one trial needs, for ``tune.with_resources``.

    Tune compares requests and makes a placement group of one whenever a trial is waiting: nodes
    that are left out by then (``admission.LEFT_OUT``) are not considered.
    """
    from ray.tune import PlacementGroupFactory

    class OnFitNodes(PlacementGroupFactory):
        def to_placement_group(self) -> Any:
            from ray.util.placement_group import placement_group

            # Here: Tune sends this class through pickle, which would copy what it refers to.
            from harness.schedule.on_ray.nodes.admission import LEFT_OUT

            where = {NODE: f"!in({','.join(LEFT_OUT)})"}
            # Only where it is needed: autoscalers do not all know labels.
            how = {"bundle_label_selector": [where] * len(self.bundles)} if LEFT_OUT else {}
            return placement_group(self.bundles, self.strategy, **how)

    needs = {"CPU": resources.cpus, "GPU": resources.gpus}
    return OnFitNodes([needs])
