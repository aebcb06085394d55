"""Local pretrained weights: read strictly, summed for one-channel stems, known by their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.backbones import _pretrained
from harness.backbones._esanet_encoder import JointEncoder
from harness.backbones.esanet import ESANet
from harness.backbones.small import Small
from harness.errors import UserError
from harness.store import Store
from harness.study.plan import Plan
from harness.training.spec import TrialSpec
from harness.training.trial import run_trial
from tests.backbones.test_esanet import rgbd
from tests.conftest import MakeJob, MakeStudy

SPEC = rgbd(64, 64, 5)
OPTIONS = {"encoder": "r18_basic", "width": 4}


def weights(**options: object) -> dict[str, Tensor]:
    """A state dict in torchvision's layout, of another seed.

    With a classifier and without counts of batches.
    """
    torch.manual_seed(5)
    encoder = ESANet(SPEC, OPTIONS | options).encoder("rgb")
    merged = {**encoder.stem.state_dict(), **encoder.stages.state_dict()}  # type: ignore[union-attr, operator]
    kept = {
        name: torch.randn(x.shape)
        for name, x in merged.items()
        if not name.endswith("num_batches_tracked")
    }
    return kept | {"fc.weight": torch.zeros(10, 32), "fc.bias": torch.zeros(10)}


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_names_are_those_of_torchvision() -> None:
    names = set(weights())
    first = {
        "conv1.weight",
        *(f"bn1.{part}" for part in ("weight", "bias", "running_mean", "running_var")),
    }
    block = {f"layer1.0.conv{i}.weight" for i in (1, 2)} | {f"layer1.0.bn{i}.bias" for i in (1, 2)}
    assert (
        first
        | block
        | {
            "layer2.0.downsample.0.weight",
            "layer2.0.downsample.1.running_var",
            "layer4.1.conv2.weight",
        }
        <= names
    )
    # ResNet-18: 20 convolutions and their batch norms with four entries each, and the classifier.
    assert len(names) == 20 + 20 * 4 + 2


WRAPPERS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "plain": lambda state: state,
    "nested": lambda state: {
        "state_dict": {f"encoder.{name}": x for name, x in state.items()},
        "epoch": 3,
    },
    "parallel": lambda state: {f"module.{name}": x for name, x in state.items()},
}


@pytest.mark.parametrize("wrapper", list(WRAPPERS))
@pytest.mark.parametrize("form", ["parallel", "joint"])
def test_every_encoder_starts_with_the_file(tmp_path: Path, form: str, wrapper: str) -> None:
    state = weights()
    path = saved(tmp_path / "w.pth", WRAPPERS[wrapper](state))
    backbone = ESANet(SPEC, OPTIONS | {"form": form, "pretrained": str(path)})
    encoders = [backbone.encoder(name) for name in SPEC.names]
    mixer = backbone.mixer() if form == "joint" else None
    stages: list[nn.Module] = (
        list(mixer.streams) if isinstance(mixer, JointEncoder) else [e.stages for e in encoders]
    )  # type: ignore[misc]
    for encoder, layers, summed in zip(encoders, stages, (False, True), strict=True):
        found = {**encoder.stem.state_dict(), **layers.state_dict()}  # type: ignore[union-attr, operator]
        conv1 = state["conv1.weight"].sum(1, keepdim=True) if summed else state["conv1.weight"]
        assert torch.equal(found.pop("conv1.weight"), conv1)
        assert all(
            torch.equal(x, state[name])
            for name, x in found.items()
            if not name.endswith("num_batches_tracked")
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert backbone.values["pretrained_sha256"] == digest
    assert backbone.remarks() == [
        f"encoders started from local pretrained weights (sha256 {digest}); none was missing, all"
        " names in it but fc.* were used"
    ]


def test_scratch_is_said() -> None:
    assert ESANet(SPEC, OPTIONS).remarks()[0].startswith("scratch: ")


def test_what_is_missing_unlike_or_not_expected_is_named(tmp_path: Path) -> None:
    def started(state: object, **options: object) -> ESANet:
        backbone = ESANet(
            SPEC, OPTIONS | options | {"pretrained": str(saved(tmp_path / "w.pth", state))}
        )
        backbone.encoder("rgb")
        return backbone

    state = weights()
    with pytest.raises(
        UserError,
        match=r"w\.pth lacks layer2\.0\.bn2\.bias for the encoder of rgb; check backbone\.encoder",
    ):
        started({name: x for name, x in state.items() if name != "layer2.0.bn2.bias"})
    with pytest.raises(
        UserError,
        match=r"has other shapes in conv1\.weight, bn1\.weight, .* for the encoder of rgb; check",
    ):
        started(state, width=8)
    with pytest.raises(UserError, match=r"lacks layer1\.0\.conv3x1_1\.weight"):
        started(state, encoder="r18_nbt1d")
    assert (
        started(state | {"layer5.0.conv1.weight": torch.zeros(1)})
        .remarks()[0]
        .endswith("no encoder has: layer5.0.conv1.weight")
    )
    with pytest.raises(UserError, match="does not hold a state dict"):
        started([1, 2])


def test_files_that_are_not_what_they_should_be_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", weights())
    with pytest.raises(
        UserError, match=r"has the sha256 [0-9a-f]{64}, not backbone\.pretrained_sha256=00"
    ):
        ESANet(SPEC, OPTIONS | {"pretrained": str(path), "pretrained_sha256": "00"})
    with pytest.raises(UserError, match="needs its file"):
        ESANet(SPEC, OPTIONS | {"pretrained_sha256": "00"})
    with pytest.raises(UserError, match="cannot be read"):
        ESANet(SPEC, OPTIONS | {"pretrained": str(tmp_path / "none.pth")})
    (tmp_path / "code.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match="weights_only"):
        ESANet(SPEC, OPTIONS | {"pretrained": str(tmp_path / "code.pth")})
    odd = {"bn1.weight": torch.ones(4).to_sparse(), "bn1.bias": torch.ones(4).to(torch.complex64)}
    with pytest.raises(UserError, match=r"sparse, .* no real numbers: bn1\.weight, bn1\.bias"):
        ESANet(SPEC, OPTIONS | {"pretrained": str(saved(tmp_path / "odd.pth", weights() | odd))})
    assert not [
        word
        for word in ("load_url", "urlopen", "http")
        if word in Path(_pretrained.__file__).read_text()
    ]


def test_the_files_hash_is_in_the_trials_id_and_its_path_is_not(
    tmp_path: Path, make_study: MakeStudy
) -> None:
    first, copy = saved(tmp_path / "a.pth", weights()), tmp_path / "b.pth"
    copy.write_bytes(first.read_bytes())
    other = saved(tmp_path / "c.pth", {name: x + 1 for name, x in weights().items()})

    def spec(path: Path | None) -> tuple[TrialSpec, dict[str, str]]:
        plan = Plan(make_study())
        network = ESANet(SPEC, OPTIONS | ({"pretrained": str(path)} if path else {}))
        return (
            replace(plan.trials[0].job.spec, backbone={"name": "esanet", **network.facts}),
            network.paths,
        )

    ids = {path: spec(path)[0].id for path in (first, copy, other, None)}
    assert ids[first] == ids[copy] and len({ids[first], ids[other], ids[None]}) == 3
    assert str(tmp_path) not in json.dumps(spec(first)[0].backbone)
    assert spec(copy)[1] == {"pretrained": str(copy)} and spec(None)[1] == {"pretrained": "none"}


def test_what_the_network_has_to_say_is_in_the_record(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Small, "remarks", lambda self: [f"width {self.width}"])
    job = make_job("dmrnet")
    assert run_trial(job).status == "done"
    record = Store(Path(job.store)).trial(job.spec.id).record()
    assert record is not None and record["remarks"][0] == "width 16" and len(record["remarks"]) > 1
