"""Splits on a device are kept between trials of the same data: loaded once, freed by other data.

No accelerator is needed: torch's meta device stands for one where tensors are only moved, and where
trials are trained, the CPU is declared to be a device on which splits are kept.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datasets.digits import Digits
from harness.dataset import SPLITS, Split
from harness.training.spec import Job
from harness.training.split_cache import CACHE, SplitCache
from harness.training.trial import run_trial
from tests.support.faults import method_file
from tests.training.test_trial import planned, results

META, CPU = torch.device("meta"), torch.device("cpu")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each split of digits has been loaded."""
    counts: Counter[str] = Counter()
    load = Digits.load

    def counted(dataset: Digits, split: str) -> Split:
        counts[split] += 1
        return load(dataset, split)

    monkeypatch.setattr(Digits, "load", counted)
    return counts


@pytest.fixture
def kept_on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("harness.training.split_cache.keeps", lambda device: True)
    CACHE.clear()
    yield
    CACHE.clear()


def asked(cache: SplitCache, job: Job, name: str = "train", device: torch.device = META) -> Split:
    return cache.split(job, job.open_dataset(), name, device)


def test_trials_of_one_dataset_load_each_split_once(tmp_path: Path, loaded: Counter[str]) -> None:
    cache, first, second = SplitCache(), planned(tmp_path, "sf_md").job, planned(tmp_path).job
    assert first.spec.id != second.spec.id
    splits = [asked(cache, job, name) for job in (first, second) for name in SPLITS]
    assert all(again is split for split, again in zip(splits[:3], splits[3:], strict=True))
    assert loaded == {"train": 1, "val": 1, "test": 1}
    for split in splits:
        assert {x.device.type for x in (*split.inputs.values(), split.target)} == {"meta"}
        assert split.device == META and split.available.device == CPU


def test_other_data_free_the_kept_ones(tmp_path: Path) -> None:
    cache, job = SplitCache(), planned(tmp_path).job
    others = [
        planned(tmp_path, "dmrnet", "dataset.limit=50").job,
        replace(job, root="/elsewhere"),
        replace(job, cache="/elsewhere"),
        replace(job, spec=replace(job.spec, dataset=job.spec.dataset | {"fingerprint": "0" * 64})),
    ]
    for other in others:
        kept = [weakref.ref(asked(cache, job, name).target) for name in SPLITS]
        assert all(reference() is not None for reference in kept)
        assert len(asked(cache, other)) == other.spec.dataset["limit"]
        assert all(reference() is None for reference in kept)


def test_on_a_cpu_nothing_is_kept(tmp_path: Path, loaded: Counter[str]) -> None:
    cache, job = SplitCache(), planned(tmp_path).job
    reference = weakref.ref(asked(cache, job, device=CPU))
    assert reference() is None
    asked(cache, job, device=CPU)
    assert loaded == {"train": 2}


def test_what_had_no_room_is_loaded_once_and_moved_when_there_is(
    tmp_path: Path, loaded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``Split.to`` leaves a split that is large beside the free memory of a GPU."""
    cache, job = SplitCache(), planned(tmp_path).job
    with monkeypatch.context() as full:
        full.setattr(Split, "to", lambda split, device: replace(split, device=device))
        split = asked(cache, job)
        assert (split.device, split.target.device) == (META, CPU)
    assert asked(cache, job).target.device == META
    assert loaded == {"train": 1}


@pytest.mark.parametrize("method", ["sf_md", "dmrnet"])
def test_results_are_those_of_data_loaded_anew(
    tmp_path: Path, method: str, loaded: Counter[str], kept_on_cpu: None
) -> None:
    """Bit for bit, for the trial that loads the splits and for the one that finds them."""
    kept = [planned(tmp_path / "kept", method, f"seeds=[{seed}]") for seed in (0, 1)]
    for trial in kept:
        assert run_trial(trial.job).status == "done"
    assert loaded == {"train": 1, "val": 1, "test": 1}
    for trial in kept:
        CACHE.clear()
        anew = planned(tmp_path / "anew", method, f"seeds=[{trial.seed}]")
        assert run_trial(anew.job).status == "done"
        assert results(anew) == results(trial)


def test_a_trial_that_runs_out_of_memory_frees_them(
    tmp_path: Path, loaded: Counter[str], kept_on_cpu: None
) -> None:
    assert run_trial(planned(tmp_path, "sf_md").job).status == "done"
    wrong = method_file(tmp_path, "Wrong", loss="raise ValueError('mistake')")
    assert run_trial(planned(tmp_path, str(wrong)).job).status == "failed"
    assert loaded["train"] == 1
    full = method_file(tmp_path, "Full", loss="raise torch.OutOfMemoryError('CUDA out of memory')")
    assert run_trial(planned(tmp_path, str(full)).job).status == "failed"
    assert run_trial(planned(tmp_path, "dmrnet").job).status == "done"
    assert loaded == {"train": 2, "val": 2, "test": 2}
