"""What trained models show beyond predictions, as two figures of the DMRNet paper do.

Variances of combinations (Figure 3) and distances between channels (Figure 1), measured on val with
the selected weights of finished trials in evaluation mode, and kept beside each trial. Nothing is
trained. The command harness.views and studies with ``views: true`` call it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from harness.analysis.results import Finished, Results
from harness.dataset import Split
from harness.method import Method
from harness.paper.channel_distance import channel_distance
from harness.store import Json, Store, TrialDirectory, write_atomically
from harness.training.precision import computing_in, forward_in, widened
from harness.training.trained_model import trained
from harness.training.trial import deterministic

FILE = "views.npz"
SPLIT = "val"
SIGMA2, DISTANCE = "sigma2", "distance"
BINS = 400
"""Of the histogram of distances over [0, 2], all that 1 - G / ||G|| can be."""

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class RepresentationStatistics:
    """Of one trained model.

    Attributes:
        variance: combination -> mean sigma^2 over samples and D; empty for a method without a
            distribution.
        distance: ``a|b`` -> mean of the inter-channel distance (Eq. 15) of modality a's channels to
            b's.
        histogram: ``a|b`` -> counts (BINS,) of its entries over [0, 2].
    """

    variance: Mapping[str, float]
    distance: Mapping[str, float]
    histogram: Mapping[str, Array]


# ---------------------------------------------------------------------- measuring


@torch.no_grad()
def measure(
    model: Method,
    split: Split,
    batch_size: int,
    device: torch.device,
    precision: str = "float32",
) -> RepresentationStatistics:
    """The views of a model on a split, its forward passes computed in ``precision``.

    A combination or pair counts the samples that have its modalities, others are left out.
    """
    model.eval()
    sums: dict[str, dict[str, Tensor]] = {SIGMA2: {}, DISTANCE: {}, "histogram": {}}
    counts: dict[str, int] = {}
    for index in torch.split(torch.arange(len(split)), batch_size):
        inputs = {name: x.to(device) for name, x in split.batch(index)[0].items()}
        available = split.available[index].to(device)
        with computing_in(precision):
            with forward_in(precision, device):
                features = model.encode_all(inputs)
                _add_variances(model, features, available, sums[SIGMA2], counts)
            _add_distances(model, widened(features), available, sums, counts)
    means = {
        view: {of: float(total) / counts[of] for of, total in sums[view].items()}
        for view in (SIGMA2, DISTANCE)
    }
    return RepresentationStatistics(
        means[SIGMA2],
        means[DISTANCE],
        {of: total.numpy() for of, total in sums["histogram"].items()},
    )


def _add_variances(
    model: Method,
    features: list[Any],
    available: Tensor,
    sums: dict[str, Tensor],
    counts: dict[str, int],
) -> None:
    cache = model.prepare(features)
    for combination in model.combinations:
        mask = torch.tensor(combination.mask, device=available.device)
        logvar = model.combine(cache, mask.expand(len(available), -1)).extra.get("logvar")
        has = available[:, mask].all(1)
        if logvar is None or not has.any():
            continue
        total = logvar[has].double().exp().flatten(1).mean(1).sum().cpu()
        sums[combination.name] = (
            sums.get(combination.name, torch.zeros((), dtype=torch.float64)) + total
        )
        counts[combination.name] = counts.get(combination.name, 0) + int(has.sum())


def _add_distances(
    model: Method,
    features: list[Any],
    available: Tensor,
    sums: dict[str, dict[str, Tensor]],
    counts: dict[str, int],
) -> None:
    maps = [_last_map(f) for f in features]
    for m, n in permutations(range(len(maps)), 2):
        first, second = maps[m], maps[n]
        # Channels of unlike maps have no inner product, and a joint network's encoders are stems:
        # the view is not defined for this method or network.
        if model.mixes_while_encoding or first is None or second is None:
            continue
        if first.shape[1:] != second.shape[1:]:
            continue
        has = available[:, m] & available[:, n]
        if not has.any():
            continue
        found = channel_distance(first[has], second[has]).double().cpu()
        of = f"{model.spec.names[m]}|{model.spec.names[n]}"
        zero = torch.zeros((), dtype=torch.float64)
        sums[DISTANCE][of] = sums[DISTANCE].get(of, zero) + found.flatten(1).mean(1).sum()
        sums["histogram"][of] = sums["histogram"].get(
            of, torch.zeros(BINS, dtype=torch.float64)
        ) + torch.histc(found, BINS, 0, 2)
        counts[of] = counts.get(of, 0) + int(has.sum())


def _last_map(features: Any) -> Tensor | None:
    """The deepest map (B, c, h, w) that an encoder returned.

    None when it returned something else.
    """
    last = features[-1] if isinstance(features, tuple | list) else features
    return last if isinstance(last, Tensor) and last.dim() == 4 else None


# ---------------------------------------------------------------------- keeping


def stored_statistics(trial: TrialDirectory, record: Json) -> RepresentationStatistics | None:
    """What was measured of a trial; None before, and when it was measured with other weights."""
    try:
        with np.load(trial / FILE, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
    except (OSError, ValueError, BadZipFile):
        return None
    if str(arrays["weights"]) != record["files"]["weights.pt"]["sha256"]:
        return None
    by_view = {
        view: dict(zip(arrays[f"{view}_of"].tolist(), arrays[view], strict=True))
        for view in (SIGMA2, DISTANCE)
    }
    variance, distance = (
        {of: float(value) for of, value in by_view[view].items()} for view in (SIGMA2, DISTANCE)
    )
    return RepresentationStatistics(
        variance, distance, dict(zip(distance, arrays["histogram"], strict=True))
    )


def _keep(trial: TrialDirectory, record: Json, statistics: RepresentationStatistics) -> None:
    arrays: dict[str, Array] = {
        "weights": np.array(record["files"]["weights.pt"]["sha256"]),
        "sigma2_of": np.array(list(statistics.variance), dtype=np.str_),
        "sigma2": np.array(list(statistics.variance.values()), dtype=np.float64),
        "distance_of": np.array(list(statistics.distance), dtype=np.str_),
        "distance": np.array(list(statistics.distance.values()), dtype=np.float64),
        "histogram": (
            np.array(
                [statistics.histogram[of] for of in statistics.distance], dtype=np.float64
            ).reshape(-1, BINS)
        ),
    }
    write_atomically(trial / FILE, lambda stream: np.savez(stream, allow_pickle=False, **arrays))


def measured(done: Finished, store: Store) -> RepresentationStatistics:
    """The views of a finished trial: the stored ones, or measured now and stored."""
    job, trial = done.trial.job, store.trial(done.trial.id)
    found = stored_statistics(trial, done.record)
    if found is None:
        with deterministic(job.device):
            # A cluster's driver may have no GPU; numbers of another device differ by rounding
            # alone.
            device = torch.device(job.device if torch.cuda.is_available() else "cpu")
            split = job.open_dataset().load(SPLIT).to(device)
            found = measure(
                trained(job, store).to(device),
                split,
                int(job.spec.evaluation["batch_size"]),
                device,
                job.spec.evaluated_in,
            )
        _keep(trial, done.record, found)
    return found


def unmeasured(results: Results) -> list[Finished]:
    """The finished trials whose views are not there yet."""
    return [
        done
        for done in finished_models(results)
        if stored_statistics(results.store.trial(done.trial.id), done.record) is None
    ]


def measure_all(results: Results, say: Callable[[str], None]) -> None:
    """The views of every finished trial, where they are not there yet.

    ``say`` hears of each one that is measured.
    """
    missing = unmeasured(results)
    for number, done in enumerate(missing, 1):
        measured(done, results.store)
        say(f"views of {done.trial.job.name} measured, {number} of {len(missing)}")


def finished_models(results: Results) -> list[Finished]:
    """The finished trials whose model is meant for all combinations."""
    return [done for done in results.finished if done.trial.only is None]
