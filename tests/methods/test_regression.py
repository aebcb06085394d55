"""Which methods predict numbers, how they are trained to, and why the others are not."""

from __future__ import annotations

import pytest
import torch

from harness.backbones.small import Small
from harness.conformance.synthetic import synthetic_spec
from harness.registry import METHODS
from harness.testing import check_method
from tests.methods.test_methods_conformance import HPARAMS

FIT = [name for name in METHODS.names() if "regression" in METHODS.get(name).tasks]
FAST = ("sf_md",)
CASES = [
    pytest.param(name, variant, marks=() if name in FAST else pytest.mark.slow)
    for name in FIT
    for variant in METHODS.get(name).variants
]


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_method_conforms(name: str, variant: str) -> None:
    check_method(
        METHODS.get(name),
        variants=[variant],
        modalities=[3],
        classes=[2],
        task="regression",
        hparams=HPARAMS.get(name),
    )


def test_a_method_of_the_literature_fits_or_says_why_it_does_not() -> None:
    others = [name for name in METHODS.names() if name not in FIT]
    assert others == ["esanet_md", "mmanet", "ogm_md", "rfnet"]
    assert all(METHODS.get(name).unfit["regression"] for name in others)


def test_the_loss_is_the_absolute_error_in_deviations_of_training_labels() -> None:
    model = METHODS.get("sf_md")(Small(synthetic_spec(2, 2, "regression"), {"width": 4}))
    logits = torch.tensor([[0.0], [1.5], [-2.0]])
    target = torch.tensor([100.0, 90.0, 60.0])  # the synthetic labels are 100 +- 20
    assert model.predicted(logits).tolist() == [[100.0], [130.0], [60.0]]
    assert model.task_loss(logits, target).tolist() == pytest.approx([0.0, 2.0, 0.0])


def test_scores_of_classes_are_what_is_predicted() -> None:
    model = METHODS.get("sf_md")(Small(synthetic_spec(2, 3), {"width": 4}))
    logits = torch.randn(4, 3)
    assert model.predicted(logits) is logits and "label_scale" not in model.state_dict()
