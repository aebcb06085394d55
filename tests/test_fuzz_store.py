"""Records and checkpoints of any content are read as what they are, or as nothing."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import settings as maker
from hypothesis import strategies as st

from harness import report
from harness.cli import guarded
from harness.store import Store
from harness.store.checkpoint import CheckpointFile
from harness.store.record import SEAL
from tests.support.archives import COMMAND, Source, make_source
from tests.support.fuzzing import MAKER, VALUES

STATE = {"epoch": 3, "weights": {"w": torch.zeros(3)}}


def any_checkpoint(changes: list[tuple[int, bytes]], length: int) -> None:
    """Never an error, and never a state that nobody wrote."""
    folder = Path(tempfile.mkdtemp())
    try:
        path = folder / "checkpoint.pt"
        CheckpointFile(path, "mine").save(dict(STATE))
        whole = path.read_bytes()
        body = bytearray(whole)
        for at, new in changes:
            place = at % len(body)
            body[place : place + len(new)] = new
        path.write_bytes(bytes(body[: length % (len(body) + 1)] if length else body))
        as_written = path.read_bytes() == whole
        state = CheckpointFile(path, "mine").load()
        assert (state is not None) == as_written
        assert state is None or (state["epoch"] == 3 and list(state["weights"]) == ["w"])
    finally:
        shutil.rmtree(folder)


CHECKPOINTS = (
    st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=8)), max_size=4),
    st.just(0) | st.integers(0, 3000),
)


@pytest.mark.parametrize(
    "examples", [60, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.long])]
)
def test_any_checkpoint(examples: int) -> None:
    maker(MAKER, max_examples=examples)(given(*CHECKPOINTS)(any_checkpoint))()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return make_source(tmp_path_factory.mktemp("source"))


NAMES = ("record.json", "spec.json", "metrics.jsonl", "failure.json", "origin.json")


@pytest.mark.parametrize(
    "examples", [10, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.long])]
)
def test_any_record_is_reported_or_left_out(
    examples: int, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    """One value of one file of a trial is another one: a report is written, or one sentence."""
    trial = source.store.trial(source.plan.trials[0].id)
    kept = {name: (trial / name).read_bytes() for name in NAMES if (trial / name).is_file()}
    record = json.loads(kept["record.json"])
    keys = [(key,) for key in record]
    for key, block in record.items():
        keys += [(key, inner) for inner in block] if isinstance(block, dict) else []

    def one(place: tuple[str, ...], value: object, name: str, noise: bytes) -> None:
        body = json.loads(kept["record.json"])
        inner = body if len(place) == 1 else body[place[0]]
        inner[place[-1]] = value
        # As records of before, whose contents alone can tell that they are damaged.
        body.pop(SEAL, None)
        try:
            (trial / "record.json").write_text(json.dumps(body))
            if noise:
                (trial / name).write_bytes(noise)
            code = guarded(report.main, [*COMMAND, f"output={source.output}"])
            said = capsys.readouterr()
            assert code in (0, 1, 2) and "Traceback" not in said.err, said.err[-1500:]
        finally:
            for other in NAMES:
                (trial / other).unlink(missing_ok=True)
            for other, content in kept.items():
                (trial / other).write_bytes(content)

    made = given(st.sampled_from(keys), VALUES, st.sampled_from(NAMES), st.just(b"") | st.binary())
    maker(MAKER, max_examples=examples)(made(one))()
    assert Store.below(source.output).ids()
