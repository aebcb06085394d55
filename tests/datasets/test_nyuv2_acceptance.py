"""NYUv2's published split, class mappings and 13-class test labels.

From the folder nyuv2 below HARNESS_ACCEPTANCE.

It holds splits.mat, classMapping40.mat, class13Mapping.mat, nyud/{train,val,test}.txt (FCN) and
test_labels_13/*.png.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from datasets._nyuv2.labels import NAMES_13, NAMES_40
from datasets._nyuv2.mat import matlab_splits, raw_mapping
from datasets._nyuv2.split import check_ids, check_official, read_ids, selection

FOLDER = Path(os.environ.get("HARNESS_ACCEPTANCE", "")) / "nyuv2"
OFFERED = bool(os.environ.get("HARNESS_ACCEPTANCE"))

pytestmark = pytest.mark.skipif(
    not OFFERED, reason="HARNESS_ACCEPTANCE names no folder with published lists"
)


def offered(name: str) -> Path:
    if not (FOLDER / name).exists():
        pytest.skip(f"{FOLDER / name} is not there")
    return FOLDER / name


def test_split() -> None:
    ids = matlab_splits(offered("splits.mat"))
    check_ids(ids, "from 1")
    check_official(ids)
    assert sorted(ids["train"] + ids["test"]) == list(range(1, 1450))


def test_published_selection() -> None:
    ids = matlab_splits(offered("splits.mat"))
    offered("nyud/val.txt")
    found = selection(FOLDER, ids["train"], {})
    assert (len(found.train), len(found.val)) == (381, 414)
    assert [i - 5000 for i in read_ids(offered("nyud/test.txt"))] == list(ids["test"])


def test_mapping_of_40_classes() -> None:
    offered("classMapping40.mat")
    table = raw_mapping(FOLDER, 40)
    assert np.bincount(table)[1:].tolist() == [1] * 37 + [68, 82, 707] and table[0] == 0
    checks = {1: 40, 3: 3, 4: 22, 5: 5, 11: 2, 21: 1, 55: 37, 157: 4, 331: 31}
    assert {raw: int(table[raw]) for raw in checks} == checks
    names = loadmat(FOLDER / "classMapping40.mat")["className"].ravel()
    assert [_text(name).replace("-", " ") for name in names] == list(NAMES_40)


def test_names_of_13_classes() -> None:
    content = loadmat(offered("class13Mapping.mat"))["classMapping13"]["classNames"][0, 0].ravel()
    # Spelling and capitals may differ; letters and order must not.
    assert [_text(name)[0].lower() for name in content] == [name[0] for name in NAMES_13]


def test_real_labels_of_13_classes() -> None:
    ids = matlab_splits(offered("splits.mat"))["test"]
    files = sorted(offered("test_labels_13").glob("*.png"))
    assert [int("".join(c for c in path.stem if c.isdecimal())[-4:]) for path in files] == list(ids)
    counts = sum(np.bincount(np.asarray(Image.open(path)).ravel(), minlength=14) for path in files)
    assert len(counts) == 14 and counts[0] / counts.sum() == pytest.approx(0.171, abs=5e-4)


def _text(cell: Any) -> str:
    return str(np.asarray(cell).ravel()[0])
