"""Other sensors and tasks from end to end: sound as a waveform, lacking cells, a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.analysis.findings import analyse
from harness.analysis.results import Results, read
from harness.data.raw import Raw
from harness.dataset import Modality, Split
from harness.protocol.metrics import metric
from harness.robust.catalogue import CLEAN, Condition
from harness.robust.evidence import code_of, facts_of, path_of
from harness.robust.findings import bad_sensors
from harness.robust.progress import Steps
from harness.robust.work import Work, work_of
from harness.robust.workers import run
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.trial import run_trial
from tests.support import blocks
from tests.support.media import classification


def trained(output: Path, *arguments: str) -> Results:
    """One trial of one epoch."""
    study = load_study(
        [
            *("methods=[sf_md]", "seeds=[0]", "train.epochs=1", "train.batch_size=8"),
            *(f"output={output}", *arguments),
        ]
    )
    plan = Plan(study)
    plan.dataset.prepare(lambda name, done, total: None)
    assert [run_trial(trial.job).status for trial in plan.trials] == ["done"]
    return read(plan, Store.below(study.output))


def only(work: Work, chosen: Sequence[Condition]) -> Work:
    """Less work."""
    left = [(done, [one for one in todo if one in chosen]) for done, todo in work.left]
    return replace(work, wanted=[one for one in work.wanted if one in chosen], left=left)


def evidence(results: Results, condition: Condition) -> torch.Tensor:
    (done,) = results.finished
    facts = facts_of(done.record, condition, code_of(done.trial.job))
    with np.load(path_of(results.store.trial(done.trial.id), facts)) as arrays:
        return torch.from_numpy(arrays["scores"])


def test_a_manifest_of_pictures_sounds_and_features(tmp_path: Path) -> None:
    path = classification(tmp_path / "data")
    lines = path.read_text().splitlines()
    column = lines[0].split(",").index("snd")
    split = lines[0].split(",").index("split")
    first = next(at for at, line in enumerate(lines) if line.split(",")[split] == "test")
    cells = lines[first].split(",")
    cells[column] = ""
    lines[first] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")
    results = trained(tmp_path / "runs", "study=own_data", f"dataset.manifest={path}")
    work = work_of(results)
    kinds = {name: raw.kind for name, raw in work.inputs.raws.items()}
    assert list(kinds.values()) == ["picture", "sound", "features"]
    sound = work.inputs.raws["snd"]
    wave = sound.read(1)
    assert wave.ndim == 1 and np.abs(wave).max() == pytest.approx(0.5, abs=0.01)
    chosen = [CLEAN, *(one for one in work.wanted if one.severity == 3)]
    found = run(only(work, chosen), Steps(1))
    assert (found.equal, found.unequal, found.failed) == (1, {}, [])
    # 7 ways for pictures, 4 for sounds, 5 for features.
    assert found.conditions == 1 + 16
    noise = next(one for one in chosen if (one.modality, one.corruption) == ("snd", "noise"))
    plain = work.inputs.split.received().inputs["snd"]
    corrupted = work.inputs.corrupted(noise, torch.arange(len(plain)))
    assert torch.equal(corrupted[0], plain[0])  # what stands for the sound that is not there
    assert all(not torch.equal(corrupted[n], plain[n]) for n in range(1, len(plain)))


@pytest.mark.slow
@pytest.mark.long
def test_a_segmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks.install(tmp_path, monkeypatch)
    results = trained(tmp_path / "runs", "dataset=synthetic", "study=nyuv2_segmentation")
    work = work_of(results)
    name = work.results.plan.spec.names[0]
    ways = [one for one in work.wanted if (one.modality, one.corruption) == (name, "noise")]
    chosen = [CLEAN, *ways]
    found = run(only(work, chosen), Steps(1))
    assert (found.equal, found.unequal, found.failed) == (1, {}, [])
    counts = evidence(results, chosen[-1])
    assert counts.shape == (2, 7, 3, 3) and counts.dtype == torch.int32
    declines = bad_sensors(analyse(results))
    assert declines is not None
    one = declines.declines["sf_md", name, chosen[-1].corruption]
    both = metric("miou").compute(counts[1], torch.empty(0))
    assert one.each[results.plan.combinations[-1].name][5] == pytest.approx(both)


def raw(stored: torch.Tensor, modality: Modality, **facts: object) -> Raw:
    available = torch.ones(len(stored), 1, dtype=torch.bool)
    split = Split({"x": stored}, torch.zeros(len(stored)), available, **facts)  # type: ignore[arg-type]
    return split.raw(modality)


@pytest.mark.parametrize(
    ("shape", "dtype", "kind"),
    [
        ((3, 8, 8), torch.uint8, "picture"),
        ((1, 8, 8), torch.uint8, "picture"),
        ((2, 8, 8), torch.uint8, "features"),
        ((3, 8, 8), torch.float32, "features"),
        ((6, 1, 50), torch.float32, "series"),
        ((40, 1, 1), torch.float32, "features"),
    ],
)
def test_what_says_nothing_is_told_by_how_it_is_stored(
    shape: tuple[int, int, int], dtype: torch.dtype, kind: str
) -> None:
    found = raw(torch.ones(2, *shape, dtype=dtype), Modality("x", shape))
    assert found.kind == kind and not found.note


def test_sound_without_a_waveform_is_a_spectrogram_and_says_so() -> None:
    found = raw(torch.ones(2, 1, 9, 9), Modality("x", (1, 9, 9), kind="sound"))
    assert found.kind == "spectrogram"
    assert found.note == "the dataset gives no waveform: its spectrogram is corrupted"


def test_raw_values_are_those_before_normalisation() -> None:
    stored = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4).to(torch.int16)
    modality = Modality("x", (3, 4, 4), mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), kind="depth")
    rows = torch.tensor([1, 0])
    found = raw(stored, modality, modalities=(modality,), rows=rows)
    np.testing.assert_array_equal(found.read(0), stored[1].numpy())
    assert (found.low, found.high) == (0.0, 95.0)
    received = found.receive([found.read(0), found.read(1)])
    expected = (stored[rows].float() - torch.tensor([1.0, 2, 3])[:, None, None]) / torch.tensor(
        [4.0, 5, 6]
    )[:, None, None]
    assert torch.equal(received, expected)
    np.testing.assert_array_equal(np.ravel(found.mean), [1, 2, 3])
