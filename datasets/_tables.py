"""Helpers shared by datasets: splits, standardisation, evenly spaced choices, fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from harness.dataset import Split

Array = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")


def stratified_splits(labels: Array, test: float, val: float, seed: int) -> dict[str, Array]:
    """Index arrays ``train``, ``val``, ``test``, stratified by label.

    ``test``: share of all samples; ``val``: share of what is left.
    """
    # Here: datasets with splits of their own import this file too, and scikit-learn takes a second.
    from sklearn.model_selection import train_test_split

    rest, test_index = train_test_split(
        np.arange(len(labels)), test_size=test, random_state=seed, stratify=labels
    )
    train_index, val_index = train_test_split(
        rest, test_size=val, random_state=seed, stratify=labels[rest]
    )
    return {"train": train_index, "val": val_index, "test": test_index}


def standardised(values: Array, train: Array, axis: int | None = None) -> Array:
    """(N, ...) shifted and scaled by the training samples' mean and standard deviation.

    One of all values, or one per feature (axis 0).
    """
    return scaled(values, values[train], axis)


def scaled(values: Array, train: Array, axis: int | None = None) -> Array:
    """Values shifted and scaled by the mean and standard deviation of training values."""
    mean, std = train.mean(axis=axis), train.std(axis=axis)
    return np.asarray((values - mean) / std, dtype=np.float32)


def spread(items: Sequence[T], limit: int | None) -> tuple[T, ...]:
    """At most ``limit`` of the items, evenly spaced, the first of them included."""
    number = len(items) if limit is None else min(limit, len(items))
    return tuple(items[i * len(items) // number] for i in range(number))


def as_split(
    inputs: Mapping[str, Array], labels: Array, index: Array, groups: tuple[str, ...] = ()
) -> Split:
    """The samples ``index`` with every modality available, and their groups if they are known."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(x[index])) for name, x in inputs.items()}
    target = torch.from_numpy(labels[index].astype(np.int64))
    available = torch.ones(len(index), len(inputs), dtype=torch.bool)
    return Split(tensors, target, available, groups=groups)


def fingerprint_of(arrays: Sequence[Array], **facts: object) -> str:
    """sha256 (16 hex) over the arrays' bytes and the facts' canonical JSON."""
    sha = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for array in arrays:
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:16]
