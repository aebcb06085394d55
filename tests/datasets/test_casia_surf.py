"""CASIA-SURF on the synthetic sample: what networks receive, against other code.

Damage, protocols, a study that is resumed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from datasets._casia.lists import read_list
from datasets._casia.protocols import LISTS, PUBLISHED
from datasets.casia_surf import NAMES, CasiaSurf
from datasets.sample import write
from harness import run
from harness.cli import guarded
from harness.dataset import SPLITS
from harness.errors import UserError
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.testing import check_dataset
from harness.training.trial import run_trial

Make = Callable[..., CasiaSurf]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("casia") / "sample"
    write("casia_surf", folder)
    return folder


@pytest.fixture
def copy(sample: Path, tmp_path: Path) -> Path:
    """The sample, free to be damaged."""
    return Path(shutil.copytree(sample, tmp_path / "copy"))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make(root, protocol=..., limit=..., size=..., ...)``, prepared."""

    def make(
        root: Path, protocol: str = "paper", limit: int | None = None, **options: object
    ) -> CasiaSurf:
        dataset = CasiaSurf(
            root, None, protocol, limit, {"size": 32, **options}, tmp_path / "cache"
        )
        dataset.prepare(lambda name, done, total: None)
        return dataset

    return make


def lines(root: Path, name: str) -> list[list[str]]:
    return [line.split(" ") for line in (root / name).read_text().splitlines()]


def test_conformance(sample: Path, make: Make) -> None:
    check_dataset(make(sample, limit=6))
    check_dataset(make(sample, "leave_out_5", limit=6))


def test_files_become_what_the_lists_say(sample: Path, make: Make) -> None:
    dataset = make(sample)
    assert dataset.counts() == {"train": 180, "val": 90, "test": 180}
    for split, name, side in (
        ("train", "train_list.txt", 41),
        ("test", "test_private_list.txt", 32),
    ):
        loaded, listed = dataset.load(split), lines(sample, name)
        assert loaded.target.tolist() == [int(line[3]) for line in listed]
        for row in (0, 77, 179):
            for column, modality in enumerate(NAMES):
                stored = loaded.inputs[modality][row]
                with Image.open(sample / listed[row][column]) as picture:
                    nearest = np.asarray(
                        picture.convert("RGB").resize((side, side), Image.Resampling.BOX),
                        dtype=np.float32,
                    )
                assert stored.shape == (3, side, side) and stored.dtype == torch.uint8
                # Bilinear samples against box means of the same place: like each other, and unlike
                # the other pictures.
                assert (
                    np.corrcoef(stored.numpy().ravel(), nearest.transpose(2, 0, 1).ravel())[0, 1]
                    > 0.98
                )


def test_evaluation_input_is_the_bilinear_picture_normalised(sample: Path, make: Make) -> None:
    loaded = make(sample, limit=4).load("val")
    listed = lines(sample, "val_private_list.txt")
    row = next(n for n, line in enumerate(listed) if int(line[3]) == 1)
    first_live = loaded.target.tolist().index(1)
    with Image.open(sample / listed[row][0]) as picture:
        pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float()
    # PyTorch's own interpolation, another code than the cache's.
    resized = torch.nn.functional.interpolate(
        pixels, (32, 32), mode="bilinear", align_corners=False
    ).round()
    received = loaded.batch(torch.tensor([first_live]))[0]["rgb"]
    assert torch.allclose(received, (resized - 127.5) / 128, atol=1.01 / 128)
    assert loaded.augmentation is None


def test_one_draw_moves_all_three_pictures(sample: Path, copy: Path, make: Make) -> None:
    for line in lines(copy, "train_list.txt"):
        for other in line[1:3]:
            shutil.copyfile(copy / line[0], copy / other)
    split = make(copy, limit=12).load("train")
    draws = split.draw(torch.Generator().manual_seed(0))
    inputs, _ = split.batch(torch.arange(12), draws)
    assert torch.equal(inputs["rgb"], inputs["depth"]) and torch.equal(inputs["rgb"], inputs["ir"])
    assert not torch.allclose(inputs["rgb"], split.batch(torch.arange(12))[0]["rgb"], atol=0.1)


def test_published_sizes() -> None:
    spec = CasiaSurf().spec
    assert [modality.shape for modality in spec.modalities] == [(3, 112, 112)] * 3
    assert (spec.task, spec.metric, spec.classes, spec.aligned) == (
        "anti_spoofing",
        "acer",
        ("attack", "live"),
        True,
    )
    assert not spec.synthetic


def test_train_is_stored_at_144(sample: Path, make: Make) -> None:
    dataset = make(sample, limit=2, size=112)
    assert dataset.load("train").inputs["ir"].shape[1:] == (3, 144, 144)
    assert dataset.load("test").inputs["ir"].shape[1:] == (3, 112, 112)


def test_synthetic_is_part_of_the_identity(sample: Path, tmp_path: Path) -> None:
    settings = [
        "study=casia_all_methods",
        f"dataset.root={sample}",
        "preset=smoke",
        f"output={tmp_path}",
    ]
    plan = Plan(load_study(settings))
    assert plan.spec.synthetic and all(trial.job.spec.dataset["synthetic"] for trial in plan.trials)
    assert plan.size == 16 + 7


def test_real_data_with_other_counts_are_refused(copy: Path, make: Make) -> None:
    (copy / "SYNTHETIC.md").unlink()
    with pytest.raises(
        UserError,
        match=(
            r"train_list.txt has 180 samples, 54 of them live; published are 29,266 and"
            r" 8,942.*counts=report"
        ),
    ):
        make(copy)
    assert make(copy, counts="report", limit=4).counts() == {"train": 4, "val": 4, "test": 4}


def test_missing_files(copy: Path, make: Make) -> None:
    gone = [line[1] for line in lines(copy, "test_private_list.txt")[:5]]
    for file in gone:
        (copy / file).unlink()
    with pytest.raises(UserError) as caught:
        make(copy)
    message = str(caught.value)
    assert (
        message.startswith("5 files of 1,350 that the lists name cannot be found")
        and "and 2 more; unpack" in message
    )
    assert all(file in message for file in gone[:3]) and gone[3] not in message


def test_archives_in_folders_of_their_own(copy: Path, make: Make) -> None:
    (copy / "valid").mkdir()
    (copy / "Val").rename(copy / "valid" / "Val")
    with pytest.raises(UserError, match=r"270 files .* Val/ lies in .*valid; move it to the root"):
        make(copy)
    shutil.rmtree(copy / "valid")
    with pytest.raises(
        UserError, match=r"270 files .* unpack the archive with Val/ beside the lists"
    ):
        make(copy)


def test_damaged_pictures_are_refused_or_left_out(copy: Path, make: Make) -> None:
    listed = lines(copy, "val_private_list.txt")
    truncated, empty, same = copy / listed[3][1], copy / listed[8][2], copy / listed[8][0]
    truncated.write_bytes(truncated.read_bytes()[:1500])
    empty.write_bytes(b"")
    same.write_bytes(b"no picture at all")
    with pytest.raises(UserError) as caught:
        make(copy)
    assert all(str(path) in str(caught.value) for path in (truncated, empty, same))
    dataset = make(copy, unreadable="exclude")
    assert dataset.counts() == {"train": 180, "val": 88, "test": 180}
    whole, kept = [int(line[3]) for line in listed], dataset.load("val")
    assert kept.target.tolist() == [label for row, label in enumerate(whole) if row not in (3, 8)]
    third = kept.batch(torch.tensor([3]))[0]["rgb"]
    with Image.open(copy / listed[4][0]) as picture:
        plain = np.asarray(
            picture.resize((32, 32), Image.Resampling.BOX), dtype=np.float32
        ).transpose(2, 0, 1)
    assert np.corrcoef(third.numpy().ravel(), plain.ravel())[0, 1] > 0.98
    said = dataset.prepare(lambda name, done, total: None)
    assert any(
        "val: 2 samples left out" in sentence and truncated.name in sentence for sentence in said
    )


def test_the_fingerprint_knows_contents_and_not_places(copy: Path, tmp_path: Path) -> None:
    def fingerprint(root: Path, **arguments: object) -> str:
        return CasiaSurf(root, **arguments).fingerprint()  # type: ignore[arg-type]

    first = fingerprint(copy)
    elsewhere = Path(shutil.copytree(copy, tmp_path / "elsewhere"))
    assert fingerprint(elsewhere) == first
    others = [
        fingerprint(copy, protocol="leave_out_4"),
        fingerprint(copy, limit=20),
        fingerprint(copy, options={"size": 48}),
    ]
    picture = elsewhere / lines(copy, "train_list.txt")[0][2]
    picture.write_bytes(picture.read_bytes() + b"\0")
    others.append(fingerprint(elsewhere))
    assert len({first, *others}) == 5


# ---------------------------------------------------------------------- the sample


def test_each_modality_tells_and_all_tell_more(sample: Path, make: Make) -> None:
    dataset = make(sample, size=16)
    train, test = dataset.load("train").received(), dataset.load("test").received()

    def error(names: tuple[str, ...]) -> float:
        """Balanced error of a linear classifier on 8x8 pixels, in percent."""
        x, y = (
            torch.cat([torch.nn.functional.avg_pool2d(s.inputs[n], 2).flatten(1) for n in names], 1)
            for s in (train, test)
        )
        model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000).fit(
            x.numpy(), train.target.numpy()
        )
        wrong = torch.from_numpy(model.predict(y.numpy())) != test.target
        return float(50 * sum(wrong[test.target == label].double().mean() for label in (0, 1)))

    depth, rgb, ir, everything = error(("depth",)), error(("rgb",)), error(("ir",)), error(NAMES)
    assert 0 < everything < depth < rgb < ir < 40


def test_the_layout_is_the_true_one(sample: Path) -> None:
    train = lines(sample, "train_list.txt")
    pattern = re.compile(
        r"Training/(real|fake)_part/(CLKJ_[ABC]S\d{4})/(real|04_en_b|05_enm_s|06_enm_b)\.rssdk/color/[1-9]\d*\.jpg"
    )
    found = [pattern.fullmatch(line[0]) for line in train]
    assert all(found)
    parts = {
        kind: {match[2] for match in found if match and match[1] == kind}
        for kind in ("real", "fake")
    }
    assert parts["real"] == parts["fake"] and len(parts["real"]) == 18
    assert all(
        re.fullmatch(r"Testing/0000/\d{6}-color\.jpg", line[0])
        for line in lines(sample, "test_private_list.txt")
    )
    assert all(len(line) == 4 and line[3] == "" for line in lines(sample, "val_public_list.txt"))
    assert (sample / "train_list.txt").read_bytes().count(b"\r") == 0
    sizes = {Image.open(sample / line[column]).size for line in train for column in (0, 1, 2)}
    sides = [side for size in sizes for side in size]
    assert len(sizes) > 50 and min(sides) > 200 and max(sides) < 420
    assert {Image.open(sample / line[0]).format for line in train} == {"JPEG"}


@pytest.mark.parametrize("protocol", ["leave_out_4", "leave_out_5", "leave_out_6"])
def test_leave_one_out_on_the_sample(protocol: str, sample: Path) -> None:
    # 18 subjects, 9, 3 and 6 of them per split; 3 live frames each, and 3, 2, 2 of the attacks 4,
    # 5, 6.
    attacks = {"4": 3, "5": 2, "6": 2}
    held_out = attacks.pop(protocol[-1])
    others = sum(attacks.values())
    assert CasiaSurf(sample, protocol=protocol).counts() == {
        "train": 9 * (3 + others),
        "val": 3 * (3 + others),
        "test": 6 * (3 + held_out),
    }


def test_no_root_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CASIA_SURF_ROOT", raising=False)
    assert guarded(run.main, ["study=casia_all_methods", f"output={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for part in (
        "dataset.root",
        "CASIA_SURF_ROOT",
        "Training/",
        "train_list.txt",
        "python -m datasets.sample casia_surf DIR",
    ):
        assert part in message
    assert (
        guarded(
            run.main,
            [
                "study=casia_all_methods",
                f"dataset.root={tmp_path / 'nowhere'}",
                f"output={tmp_path}",
            ],
        )
        == 2
    )
    assert "is not a folder" in capsys.readouterr().err


def test_the_environment_variable_names_the_root(
    sample: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CASIA_SURF_ROOT", str(sample))
    assert (
        Plan(load_study(["study=casia_all_methods", f"output={tmp_path}"])).dataset.counts()["test"]
        == 180
    )


def test_a_study_from_pictures_to_a_table_and_on(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        *(
            "study=casia_all_methods",
            "preset=smoke",
            "methods=[sf_md,dmrnet:released]",
            "executor=local",
            "tracking.enabled=false",
        ),
        *(
            f"dataset.root={sample}",
            "dataset.limit=24",
            "dataset.options.size=32",
            "train.epochs=2",
            f"output={tmp_path}",
        ),
    ]
    plan = Plan(load_study(settings))
    plan.dataset.prepare(lambda name, done, total: None)
    assert run_trial(plan.trials[0].job).status == "done"
    assert guarded(run.main, settings) == 0
    said = capsys.readouterr().out
    assert "1 done, 0 stale, 0 failed, 1 to run" in said and "executed 1 trials" in said
    assert "casia_surf (synthetic), acer on test in %" in said
    records = [Store.below(str(tmp_path)).trial(trial.id).record() for trial in plan.trials]
    assert all(
        record is not None and record["cells"]["test"]["rgb+depth+ir"]["n"] == 24
        for record in records
    )


# ------------------------------------------------------------------ lists that are not ours to ship

ACCEPTANCE = os.environ.get("HARNESS_ACCEPTANCE")


@pytest.mark.skipif(
    ACCEPTANCE is None, reason="HARNESS_ACCEPTANCE does not name a folder with the published lists"
)
def test_published_lists(tmp_path: Path) -> None:
    """``casia_surf/`` there: any distributed lists by their names, Parkin's ``phase1_list.txt`` and
    ``folds_by_fakes/fold1/``.
    """
    folder = Path(str(ACCEPTANCE)) / "casia_surf"
    seen = 0
    for split in SPLITS:
        if (folder / LISTS[split]).is_file():
            samples = read_list(folder / LISTS[split], split).samples
            assert (len(samples), sum(s.label for s in samples)) == PUBLISHED[split]
            seen += 1
    if (folder / "phase1_list.txt").is_file() and (folder / LISTS["val"]).is_file():
        rows = [
            line.split(",") for line in (folder / "phase1_list.txt").read_text().splitlines()[1:]
        ]
        own = read_list(folder / LISTS["val"], "val").samples
        assert [(s.files[0], s.label) for s in own] == [
            (row[0][row[0].index("Val/") :], int(row[3])) for row in rows
        ]
        seen += 1
    folds = [
        folder / "folds_by_fakes" / "fold1" / name
        for name in ("train_list.txt", "val_list_orgl.txt")
    ]
    if all(path.is_file() for path in folds):
        rows = [line for path in folds for line in path.read_text().splitlines()[1:]]
        plain = [
            line.replace("train/Training", "Training").replace("_resized", "").replace(",", " ")
            for line in rows
        ]
        (tmp_path / "train_list.txt").write_text("\n".join(plain))
        samples = read_list(tmp_path / "train_list.txt", "train").samples
        assert (len(samples), sum(s.label for s in samples)) == PUBLISHED["train"]
        assert (len({s.subject for s in samples}), len({s.session for s in samples})) == (300, 4)
        seen += 1
    if not seen:
        pytest.skip(f"{folder} has none of the published lists")
