"""Copies of CREMA-D in which every clip carries its own number; see clips.py.

Called by tests of CREMA-D.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from datasets.crema_d import CremaD
from tests.support.clips import opened_as, write_grey, write_number

KNOWN_BAD = ("1076_MTI_SAD_XX", "1076_MTI_NEU_XX", "1064_TIE_SAD_XX", "1064_IEO_DIS_MD")
TWICE = (
    "1006_TIE_HAP_XX",
    "1006_TIE_NEU_XX",
    "1013_WSI_DIS_XX",
    "1013_WSI_SAD_XX",
    "1017_IWW_ANG_XX",
    "1017_IWW_FEA_XX",
)
# Indices that OGM-GE and DMRNet use.
INDEX = {"NEU": 0, "HAP": 1, "SAD": 2, "FEA": 3, "DIS": 4, "ANG": 5}


def ids(actors: range) -> list[str]:
    return [f"{actor}_DFA_{emotion}_XX" for actor in actors for emotion in INDEX]


def write_list(path: Path, names: list[str]) -> None:
    path.write_bytes("".join(f"{name},{name[9:12]}\r\n" for name in names).encode())


def write_copy(root: Path, train: list[str], test: list[str]) -> dict[str, int]:
    """A copy whose n-th clip has the number n in its sound and in its middle frame of three.

    Returns id -> n.
    """
    numbers = {name: n for n, name in enumerate([*train, *test])}
    for name, n in numbers.items():
        write_number(root / "AudioWAV" / f"{name}.wav", n)
        write_grey(root / "Image-01-FPS" / name, [0, n, 100])
    write_list(root / "train.csv", train)
    write_list(root / "test.csv", test)
    return numbers


opened = partial(opened_as, CremaD)
