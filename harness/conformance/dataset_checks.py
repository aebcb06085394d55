"""The checks that every dataset must pass, in the order in which they run; see method_checks.py
for the form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from harness.conformance.synthetic import require
from harness.data.raw import KINDS
from harness.dataset import SPLITS, TASKS, Dataset, DataSpec, Split
from harness.protocol.combinations import lattice
from harness.protocol.label_maps import VOID
from harness.protocol.metrics import metric

SOME = 5
"""Samples of each split whose raw values are looked at."""

CHECKS: dict[str, Callable[[Dataset], None]] = {}


def check(function: Callable[[Dataset], None]) -> Callable[[Dataset], None]:
    """Register a check under its function's name."""
    CHECKS[function.__name__] = function
    return function


@check
def description(dataset: Dataset) -> None:
    """the spec has a known task and a metric of it, at least two differently named modalities and
    at least two classes; of a regression no classes, and the labels' finite mean and deviation
    """
    spec = dataset.spec
    require(spec.task in TASKS, f"the task '{spec.task}' is not one of {', '.join(TASKS)}")
    primary = metric(spec.metric)
    require(
        primary.task == spec.task,
        f"the metric '{primary.name}' is not one of {spec.task}",
    )
    require(
        primary.fit is None,
        f"'{primary.name}' has a constant that val decides and cannot select weights",
    )
    require(len(spec.names) >= 2, f"there are {len(spec.names)} modalities")
    require(
        len(set(spec.names)) == len(spec.names),
        f"two modalities of {spec.names} have the same name",
    )
    marks = [name for name in spec.names if set(name) & set("+.,") or not name]
    require(
        not marks,
        f"modality names {marks} are empty or contain '+', '.' or ',', which separate names",
    )
    if spec.task == "regression":
        scale = spec.label_scale
        require(not spec.classes, f"a regression has the classes {spec.classes}")
        require(
            scale is not None and all(map(math.isfinite, scale)) and scale[1] > 0,
            f"label_scale is {scale}, not the mean and deviation of training labels",
        )
        return
    require(
        len(set(spec.classes)) == len(spec.classes) >= 2,
        f"the classes {spec.classes} are not two or more different names",
    )


@check
def counts(dataset: Dataset) -> None:
    """counts has train, val and test, each equal to the number of samples that load returns"""
    found = dataset.counts()
    require(tuple(sorted(found)) == tuple(sorted(SPLITS)), f"counts has {sorted(found)}")
    for name in SPLITS:
        size = len(dataset.load(name))
        require(0 < size == found[name], f"{name} has {size} samples and counts says {found[name]}")


@check
def inputs(dataset: Dataset) -> None:
    """a split holds each modality in the spec's order as finite float32 (N, C, H, W) for encoders,
    C, H and W as described
    """
    for name in SPLITS:
        split = dataset.load(name).received()
        require(
            tuple(split.inputs) == dataset.spec.names,
            f"{name} holds {tuple(split.inputs)}, not {dataset.spec.names}",
        )
        for modality in dataset.spec.modalities:
            x, wanted = split.inputs[modality.name], (len(split), *modality.shape)
            require(
                tuple(x.shape) == wanted,
                f"{name}: '{modality.name}' has the shape {tuple(x.shape)} instead of {wanted}",
            )
            require(x.dtype == torch.float32, f"{name}: '{modality.name}' is {x.dtype}")
            require(
                bool(x.isfinite().all()),
                f"{name}: '{modality.name}' has values that are not finite",
            )


@check
def targets(dataset: Dataset) -> None:
    """targets are int64, (N,) or (N, H, W) for segmentation, in 0 .. K - 1; pixels may be 255,
    which counts nowhere; of a regression finite float32 (N,)
    """
    spec = dataset.spec
    for name in SPLITS:
        target = dataset.load(name).received().target
        if spec.task == "regression":
            require(
                target.dtype == torch.float32 and target.dim() == 1,
                f"{name}: targets are {target.dtype} of {target.dim()} dimensions",
            )
            require(bool(target.isfinite().all()), f"{name}: a target is not finite")
            continue
        dimensions = 3 if spec.task == "segmentation" else 1
        require(target.dtype == torch.int64, f"{name}: targets are {target.dtype}")
        require(target.dim() == dimensions, f"{name}: targets have {target.dim()} dimensions")
        legal = (target >= 0) & (target < len(spec.classes)) | (target == VOID) & (dimensions == 3)
        require(
            bool(legal.all()),
            f"{name}: a target is {int(target[~legal][:1].sum())}, and K is {len(spec.classes)}",
        )


@check
def availability(dataset: Dataset) -> None:
    """available is bool (N, V), every sample has at least one modality, and no sample of val has a
    combination that the spec calls unselectable
    """
    for name in SPLITS:
        split = dataset.load(name)
        available, wanted = split.available, (len(split), len(dataset.spec.names))
        require(available.dtype == torch.bool, f"{name}: available is {available.dtype}")
        require(
            tuple(available.shape) == wanted,
            f"{name}: available has the shape {tuple(available.shape)} instead of {wanted}",
        )
        require(bool(available.any(1).all()), f"{name}: a sample has no modality")
    val = dataset.load("val").available
    for combination in lattice(dataset.spec.names):
        if combination.name in dataset.spec.unselectable:
            n = int(val[:, torch.tensor(combination.mask)].all(1).sum())
            require(not n, f"{n} samples of val have {combination.name}, which is unselectable")


@check
def determinism(dataset: Dataset) -> None:
    """loading again, also by a new object with the same arguments, gives the same arrays and the
    same fingerprint
    """
    again = _like(dataset, dataset.limit)
    for name in SPLITS:
        first = dataset.load(name)
        for second in (dataset.load(name), again.load(name)):
            require(
                _equal(first.received(), second.received()),
                f"{name} is different when it is loaded again",
            )
    require(dataset.spec == again.spec, "a new object has another spec")
    require(
        dataset.fingerprint() == dataset.fingerprint() == again.fingerprint(),
        "the fingerprint is not stable",
    )


@check
def augmentation(dataset: Dataset) -> None:
    """what is drawn for an epoch varies training samples alone, repeatably, and leaves types,
    shapes and legal targets
    """
    for name in SPLITS:
        split = dataset.load(name)
        require(name == "train" or split.augmentation is None, f"{name} is augmented")
        first, second = (split.draw(torch.Generator().manual_seed(0)) for _ in range(2))
        if first is None:
            continue
        few = torch.arange(min(4, len(split)))
        x, target = split.batch(few, first)
        again, _ = split.batch(few, second)
        plain, _ = split.batch(few)
        for modality in x:
            require(
                torch.equal(x[modality], again[modality]),
                f"'{modality}' differs under the same draws",
            )
            require(
                x[modality].shape == plain[modality].shape,
                f"augmentation changes the shape of '{modality}'",
            )
            require(
                bool(x[modality].isfinite().all()),
                f"'{modality}' is not finite when it is augmented",
            )
        if dataset.spec.task == "regression":
            continue
        legal = (target >= 0) & (target < len(dataset.spec.classes)) | (target == VOID)
        require(bool(legal.all()), "augmentation makes targets that are not classes")


@check
def limit(dataset: Dataset) -> None:
    """limit is the most samples that a split may have; it changes the fingerprint and leaves the
    description
    """
    sizes = dataset.counts()
    fewer = max(1, min(sizes.values()) // 2)
    limited = _like(dataset, fewer)
    require(
        all(0 < n <= fewer for n in limited.counts().values()),
        f"limit={fewer} gives {limited.counts()}",
    )
    require(_described(limited.spec) == _described(dataset.spec), f"limit={fewer} changes the spec")
    if limited.counts() != sizes:
        require(
            limited.fingerprint() != dataset.fingerprint(),
            f"limit={fewer} leaves the fingerprint as it is",
        )


@check
def raw(dataset: Dataset) -> None:
    """raw values have a known kind and become what encoders receive, bit for bit"""
    for name in SPLITS:
        split = dataset.load(name)
        whole = split.received()
        for position, modality in enumerate(dataset.spec.names):
            found = dataset.raw(name, modality)
            require(found.kind in KINDS, f"{name}: '{modality}' is of the kind '{found.kind}'")
            has = split.available[:, position].nonzero().squeeze(1)[:SOME]
            if len(has):
                received = found.receive([found.read(n) for n in has.tolist()])
                require(
                    torch.equal(received, whole.inputs[modality][has]),
                    f"{name}: the raw values of '{modality}' do not become what encoders receive",
                )


def _like(dataset: Dataset, limit: int | None) -> Dataset:
    like = type(dataset)(
        dataset.root, dataset.manifest, dataset.protocol, limit, dataset.values, dataset.cache
    )
    like.prepare(_silent)
    return like


def _silent(name: str, done: int, total: int) -> None:
    pass


def _described(spec: DataSpec) -> tuple[Any, ...]:
    return (spec.name, spec.task, spec.modalities, spec.classes, spec.metric)


def _equal(a: Split, b: Split) -> bool:
    pairs = [(a.target, b.target), (a.available, b.available)]
    pairs += [(x, b.inputs[name]) for name, x in a.inputs.items()]
    return all(torch.equal(x, y) for x, y in pairs)
