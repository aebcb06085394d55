"""What can be wrong with a copy of NYUv2: one sentence each.

With the file, how many, the first three and the way out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from datasets._nyuv2.mat import MAT, MatCopy
from datasets._nyuv2.split import check_official
from datasets.nyuv2 import NYUv2
from harness.data.prepared import Unreadable
from harness.errors import UserError
from tests.support import nyuv2_copies as copies
from tests.support.nyuv2_copies import SMALL, Content


@pytest.fixture(scope="module")
def content() -> Content:
    return copies.content()


@pytest.fixture
def root(tmp_path: Path, content: Content) -> Path:
    return copies.write_esanet(tmp_path / "copy", content)


def refused(root: Path | None, match: str, **options: Any) -> None:
    dataset = NYUv2(
        root, options=SMALL | options, cache=None if root is None else root.parent / "cache"
    )
    with pytest.raises(UserError, match=match):
        dataset.prepare(lambda name, done, total: None)


def test_without_a_root_the_sentence_says_what_to_set() -> None:
    refused(
        None,
        r"dataset\.root=DIR.*NYUV2_ROOT.*train/labels_40.*python -m datasets\.sample nyuv2 DIR",
    )
    assert NYUv2().spec.names == ("rgb", "depth") and len(NYUv2().spec.classes) == 40
    for asked in (NYUv2.fingerprint, NYUv2.counts):
        with pytest.raises(UserError, match=r"dataset nyuv2 needs your copy of the data"):
            asked(NYUv2())


def test_an_unknown_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", r"dataset\.root=.*nowhere is not a folder.*train/labels_40")
    (tmp_path / "other").mkdir()
    refused(
        tmp_path / "other",
        r"none of NYUv2.s layouts.*dataset\.root must hold"
        r" nyu_depth_v2_labeled\.mat.*semantic_40.*seg40",
    )


def test_two_layouts_in_one_folder(root: Path, content: Content) -> None:
    copies.write_toolkit(root, content)
    refused(root, "layouts of ESANet and nyuv2-python-toolkit; give each its own folder")


def test_wrong_counts(root: Path) -> None:
    refused(
        root,
        r"7 training and 6 test images, the official split 795 and 654.*counts=any",
        counts="official",
    )
    train = tuple(range(3, 798))
    with pytest.raises(
        UserError, match=r"first test images are 798, 799, 800 .*officially they are 1, 2, 9"
    ):
        check_official(
            {"train": (3, 4, 5, 6, 7, 8, *range(11, 800)), "test": tuple(range(798, 1452))}
        )
    with pytest.raises(UserError, match="795 training and 653 test"):
        check_official({"train": train, "test": tuple(range(798, 1451))})


def test_names_that_count_from_zero_in_a_layout_that_counts_from_one(
    tmp_path: Path, content: Content
) -> None:
    root = copies.write_esanet(tmp_path / "copy", content, shift=-1)
    refused(root, r"1 image numbers lie outside.*1-based: 0\): the layout of ESANet counts from 1")


def test_files_that_are_shifted_against_their_list(root: Path) -> None:
    for path in sorted((root / "train" / "depth").glob("*.png"), reverse=True):
        path.rename(path.with_name(f"{int(path.stem) + 1:04d}.png"))
    refused(
        root,
        r"of the 7 train images have no depth in .*; all are there after by one: its names are off"
        r" by one",
    )


def test_files_that_a_list_names_and_that_are_not_there(root: Path) -> None:
    for image in (3, 5, 8, 9):
        (root / "train" / "rgb" / f"{image:04d}.png").unlink()
    refused(
        root,
        r"4 of the 7 train images have no rgb in .*train/rgb: 0003\.png, 0005\.png, 0008\.png and 1"
        r" more; restore them",
    )


def test_files_that_no_list_names_are_said(root: Path) -> None:
    shutil.copy(root / "train" / "rgb" / "0003.png", root / "train" / "rgb" / "0014.png")
    told = NYUv2(root, options=SMALL, cache=root.parent / "cache").prepare(
        lambda name, done, total: None
    )
    assert any("1 files of" in sentence and "0014.png" in sentence for sentence in told)


def test_a_missing_modality(root: Path) -> None:
    shutil.rmtree(root / "test" / "depth_raw")
    refused(
        root,
        r"the folder .*test/depth_raw with the depth of NYUv2 is not"
        r" there.*dataset\.options\.depth",
        depth="raw",
    )


def test_raw_depth_where_a_layout_has_none(tmp_path: Path, content: Content) -> None:
    refused(
        copies.write_toolkit(tmp_path / "copy", content),
        "has no raw depth; set dataset.options.depth=refined",
        depth="raw",
    )


def test_labels_with_the_void_of_another_layout(
    root: Path, tmp_path: Path, content: Content
) -> None:
    for path in root.glob("*/labels_40/*.png"):
        copies.save(path, content.of_40()[int(path.stem) - 1] - np.uint8(1))
    refused(
        root,
        r"has the label 255, and the layout of ESANet has 0 \(void\) to 40: the labels are offset"
        r" by one",
    )
    other = copies.write_toolkit(tmp_path / "other", content)
    for path in other.glob("seg40/*/*.png"):
        copies.save(path, content.of_40()[int(path.stem) - 1])
    refused(
        other,
        r"has the label 40, and the layout of nyuv2-python-toolkit has 0 to 39 and 255 \(void\)",
    )


def test_labels_of_another_number_of_classes(root: Path) -> None:
    for split in ("train", "test"):
        shutil.rmtree(root / split / "labels_13")
        (root / split / "labels_40").rename(root / split / "labels_13")
    refused(
        root,
        r"has the label 14, 15, 16 and \d+ more, and the layout of ESANet has 0 \(void\) to 13",
        classes=13,
    )


def test_labels_as_a_picture(root: Path) -> None:
    for path in root.glob("*/labels_40/*.png"):
        copies.save(path, np.zeros((24, 32, 3), np.uint8))
    refused(
        root,
        r"is a picture of the labels in colours \(mode RGB\), and maps of class numbers are needed",
    )


def test_depth_as_a_picture(root: Path) -> None:
    for path in root.glob("*/depth/*.png"):
        copies.save(path, np.zeros((24, 32), np.uint8))
    refused(root, r"is a picture of the depth \(mode L\), and 16-bit distances are needed")


def test_modalities_of_different_sizes(root: Path) -> None:
    for path in root.glob("*/depth/*.png"):
        copies.save(path, np.full((12, 16), 2000, np.uint16))
    refused(root, "has 16x12 pixels and its picture 32x24")


def test_odd_lists(root: Path) -> None:
    original = (root / "train.txt").read_text()
    (root / "train.txt").write_text(original + "\nrgb/0011")
    refused(root, r"train\.txt has 1 of 8 lines that are not a number: rgb/0011")
    (root / "train.txt").write_text(original + "\n0003")
    refused(root, r"train\.txt names 1 images twice: 3")
    (root / "train.txt").write_text(original + "\n0001")
    refused(root, "1 images are for training and for test: 1")


def test_an_exchanged_axis_of_the_mat_file(tmp_path: Path, content: Content) -> None:
    h5py = pytest.importorskip("h5py", reason="the extra `nyuv2` is not installed")
    root = copies.write_mat(tmp_path / "mat", content)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "r+") as file:
        pixels = file["images"][()]
        del file["images"]
        file["images"] = pixels.transpose(0, 1, 3, 2)
    refused(
        root, r"has images \(13, 3, 24, 32\).*\(picture, channel, x, y\): the axes were exchanged"
    )


def test_what_the_mat_file_needs_beside_it(tmp_path: Path, content: Content) -> None:
    pytest.importorskip("h5py", reason="the extra `nyuv2` is not installed")
    root = copies.write_mat(tmp_path / "mat", content)
    for name in ("classMapping40.mat", "splits.mat"):
        (root / name).unlink()
        refused(
            root,
            rf"{name} is not beside nyu_depth_v2_labeled\.mat.*ESANet repository.*nyuv2-meta-data",
        )
    (root / "nyu_depth_v2_labeled.mat").write_bytes(b"not HDF5")
    refused(root, r"cannot be opened, its first bytes are damaged .*2,972,037,809 bytes")


@pytest.mark.parametrize("name", ["splits.mat", "classMapping40.mat", "class13Mapping.mat"])
@pytest.mark.parametrize(
    "damage", [lambda body: b"", lambda body: body[:150], lambda body: b"text"]
)
def test_damaged_files_of_matlab_are_one_sentence(
    tmp_path: Path, content: Content, name: str, damage: Callable[[bytes], bytes]
) -> None:
    pytest.importorskip("h5py", reason="the extra `nyuv2` is not installed")
    root = copies.write_mat(tmp_path / "mat", content)
    (root / name).write_bytes(damage((root / name).read_bytes()))
    refused(root, rf"{name} is no readable file of MATLAB 5 .*; take the published one", classes=13)


def test_a_mapping_with_other_names_is_one_sentence(tmp_path: Path, content: Content) -> None:
    pytest.importorskip("h5py", reason="the extra `nyuv2` is not installed")
    root = copies.write_mat(tmp_path / "mat", content)
    savemat(root / "classMapping40.mat", {"mapping": np.zeros((1, 894))})
    refused(root, r"classMapping40\.mat in .* is not laid out as published")


def test_any_flipped_bytes_of_the_mat_file_are_read_or_refused(
    tmp_path: Path, content: Content
) -> None:
    pytest.importorskip("h5py", reason="the extra `nyuv2` is not installed")
    root = copies.write_mat(tmp_path / "mat", content, scenes=["den_1"] * 13)
    whole = (root / MAT).read_bytes()
    random = np.random.default_rng(3)
    refusals = 0
    for _ in range(60):
        body = bytearray(whole)
        # The first bytes hold most of its structures.
        for place in random.integers(8, 4096, 60):
            body[place] = random.integers(256)
        (root / MAT).write_bytes(body)
        try:
            copy = MatCopy(root, 40, False)
            copy.rgb(1, (24, 32)), copy.depth(1, (24, 32)), copy.target(1, (24, 32))
        except (UserError, Unreadable) as error:
            refusals += bool(str(error))
    assert refusals > 5
