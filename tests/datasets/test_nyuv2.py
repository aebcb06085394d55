"""NYUv2 from every form of copy: keys, arrays, classes, depth, splits and weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from datasets._nyuv2.labels import NAMES_13, NAMES_40
from datasets._nyuv2.split import selection
from datasets.nyuv2 import NYUv2
from harness.dataset import SPLITS, Split
from harness.errors import UserError
from harness.protocol.label_maps import VOID
from tests.support import nyuv2_copies as copies
from tests.support.nyuv2_copies import SMALL, TEST, TRAIN, Content


@pytest.fixture(scope="module")
def content() -> Content:
    return copies.content()


def opened(root: Path, **options: Any) -> NYUv2:
    found = NYUv2(root, options=SMALL | options, cache=root.parent / "cache")
    found.prepare(lambda name, done, total: None)
    return found


def told(root: Path, **options: Any) -> str:
    return " | ".join(
        NYUv2(root, options=SMALL | options, cache=root.parent / "cache").prepare(
            lambda name, done, total: None
        )
    )


def millimetres(split: Split) -> torch.Tensor:
    return split.inputs["depth"][split.rows]


# ---------------------------------------------------------------------- layouts


@pytest.mark.parametrize("classes", [40, 13])
def test_three_layouts_give_the_same_keys_and_arrays(
    tmp_path: Path, content: Content, classes: int
) -> None:
    writers = (copies.write_esanet, copies.write_nicr, copies.write_toolkit)
    found = [
        opened(write(tmp_path / write.__name__, content), classes=classes) for write in writers
    ]
    expected = {40: content.of_40, 13: content.of_13}[classes]()
    for dataset in found:
        assert dataset.ids["test"] == TEST
        assert sorted(dataset.ids["train"] + dataset.ids["val"]) == list(TRAIN)
        for name in SPLITS:
            split, rows = dataset.load(name), [image - 1 for image in dataset.ids[name]]
            assert np.array_equal(
                split.inputs["rgb"][split.rows].numpy(), content.rgb[rows].transpose(0, 3, 1, 2)
            )
            assert np.array_equal(
                millimetres(split)[:, 0].numpy(),
                copies.millimetres(content.depth[rows]).astype(np.int16),
            )
            # 0 - 1 is 255 in 8 bits: the void of the file becomes the harness' VOID.
            assert np.array_equal(split.target[split.rows].numpy(), expected[rows] - np.uint8(1))


@pytest.mark.parametrize(
    "options", [{}, {"classes": 13}, {"depth": "raw"}, {"height": 20, "width": 28}]
)
def test_the_mat_file_gives_what_the_prepared_layouts_give(
    tmp_path: Path, content: Content, options: dict[str, Any]
) -> None:
    pytest.importorskip("h5py", reason="the extra `nyuv2` is not installed")
    prepared = opened(copies.write_esanet(tmp_path / "esanet", content), **options)
    distributed = opened(copies.write_mat(tmp_path / "mat", content), **options)
    assert distributed.ids == prepared.ids
    for name in SPLITS:
        one, other = prepared.load(name), distributed.load(name)
        assert torch.equal(one.target, other.target)
        assert all(
            torch.equal(one.inputs[modality], other.inputs[modality])
            for modality in ("rgb", "depth")
        )


def test_a_known_pixel_of_the_mat_file_proves_the_transpose(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="the extra `nyuv2` is not installed")
    given = Content(*(np.zeros_like(x) for x in vars(copies.content()).values()))
    root = copies.write_mat(tmp_path / "mat", given)
    image, channel, x, y = 4, 2, 29, 5
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "r+") as file:
        file["images"][image - 1, channel, x, y] = 200
        file["depths"][image - 1, x, y] = 2.5
        file["labels"][image - 1, x, y] = 38
    dataset = opened(root)
    split = dataset.load("train")
    row = dataset.ids["train"].index(image)
    assert split.inputs["rgb"].nonzero().tolist() == [[row, channel, y, x]]
    assert (
        split.inputs["depth"].nonzero().tolist() == [[row, 0, y, x]]
        and int(split.inputs["depth"].max()) == 2500
    )
    assert (split.target != VOID).nonzero().tolist() == [[row, y, x]] and int(
        split.target.min()
    ) == 37


def test_classes_have_their_published_numbers() -> None:
    # Labels of the files, 0 being void: from the table that ESANet and the label metadata of NYUv2
    # share.
    numbers = {
        "wall": 1,
        "floor": 2,
        "cabinet": 3,
        "bed": 4,
        "chair": 5,
        "ceiling": 22,
        "person": 31,
        "bag": 37,
        "otherprop": 40,
    }
    assert {name: NAMES_40.index(name) + 1 for name in numbers} == numbers
    assert (len(NAMES_40), len(NAMES_13), NAMES_13[0], NAMES_13[-1]) == (40, 13, "bed", "window")


def test_the_mat_file_maps_raw_labels_by_the_user_s_mapping(
    tmp_path: Path, content: Content
) -> None:
    pytest.importorskip("h5py", reason="the extra `nyuv2` is not installed")
    root = copies.write_mat(tmp_path / "mat", content)
    before = opened(root)
    savemat(root / "classMapping40.mat", {"mapClass": np.full((1, 894), 7, np.uint8)})
    after = opened(root)
    assert before.fingerprint() != after.fingerprint()
    assert set(after.load("test").target.unique().tolist()) == {6, VOID}


# ---------------------------------------------------------------------- depth


def test_what_encoders_receive_is_normalised_as_published(tmp_path: Path, content: Content) -> None:
    dataset = opened(copies.write_esanet(tmp_path / "copy", content))
    inputs = dataset.load("test").received().inputs
    rows = [image - 1 for image in dataset.ids["test"]]
    depth = (
        copies.millimetres(content.depth[rows]).astype(float) - 2841.94941272766
    ) / 1417.2594281672277
    rgb = (content.rgb[rows] / 255 - np.array([0.485, 0.456, 0.406])) / np.array(
        [0.229, 0.224, 0.225]
    )
    np.testing.assert_allclose(inputs["depth"][:, 0].numpy(), depth, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        inputs["rgb"].numpy(), rgb.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5
    )


def test_holes_of_raw_depth_are_zero_when_they_are_normalised(
    tmp_path: Path, content: Content
) -> None:
    dataset = opened(copies.write_esanet(tmp_path / "copy", content), depth="raw")
    received = dataset.load("test").received().inputs["depth"][:, 0].numpy()
    raw = copies.millimetres(content.holes[[image - 1 for image in TEST]])
    assert 0.1 < (raw == 0).mean() < 0.3 and np.all(received[raw == 0] == 0)
    # 2842 instead of the published 2841.949 is subtracted, 4e-5 standard deviations.
    expected = (raw[raw > 0].astype(float) - 2841.94941272766) / 1417.2594281672277
    np.testing.assert_allclose(received[raw > 0], expected, atol=4e-5)


@pytest.mark.parametrize(("factor", "unit"), [(1, "mm"), (10, "0.1mm")])
def test_the_unit_of_depth_is_detected_and_said(
    tmp_path: Path, content: Content, factor: int, unit: str
) -> None:
    near = Content(content.rgb, content.depth * np.float32(0.7), content.holes, content.labels)
    root = copies.write_esanet(tmp_path / "copy", near)
    for path in root.glob("*/depth/*.png"):
        copies.save(path, copies.millimetres(near.depth[int(path.stem) - 1]) * np.uint16(factor))
    assert f"depth is in {unit}, judging by the median" in told(root)
    depth = millimetres(opened(root).load("test"))
    expected = copies.millimetres(near.depth[[image - 1 for image in TEST]]).astype(np.int16)
    assert np.array_equal(depth[:, 0].numpy(), expected)


def test_depth_in_whole_metres_is_refused(tmp_path: Path, content: Content) -> None:
    root = copies.write_esanet(tmp_path / "copy", content)
    for path in root.glob("*/depth/*.png"):
        copies.save(path, np.full((24, 32), 3, np.uint16))
    with pytest.raises(
        UserError, match=r"median 3 in 6 training images.*16-bit millimetres.*depth_unit"
    ):
        told(root)


# ---------------------------------------------------------------------- splits


def test_published_lists_select_with_and_without_their_offset(tmp_path: Path) -> None:
    folder = tmp_path / "nyud"
    folder.mkdir()
    for offset in (0, 5000):
        (folder / "train.txt").write_text("".join(f"{i + offset}\n" for i in (3, 5, 9)))
        (folder / "val.txt").write_text("".join(f"{i + offset}\n" for i in (8, 4)))
        found = selection(tmp_path, [3, 4, 5, 8, 9], {})
        assert (found.train, found.val) == ((3, 5, 9), (4, 8)) and "3 train, 2 val" in found.origin
    with pytest.raises(
        UserError, match=r"2 ids are in both, in neither or not for training: 8, 12; use the lists"
    ):
        selection(tmp_path, [3, 4, 5, 9, 12], {})


def test_val_is_whole_runs_of_neighbours_where_no_list_says_more(tmp_path: Path) -> None:
    # Runs of 6, 2, 3, 4, 1 ids; a run is taken while val is at most a fifth of what has been seen:
    # 2 of 8, 3 of 11 and 4 of 15 are more, 1 of 16 is less.
    ids = [1, 2, 3, 4, 5, 6, 9, 10, 12, 13, 14, 20, 21, 22, 23, 30]
    found = selection(tmp_path, ids, {})
    assert found.val == (30,) and found.train == tuple(ids[:-1])
    assert "no nyud/val.txt" in found.origin and "runs of neighbouring ids" in found.origin
    assert selection(tmp_path, [*range(1, 9), 10, 11, *range(20, 30)], {}).val == (10, 11)
    assert selection(tmp_path, list(range(1, 11)), {}).val == (9, 10)


def test_val_is_whole_scenes_where_their_names_are_known(tmp_path: Path) -> None:
    scenes = dict(enumerate(["a"] * 5 + ["b"] + ["a"] * 2 + ["c"] * 4 + ["d"], 1))
    found = selection(tmp_path, list(scenes), scenes)
    # 1 of 8 is at most a fifth, 5 of 12 is not, 2 of 13 is.
    assert {scenes[i] for i in found.val} == {"b", "d"} and not {scenes[i] for i in found.train} & {
        "b",
        "d",
    }


def test_scene_names_are_read_from_the_mat_file(tmp_path: Path, content: Content) -> None:
    pytest.importorskip("h5py", reason="the extra `nyuv2` is not installed")
    names = [f"kitchen_{image % 6:04d}" for image in range(1, 14)]
    root = copies.write_mat(tmp_path / "mat", content, names)
    dataset = opened(root)
    shown = {
        split: {names[image - 1] for image in dataset.ids[split]} for split in ("train", "val")
    }
    assert shown["val"] and not shown["train"] & shown["val"] and "by scene name" in told(root)


def test_limit_takes_evenly_spaced_images(tmp_path: Path, content: Content) -> None:
    root = copies.write_esanet(tmp_path / "copy", content)
    limited = NYUv2(root, options=SMALL, limit=2, cache=tmp_path / "cache")
    assert limited.ids["test"] == (TEST[0], TEST[3])


# ------------------------------------------------------------------ class weights, identity, damage


def test_class_weights_of_handmade_labels(tmp_path: Path, content: Content) -> None:
    root = copies.write_esanet(tmp_path / "copy", content)
    pixels = copies.HEIGHT * copies.WIDTH
    for path in root.glob("train/labels_40/*.png"):
        labels = np.zeros(pixels, np.uint8)
        labels[: pixels // 2] = 3
        if path.stem == "0003":
            labels[: pixels // 4] = 9
        copies.save(path, labels.reshape(copies.HEIGHT, copies.WIDTH))
    dataset = opened(root)
    weights = dataset.spec.class_weights
    images = len(dataset.ids["train"])
    assert 3 in dataset.ids["train"] and weights is not None
    # Label 3 fills half of each image but one, where it and label 9 fill a quarter each; void
    # counts in an image's size.
    three, nine = (2 * images - 1) / (4 * images), 1 / 4
    expected = np.zeros(40)
    expected[2], expected[8] = (three + nine) / 2 / three, (three + nine) / 2 / nine
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    assert opened(root, class_weights="none").spec.class_weights is None


def test_weights_wait_for_the_labels_and_the_identity_does_not_depend_on_them(
    tmp_path: Path, content: Content
) -> None:
    root = copies.write_esanet(tmp_path / "copy", content)
    before = NYUv2(root, options=SMALL, cache=tmp_path / "cache")
    assert before.spec.class_weights is None
    fingerprint = before.fingerprint()
    after = opened(root)
    assert after.spec.class_weights is not None and after.fingerprint() == fingerprint
    worker = NYUv2(root, options=SMALL, cache=tmp_path / "cache")
    assert worker.spec == after.spec


def test_the_fingerprint_follows_content_and_options_but_not_the_place(
    tmp_path: Path, content: Content
) -> None:
    root = copies.write_esanet(tmp_path / "copy", content)
    moved = Path(shutil.copytree(root, tmp_path / "elsewhere"))

    def fingerprint(folder: Path, **options: Any) -> str:
        return NYUv2(folder, options=SMALL | options).fingerprint()

    assert fingerprint(root) == fingerprint(moved)
    others = [
        fingerprint(root, **{key: value})
        for key, value in [("classes", 13), ("depth", "raw"), ("height", 20)]
    ]
    copies.save(moved / "train" / "rgb" / "0003.png", np.zeros((24, 32, 3), np.uint8))
    assert len({fingerprint(root), fingerprint(moved), *others}) == 5


def test_an_image_with_a_damaged_file_is_left_out_of_all_modalities(
    tmp_path: Path, content: Content
) -> None:
    root = copies.write_esanet(tmp_path / "copy", content)
    damaged = root / "test" / "depth" / "0006.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    sentences = told(root)
    assert "1 images were left out" in sentences and "0006.png" in sentences
    dataset = opened(root)
    split = dataset.load("test")
    kept = [image - 1 for image in TEST if image != 6]
    assert dataset.counts()["test"] == len(split) == 5 and len(dataset.ids["test"]) == 6
    inputs, target = split.batch(torch.arange(5))
    assert np.array_equal(target.numpy(), (content.of_40()[kept] - np.uint8(1)).astype(np.int64))
    depth = copies.millimetres(content.depth[kept]).astype(float)
    np.testing.assert_allclose(
        inputs["depth"][:, 0].numpy() * 1417.2594281672277 + 2841.94941272766, depth, atol=1e-2
    )
    with pytest.raises(UserError, match=r"1 file cannot be read: .*0006\.png"):
        told(root, unreadable="fatal")


def test_one_draw_moves_colour_depth_and_label(tmp_path: Path) -> None:
    base = copies.content()
    column = np.broadcast_to(np.arange(32), base.depth.shape)
    depth = (1 + column / 10).astype(np.float32)
    rgb = np.repeat((column * 8).astype(np.uint8)[..., None], 3, -1)
    dataset = opened(copies.write_esanet(tmp_path / "copy", Content(rgb, depth, depth, column + 1)))
    split = dataset.load("train")
    draws = split.draw(torch.Generator().manual_seed(1))
    assert draws is not None
    inputs, target = split.batch(torch.arange(len(split)), draws)
    columns = (
        ((inputs["depth"][:, 0] * 1417.2594281672277 + 2841.94941272766) / 100 - 10).round().long()
    )
    assert torch.equal(columns, target) and not torch.equal(target, split.target[split.rows].long())
    # Grey keeps its hue; the offset of the value is one number per image, clipped to 0..255.
    grey = inputs["rgb"][:, 0] * 0.229 * 255 + 0.485 * 255
    shift = grey - 8 * columns
    inner = (grey > 30) & (grey < 225)
    for image in range(len(split)):
        spread = shift[image][inner[image]]
        # Bilinear against nearest: at most half a column of 8 grey levels.
        assert float(spread.max() - spread.min()) <= 8.1


def test_reports_say_how_val_was_chosen_and_at_which_size(tmp_path: Path, content: Content) -> None:
    dataset = opened(copies.write_esanet(tmp_path / "copy", content))
    assert dataset.spec.notes == (
        "evaluated at 24x32, not at the 480x640 of published results",
        "class weights of the loss: median frequency",
        "val: 1 training images, whole scenes by rule (no published list)",
    )
    assert NYUv2().spec.notes == (
        "evaluated at 480x640",
        "class weights of the loss: median frequency",
    )
