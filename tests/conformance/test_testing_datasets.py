"""check_dataset accepts a sound dataset and reports each fault of a broken one by the check that is
meant for it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import pytest
import torch

from harness.conformance.dataset_checks import CHECKS
from harness.conformance.synthetic import synthetic_spec, synthetic_split
from harness.data.augmentation import ScaleCropFlip
from harness.data.raw import Raw
from harness.dataset import Augmentation, Dataset, DataSpec, Split
from harness.testing import ConformanceError, check_dataset
from tests.support.blocks import Blocks

SIZES = {"train": 20, "val": 8, "test": 10}


class Sound(Dataset):
    """Random pictures with labels; every tenth sample lacks the second modality."""

    @property
    def spec(self) -> DataSpec:
        return synthetic_spec(3, 4)

    def fingerprint(self) -> str:
        return f"sound-{self.limit}"

    def counts(self) -> dict[str, int]:
        return {name: min(n, self.limit or n) for name, n in SIZES.items()}

    def load(self, split: str) -> Split:
        samples = synthetic_split(self.spec, SIZES[split], seed=len(split))
        samples.available[::10, 1] = False
        return samples.select(torch.arange(self.counts()[split]))


def test_a_sound_dataset_passes() -> None:
    check_dataset(Sound())
    check_dataset(Sound(limit=5))


def test_a_sound_segmentation_dataset_with_void_pixels_passes() -> None:
    check_dataset(Blocks())


def broken(name: str, change: Callable[[Split], Split]) -> type[Dataset]:
    """The sound dataset with every split changed."""

    def load(self: Sound, split: str) -> Split:
        return change(Sound.load(self, split))

    return type(name, (Sound,), {"load": load})


def with_inputs(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Split], Split]:
    return lambda s: dataclasses.replace(
        s, inputs={n: change(x) if n == "m1" else x for n, x in s.inputs.items()}
    )


def with_target(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Split], Split]:
    return lambda s: dataclasses.replace(s, target=change(s.target))


def with_available(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Split], Split]:
    return lambda s: dataclasses.replace(s, available=change(s.available))


COUNTER = itertools.count()
CHANGES: list[tuple[str, str, Callable[[Split], Split]]] = [
    ("float64", "inputs", with_inputs(torch.Tensor.double)),
    ("not finite", "inputs", with_inputs(lambda x: x.masked_fill(x == x.max(), torch.nan))),
    ("another shape", "inputs", with_inputs(lambda x: x.transpose(1, 2))),
    ("fewer samples of one modality", "inputs", with_inputs(lambda x: x[1:])),
    (
        "another order",
        "inputs",
        lambda s: dataclasses.replace(s, inputs=dict(reversed(s.inputs.items()))),
    ),
    ("class K", "targets", with_target(lambda t: t + 1)),
    ("ignored label", "targets", with_target(lambda t: t.masked_fill(t == 3, -100))),
    ("float labels", "targets", with_target(torch.Tensor.float)),
    ("one-hot labels", "targets", with_target(lambda t: torch.nn.functional.one_hot(t, 4))),
    (
        "nothing available",
        "availability",
        with_available(lambda a: a & (torch.arange(len(a)) != 2)[:, None]),
    ),
    ("availability as numbers", "availability", with_available(torch.Tensor.long)),
    ("availability of two", "availability", with_available(lambda a: a[:, :2])),
    ("one sample too few", "counts", lambda s: s.select(torch.arange(len(s) - 1))),
    ("noise at loading", "determinism", with_inputs(lambda x: x + 0.01 * torch.randn(x.shape))),
    ("drifting labels", "determinism", with_target(lambda t: (t + next(COUNTER)) % 4)),
]


@pytest.mark.parametrize(("name", "check", "change"), CHANGES, ids=[name for name, _, _ in CHANGES])
def test_a_changed_split_is_reported(
    name: str, check: str, change: Callable[[Split], Split]
) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_dataset(broken("Broken", change)())
    assert caught.value.check == check
    assert str(caught.value).startswith(f"{check}: Broken: ")


class SameFingerprint(Sound):
    def fingerprint(self) -> str:
        return "sound"


class IgnoresLimit(Sound):
    def counts(self) -> dict[str, int]:
        return dict(SIZES)


class RandomFingerprint(Sound):
    def fingerprint(self) -> str:
        return f"{next(COUNTER)}"


class LacksVal(Sound):
    def counts(self) -> dict[str, int]:
        return {name: n for name, n in super().counts().items() if name != "val"}


class LimitedClasses(Sound):
    @property
    def spec(self) -> DataSpec:
        return synthetic_spec(3, 5 if self.limit else 4)


class SameNames(Sound):
    @property
    def spec(self) -> DataSpec:
        spec = super().spec
        return dataclasses.replace(spec, modalities=(*spec.modalities[:2], spec.modalities[0]))


class PlusInAName(Sound):
    @property
    def spec(self) -> DataSpec:
        spec = super().spec
        return dataclasses.replace(
            spec,
            modalities=(dataclasses.replace(spec.modalities[0], name="a+b"), *spec.modalities[1:]),
        )


class UnknownMetric(Sound):
    @property
    def spec(self) -> DataSpec:
        return dataclasses.replace(super().spec, metric="acuracy")


class DeniesVal(Sound):
    @property
    def spec(self) -> DataSpec:
        return dataclasses.replace(super().spec, unselectable=("m0+m1",))


class AugmentsVal(Sound):
    def load(self, split: str) -> Split:
        varied = Augmentation(ScaleCropFlip(), ("m0",))
        return dataclasses.replace(
            super().load(split), modalities=self.spec.modalities, augmentation=varied
        )


class MetricOfAnotherTask(Sound):
    @property
    def spec(self) -> DataSpec:
        return dataclasses.replace(super().spec, metric="miou")


class MetricThatValDecides(Sound):
    @property
    def spec(self) -> DataSpec:
        return dataclasses.replace(super().spec, task="anti_spoofing", metric="acer_val_threshold")


class NormalisedTwice(Sound):
    def raw(self, split: str, modality: str) -> Raw:
        found = super().raw(split, modality)
        return dataclasses.replace(found, receive=lambda values: 0.5 * found.receive(values))


OTHERS: list[tuple[type[Dataset], str]] = [
    (SameFingerprint, "limit"),
    (IgnoresLimit, "limit"),
    (LimitedClasses, "limit"),
    (RandomFingerprint, "determinism"),
    (AugmentsVal, "augmentation"),
    (LacksVal, "counts"),
    (DeniesVal, "availability"),
    (NormalisedTwice, "raw"),
    (SameNames, "description"),
    (PlusInAName, "description"),
    (UnknownMetric, "description"),
    (MetricOfAnotherTask, "description"),
    (MetricThatValDecides, "description"),
]


@pytest.mark.parametrize(("cls", "check"), OTHERS, ids=[cls.__name__ for cls, _ in OTHERS])
def test_a_broken_dataset_is_reported(cls: type[Dataset], check: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_dataset(cls())
    assert caught.value.check == check


def test_every_check_can_fail() -> None:
    assert {check for _, check, _ in CHANGES} | {check for _, check in OTHERS} == set(CHECKS)
