"""Registered methods by the networks that they are defined on.

Called by tests of everything that holds for all methods.
"""

from __future__ import annotations

from harness.backbones import Backbone
from harness.backbones.small import Small
from harness.conformance.synthetic import synthetic_spec
from harness.errors import UserError
from harness.registry import METHODS


def methods_on(backbone: Backbone) -> list[str]:
    """Names of the methods that do not refuse this network."""
    return [name for name in METHODS.names() if not _refuses(name, backbone)]


def _refuses(name: str, backbone: Backbone) -> bool:
    if backbone.spec.task not in METHODS.get(name).tasks:
        return True
    try:
        METHODS.get(name).check_backbone(backbone)
    except UserError:
        return True
    return False


ON_SMALL = methods_on(Small(synthetic_spec(3, 5)))
"""Those of the quick start's network; the others have tests on theirs."""
