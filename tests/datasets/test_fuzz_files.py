"""Any manifest, list or data file is read or refused: one sentence, or its reason."""

from __future__ import annotations

import csv
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as maker
from hypothesis import strategies as st
from PIL import Image
from scipy.io import wavfile

from datasets import crema_d, kinetics_sounds
from datasets._casia.lists import read_list
from datasets._manifest.formats import array, label_map, picture, read_header
from datasets._media.audio import front_end
from datasets.manifest import Manifest
from harness.data.prepared import Unreadable
from tests.support.fuzzing import MAKER, TEXTS, sentence


@contextmanager
def somewhere() -> Iterator[Path]:
    """A folder inside another, so that a file outside the inner one shows."""
    outer = Path(tempfile.mkdtemp())
    try:
        (outer / "root").mkdir()
        yield outer / "root"
        assert [path.name for path in outer.iterdir()] == ["root"]
    finally:
        shutil.rmtree(outer)


CELLS = st.sampled_from(["train", "val", "test", "a.png", "b.npy", "c.wav", "0", "1", ""]) | TEXTS
HEADS = st.sampled_from(["split", "label", "label_path", "group", "x", "y"]) | TEXTS
OPTIONS = st.dictionaries(
    st.sampled_from(["modalities", "size", "arrays", "channels_last", "task", "classes"]),
    TEXTS,
    max_size=2,
)


def any_manifest(
    head: list[str], rows: list[list[str]], options: dict[str, str], delimiter: str, noise: bytes
) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter)
    writer.writerow(["split", "label", "x", "y", *head])
    writer.writerows([["train", "0", "a.png", "b.npy", *row] for row in rows])
    with somewhere() as root:
        Image.new("L", (9, 8)).save(root / "a.png")
        np.save(root / "b.npy", np.zeros((2, 3)))
        for body in (stream.getvalue().encode("utf-8", "surrogatepass"), noise):
            (root / "manifest.csv").write_bytes(body)

            def read() -> None:
                data = Manifest(None, root / "manifest.csv", options=options, cache=root / "cache")
                data.spec, data.counts(), data.fingerprint()

            sentence(read)


LINES = st.lists(
    st.sampled_from(
        [
            "Training/real_part/CLKJ_AS0005/real.rssdk/color/1.jpg",
            "Training/real_part/CLKJ_AS0005/real.rssdk/depth/1.jpg",
            "Training/real_part/CLKJ_AS0005/real.rssdk/ir/1.jpg 1",
            *("1001_DFA_ANG_XX,ANG", "abcdefghijk_000001_000011,10,3", "../../../x 1", "0", "\n"),
        ]
    )
    | TEXTS,
    max_size=6,
)


def any_list(lines: list[str], between: str, noise: bytes) -> None:
    with somewhere() as root:
        for body in (between.join(lines).encode("utf-8", "surrogatepass"), noise):
            path = root / "list.txt"
            path.write_bytes(body)
            sentence(lambda path=path: read_list(path, "train"))
            sentence(lambda path=path: crema_d.read_list(path))
            sentence(lambda path=path: kinetics_sounds.read_list(path))


def _files() -> dict[str, bytes]:
    """A small whole file of each kind."""
    found = {}
    for ending in ("png", "jpg", "bmp", "tif", "webp", "ppm"):
        stream = io.BytesIO()
        Image.new("RGB", (6, 5), (9, 99, 199)).save(
            stream, {"jpg": "jpeg", "tif": "tiff"}.get(ending, ending)
        )
        found[ending] = stream.getvalue()
    stream = io.BytesIO()
    np.save(stream, np.arange(12, dtype=np.float32).reshape(3, 4))
    found["npy"] = stream.getvalue()
    stream = io.BytesIO()
    wavfile.write(stream, 8000, np.arange(900, dtype=np.int16))
    found["wav"] = stream.getvalue()
    return found


FILES = _files()
READERS: dict[str, Callable[[Path], object]] = {
    "npy": lambda path: (array(path, "first", None, "float32"), label_map(path)),
    "wav": lambda path: front_end("B", 0.1).read(path),
}


def any_data_file(ending: str, changes: list[tuple[int, bytes]], length: int) -> None:
    body = bytearray(FILES[ending])
    for at, new in changes:
        place = at % len(body)
        body[place : place + len(new)] = new
    with somewhere() as root:
        path = root / f"x.{ending}"
        path.write_bytes(bytes(body[: length % (len(body) + 1)] if length else body))
        read = READERS.get(ending, lambda path: picture(path, 3, False, (4, 4)))
        for reader in (read_header, read):
            try:
                reader(path)
            except Unreadable as error:
                assert error.reason.strip()


TRIED = {
    any_manifest: (
        st.lists(HEADS, max_size=3),
        st.lists(st.lists(CELLS, max_size=3), max_size=4),
        OPTIONS,
        st.sampled_from([",", ";", "\t"]),
        st.binary(max_size=40),
    ),
    any_list: (LINES, st.sampled_from([" ", "\n", ",", "\r\n"]), st.binary(max_size=40)),
    any_data_file: (
        st.sampled_from(sorted(FILES)),
        st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=8)), max_size=4),
        st.just(0) | st.integers(0, 2000),
    ),
}


@pytest.mark.parametrize("check", TRIED, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "examples", [60, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.long])]
)
@pytest.mark.filterwarnings("ignore")
def test_it_is_read_or_refused(check: Callable[..., None], examples: int) -> None:
    maker(MAKER, max_examples=examples)(given(*TRIED[check])(check))()
