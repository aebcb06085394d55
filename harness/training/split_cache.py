"""The splits that this process has moved to an accelerator, kept from one trial to the next.

Workers run many trials on the same data. On a CPU nothing is kept: arrays are mapped from disk, and
the system's page cache is shared by all processes.
"""

from __future__ import annotations

import torch

from harness.dataset import Dataset, Split
from harness.store import canonical_json
from harness.training.spec import Job


class SplitCache:
    """The splits of the last dataset on the last device; another dataset or device frees them.

    One dataset at a time, because a device's memory is for trials. Nothing writes into a split:
    ``Split.batch`` hands out copies, ``select`` and ``replace`` make other splits.
    """

    def __init__(self) -> None:
        self._key = ""
        self._splits: dict[str, Split] = {}

    def split(self, job: Job, dataset: Dataset, name: str, device: torch.device) -> Split:
        """A split of the job's dataset that hands out batches on ``device``, loaded if need be.

        What had no room on the device (see ``Split.to``) is moved when it is asked for again and
        there is room by then.
        """
        if not keeps(device):
            return dataset.load(name).to(device)
        key = _key(job, device)
        if key != self._key:
            self.clear()
            self._key = key
        loaded = self._splits.get(name)
        if loaded is None:
            loaded = dataset.load(name)
        if not _resident(loaded, device):
            loaded = loaded.to(device)
        self._splits[name] = loaded
        return loaded

    def clear(self) -> None:
        """Keep nothing any more."""
        self._key = ""
        self._splits = {}
        # Else torch holds on to the memory, and Split.to sees less that is free. Without CUDA it
        # does nothing.
        torch.cuda.empty_cache()


CACHE = SplitCache()
"""Of this process."""


def keeps(device: torch.device) -> bool:
    """Whether splits are kept on such a device."""
    return device.type != "cpu"


def _key(job: Job, device: torch.device) -> str:
    """What decides the arrays of a job's dataset, where they are read from and where they go."""
    places = [job.root, job.manifest, job.cache]
    return canonical_json([job.spec.dataset, places, str(device)])


def _resident(split: Split, device: torch.device) -> bool:
    """Whether all that is stored lies on the device, and batches are handed out there."""
    stored = [*split.inputs.values(), split.target]
    return split.device == device and all(x.device.type == device.type for x in stored)
