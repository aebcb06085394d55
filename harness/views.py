"""What trained models show beyond predictions, as the figures of the DMRNet paper do: variances and
feature diversity.

python -m harness.views [study=NAME] [key=value ...]

Measured on val with the selected weights of finished trials, in evaluation mode, and kept beside
each trial; nothing is trained.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.analysis.results import Finished, Results, Summary, read
from harness.cli import flags, guarded
from harness.dataset import Split
from harness.errors import DONE, UserError
from harness.method import Method
from harness.paper.channel_distance import channel_distance
from harness.paper.published_numbers import AVERAGE
from harness.schedule.progress import preparation_view
from harness.store import Json, Store, TrialDirectory, write_atomically
from harness.study.config import DEFAULT_STUDY, load_study
from harness.study.plan import Plan
from harness.training.spec import Job
from harness.training.trial import deterministic

FILE = "views.npz"
SPLIT = "val"
SIGMA2, DISTANCE = "sigma2", "distance"
BINS = 400
"""Of the histogram of distances over [0, 2], all that 1 - G / ||G|| can be."""

COLUMNS = ("label", "seed", "trial_id", "view", "of", "value", "mined", "mined_variance")
Array = np.ndarray[Any, np.dtype[Any]]

HELP = f"""usage: python -m harness.views [study=NAME] [key=value ...] [--help]

Measures the mean sigma^2 of each combination (methods that predict a distribution) and the inter-channel distance of each ordered
pair of modalities (methods whose encoders return maps) on {SPLIT}, once for each finished trial, and writes
<output>/<study>/views.csv. Needs the data and the finished trials. No study means study={DEFAULT_STUDY}.

exit codes: 0 written, 2 bad configuration or nothing to measure"""


@dataclass(frozen=True)
class Views:
    """Of one trained model.

    Attributes: variance: combination -> mean sigma^2 over samples and D; empty for a method without
        a distribution. distance: ``a|b`` -> mean of the inter-channel distance (Eq. 15) of modality
        a's channels to b's. histogram: ``a|b`` -> counts (BINS,) of its entries over [0, 2].
    """

    variance: Mapping[str, float]
    distance: Mapping[str, float]
    histogram: Mapping[str, Array]


# ---------------------------------------------------------------------- measuring


@torch.no_grad()
def measure(model: Method, split: Split, batch_size: int, device: torch.device) -> Views:
    """The views of a model on a split; a combination or pair counts the samples that have its
    modalities, others are left out.
    """
    model.eval()
    sums: dict[str, dict[str, Tensor]] = {SIGMA2: {}, DISTANCE: {}, "histogram": {}}
    counts: dict[str, int] = {}
    for index in torch.split(torch.arange(len(split)), batch_size):
        inputs = {name: x.to(device) for name, x in split.batch(index)[0].items()}
        features = model.encode_all(inputs)
        available = split.available[index].to(device)
        _add_variances(model, features, available, sums[SIGMA2], counts)
        _add_distances(model, features, available, sums, counts)
    means = {
        view: {of: float(total) / counts[of] for of, total in sums[view].items()}
        for view in (SIGMA2, DISTANCE)
    }
    return Views(
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
        # Channels of unlike maps have no inner product: the view is not defined for this method or
        # network.
        if model.joint or first is None or second is None or first.shape[1:] != second.shape[1:]:
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
    """The deepest map (B, c, h, w) that an encoder returned; None when it returned something else."""
    last = features[-1] if isinstance(features, tuple | list) else features
    return last if isinstance(last, Tensor) and last.dim() == 4 else None


def trained(job: Job, store: Store) -> Method:
    """The model of a finished trial with its selected weights."""
    spec = job.spec
    options = {key: value for key, value in spec.backbone.items() if key != "name"} | job.local
    model = job.method_class()(
        job.backbone_class()(job.open_dataset().spec, options), spec.variant, spec.hparams
    )
    for name, needed in spec.needs.items():
        model.adopt(name, store.trial(needed).weights())
    model.load_state_dict(store.trial(spec.id).weights())
    return model


# ---------------------------------------------------------------------- keeping


def stored(trial: TrialDirectory, record: Json) -> Views | None:
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
    return Views(variance, distance, dict(zip(distance, arrays["histogram"], strict=True)))


def _keep(trial: TrialDirectory, record: Json, views: Views) -> None:
    arrays: dict[str, Array] = {
        "weights": np.array(record["files"]["weights.pt"]["sha256"]),
        "sigma2_of": np.array(list(views.variance), dtype=np.str_),
        "sigma2": np.array(list(views.variance.values()), dtype=np.float64),
        "distance_of": np.array(list(views.distance), dtype=np.str_),
        "distance": np.array(list(views.distance.values()), dtype=np.float64),
        "histogram": np.array(
            [views.histogram[of] for of in views.distance], dtype=np.float64
        ).reshape(-1, BINS),
    }
    write_atomically(trial / FILE, lambda stream: np.savez(stream, allow_pickle=False, **arrays))


def view_trial(done: Finished, store: Store) -> Views:
    """The views of a finished trial: the stored ones, or measured now and stored."""
    job, trial = done.trial.job, store.trial(done.trial.id)
    found = stored(trial, done.record)
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
            )
        _keep(trial, done.record, found)
    return found


def unmeasured(results: Results) -> list[Finished]:
    """The finished trials whose views are not there yet."""
    return [
        done
        for done in _viewed(results)
        if stored(results.store.trial(done.trial.id), done.record) is None
    ]


def measure_all(results: Results, say: Callable[[str], None]) -> None:
    """The views of every finished trial, where they are not there yet; ``say`` hears of each one
    that is measured.
    """
    missing = unmeasured(results)
    for number, done in enumerate(missing, 1):
        view_trial(done, results.store)
        say(f"views of {done.trial.job.name} measured, {number} of {len(missing)}")


# ---------------------------------------------------------------------- reading


def mined(history: Sequence[Json]) -> dict[str, tuple[bool, float]]:
    """Combination key (``a.b``) -> whether it was hard at the end, and its variance d_j (Eq. 10)
    when hard ones were mined.

    NaN for a combination that was not seen before; empty for methods that do not mine.
    """
    last = history[-1]["values"] if history else {}
    prefix = "method/hard/"
    keys = [name.removeprefix(prefix) for name in last if name.startswith(prefix)]
    return {
        key: (bool(last[f"{prefix}{key}"]), float(last.get(f"method/sigma2/{key}", "nan")))
        for key in keys
    }


def views_table(results: Results) -> pd.DataFrame:
    """One line per trial, view and combination or pair, from what is stored, with the columns
    ``COLUMNS``; no data needed.
    """
    return pd.DataFrame(
        [line for done in _viewed(results) for line in _lines(results, done)], columns=list(COLUMNS)
    )


def _viewed(results: Results) -> list[Finished]:
    """The finished trials whose model is meant for all combinations."""
    return [done for done in results.finished if done.trial.only is None]


def _lines(results: Results, done: Finished) -> list[tuple[object, ...]]:
    trial = results.store.trial(done.trial.id)
    views = stored(trial, done.record)
    if views is None:
        return []
    hard = mined(trial.history())
    who = (done.trial.row.label, done.trial.seed, done.trial.id)
    variances = [
        (*who, SIGMA2, of, v, *hard.get(of.replace("+", "."), (None, None)))
        for of, v in views.variance.items()
    ]
    return [*variances, *((*who, DISTANCE, of, v, None, None) for of, v in views.distance.items())]


def histograms(results: Results) -> dict[str, Array]:
    """Label -> share of the inter-channel distances in each of ``BINS`` bins over [0, 2] (Figure
    1), of all pairs and seeds.
    """
    sums: dict[str, Array] = {}
    for done in _viewed(results):
        views = stored(results.store.trial(done.trial.id), done.record)
        for counts in views.histogram.values() if views is not None else ():
            sums[done.trial.row.label] = sums.get(done.trial.row.label, 0) + counts
    return {label: counts / counts.sum() for label, counts in sums.items()}


def mean_variances(table: pd.DataFrame) -> dict[tuple[str, str, str], Summary]:
    """(``sigma2``, label, combination or ``average``) -> over seeds, from ``views_table``; one
    published table has them.
    """
    chosen = table[table["view"] == SIGMA2]
    cells = {
        (str(label), str(of)): group
        for (label, of), group in chosen.groupby(["label", "of"])["value"]
    }
    average = {
        str(label): group.groupby("seed")["value"].mean()
        for label, group in chosen.groupby("label")
    }
    found = {(SIGMA2, label, of): _summary(values) for (label, of), values in cells.items()}
    return found | {(SIGMA2, label, AVERAGE): _summary(values) for label, values in average.items()}


def _summary(values: pd.Series[Any]) -> Summary:
    return Summary(float(values.mean()), float(values.std(ddof=1)), len(values), 0)


# ---------------------------------------------------------------------- the command


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    options, settings = flags(arguments, ("--help", "-h"))
    if options:
        print(HELP)
        return DONE
    plan = Plan(load_study(settings))
    results = read(plan, Store.below(plan.study.output))
    if not results.finished:
        raise UserError(
            f"study '{plan.study.name}' has no finished trial below {plan.study.output}; run it first"
        )
    with preparation_view() as progress:
        plan.dataset.prepare(progress)
    measure_all(results, lambda text: print(text, flush=True))
    table, path = views_table(results), plan.study.folder / "views.csv"
    write_atomically(
        path, lambda stream: stream.write(table.to_csv(index=False, lineterminator="\n").encode())
    )
    means = table.groupby(["view", "label", "of"], sort=False)["value"].mean().reset_index()
    for line in means.itertuples(index=False):
        print(line.view, line.label, line.of, f"{line.value:.4f}", sep="  ")
    print(f"views: {path}", flush=True)
    return DONE


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
