"""The model of a finished trial, as its selected weights made it."""

from __future__ import annotations

from harness.method import Method
from harness.store import Store
from harness.training.spec import Job


def trained(job: Job, store: Store) -> Method:
    """The model of a finished trial with its selected weights.

    UserError when they were left out of the archive that the trial came in.
    """
    spec = job.spec
    options = {key: value for key, value in spec.backbone.items() if key != "name"} | job.local
    model = job.method_class()(
        job.backbone_class()(job.open_dataset().spec, options), spec.variant, spec.hparams
    )
    for name, needed in spec.needs.items():
        model.adopt(name, store.trial(needed).weights())
    model.load_state_dict(store.trial(spec.id).weights())
    return model
