"""Rows of the method specs that belong to no single method: ACER, feature diversity, and what
digits show of sigma^2.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch

from harness.backbones.small import Small
from harness.errors import UserError
from harness.paper.channel_distance import channel_distance
from harness.protocol.metrics.anti_spoofing import acer
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.trial import run_trial

GOLDEN = {
    # live right, live wrong, attack right, attack wrong -> ACER in percent: the authors' published
    # test log.
    (16238, 1220, 36436, 3816): 8.2342,
    (17257, 201, 39092, 1160): 2.0166,
    (17416, 42, 39814, 438): 0.6644,
}


def predictions(
    live_right: int, live_wrong: int, attack_right: int, attack_wrong: int
) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.tensor([1] * (live_right + live_wrong) + [0] * (attack_right + attack_wrong))
    said = torch.tensor(
        [1] * live_right + [0] * live_wrong + [0] * attack_right + [1] * attack_wrong
    )
    return torch.nn.functional.one_hot(said, 2).float(), target


@pytest.mark.parametrize("counts", GOLDEN)
def test_T23_acer_of_published_counts(counts: tuple[int, int, int, int]) -> None:
    assert acer(*predictions(*counts)) == pytest.approx(GOLDEN[counts], abs=5e-5)


def test_T23_mean_of_the_published_run() -> None:
    # The seven logged values, in the order of the table; their mean is not the mean of rounded
    # ones.
    logged = [8.2342, 2.0166, 8.9811, 1.2108, 3.2051, 0.8053, 0.6644]
    assert sum(logged) / 7 == pytest.approx(3.5882, abs=1e-4)


def test_T24_everything_rejected_is_fifty_and_class_names_do_not_matter() -> None:
    assert acer(*predictions(0, 100, 300, 0)) == 50.0
    assert acer(*predictions(100, 0, 0, 300)) == 50.0
    scores, target = predictions(90, 10, 260, 40)
    assert (
        acer(scores.flip(1), 1 - target)
        == acer(scores, target)
        == pytest.approx(100 * (10 / 100 + 40 / 300) / 2)
    )


def test_T24_a_missing_class_is_said() -> None:
    with pytest.raises(ValueError, match="it needs live samples and attacks"):
        acer(*predictions(3, 0, 0, 0))


def test_T26_channel_distance_of_identical_and_orthonormal_channels() -> None:
    same = torch.rand(1, 1, 14, 14).expand(2, 128, 14, 14)
    assert channel_distance(same, same).mean().item() == pytest.approx(
        1 - 1 / math.sqrt(128), abs=1e-5
    )
    orthonormal = torch.eye(128, 196).reshape(1, 128, 14, 14)
    assert channel_distance(orthonormal, orthonormal).mean().item() == pytest.approx(
        1 - 1 / 128, abs=1e-5
    )


def test_T26_channel_distance_of_rectified_maps_lies_between_the_two() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 3, 128, 14, 14, generator=generator).relu()
    means = channel_distance(first, second).mean((1, 2))
    assert bool(((means > 0.9116) & (means < 0.9922)).all())


def test_T26_channel_distance_by_a_loop() -> None:
    first, second = torch.rand(2, 3, 2, 2), torch.rand(2, 3, 2, 2)
    found = channel_distance(first, second)
    for b in range(2):
        for k in range(3):
            row = [float((first[b, k] * second[b, j]).sum()) for j in range(3)]
            norm = math.sqrt(sum(value * value for value in row))
            assert found[b, k].tolist() == pytest.approx(
                [1 - value / norm for value in row], abs=1e-6
            )


@pytest.mark.slow
def test_T28_replacement_mean_variance_falls_as_alpha_grows(tmp_path: Path) -> None:
    """Table 6: sigma^2 falls from alpha 0 to 1e-2 (4.78, 1.95, 1.11, 1.01).

    On digits it falls too. The row itself needs the gated CASIA-SURF data (study casia_alpha).
    """
    study = load_study(
        [
            "methods=[sf_dmr]",
            "hparams.sf_dmr.alpha=[0,1e-4,1e-3,1e-2]",
            "seeds=[0]",
            f"output={tmp_path}",
        ]
    )
    plan = Plan(study)
    found = []
    for trial in plan.trials:
        assert run_trial(trial.job).status == "done"
        model = trial.job.method_class()(
            Small(plan.spec, {"width": 16}), "paper", trial.job.spec.hparams
        )
        model.load_state_dict(Store.below(tmp_path).trial(trial.id).weights())
        data = plan.dataset.load("test")
        with torch.no_grad():
            model.eval()
            features = model.prepare(model.encode_all(data.inputs))
            masks = [torch.tensor(c.mask).expand(len(data), -1) for c in plan.combinations]
            variances = [
                model.combine(features, mask).extra["logvar"].exp().mean() for mask in masks
            ]
        found.append(float(torch.stack(variances).mean()))
    assert all(before > after for before, after in itertools.pairwise(found)), found


@pytest.mark.parametrize(
    ("method", "setting"), [("rfnet", "sep_absent"), ("mmformer", "unmask_aux")]
)
def test_matrix_03_what_is_not_encoded_is_not_trained_on(method: str, setting: str) -> None:
    """The official codes train on all modalities, masked or not, which are encoded there."""
    unshown = [f"methods=[{method}]", f"hparams.{method}.{setting}=true"]
    assert Plan(load_study([*unshown, "train.encode=dense"])).rows
    assert Plan(load_study([f"methods=[{method}]", "train.encode=present"])).rows
    with pytest.raises(UserError, match=rf"hparams\.{method}\.{setting}=True trains on modalities"):
        Plan(load_study([*unshown, "train.encode=present"]))
