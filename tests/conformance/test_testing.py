"""The conformance checks can fail: each deliberately broken method is reported by the check that is
meant for its fault.
"""

from __future__ import annotations

import pytest

from harness.conformance.synthetic import Case, synthetic_spec
from harness.errors import UserError
from harness.method import Method
from harness.testing import CHECKS, ConformanceError, _narrow, check_method, run_check
from methods.sf_md import SFMD
from tests.support import broken_methods as broken


def violated(cls: type[Method], v: int = 2, k: int = 5) -> dict[str, ConformanceError]:
    """Every check that a method violates, not the first alone."""
    case = Case(cls, next(iter(cls.variants)), synthetic_spec(v, k), _narrow)
    found = {}
    for name in CHECKS:
        try:
            run_check(name, case)
        except ConformanceError as error:
            found[name] = error
    return found


BROKEN: list[tuple[type[Method], str, set[str]]] = [
    # the method, the check that reports it, and the checks that its fault violates by its nature
    # too
    (broken.Multiplied, "leak", set()),
    (broken.MixedWhilePreparing, "leak", {"gradients", "present_policy"}),
    (broken.SeesTheMask, "cache", {"present_policy"}),
    (broken.Cancels, "bfloat16", set()),
    (broken.HiddenNoise, "determinism", {"state"}),
    (broken.HiddenPythonNoise, "determinism", {"bfloat16", "state"}),
    (
        broken.NoisyEvaluation,
        "determinism",
        {
            "leak",
            "cache",
            "overfit",
            "batch_invariance",
            "present_policy",
            "state",
            "parameter_counts",
        },
    ),
    (broken.UnusedParameter, "parameters", set()),
    (broken.GateThatNeverOpens, "parameters", set()),
    (broken.PredictsNothing, "absent_row", set()),
    (broken.BatchMean, "batch_invariance", set()),
    (broken.RowNumber, "batch_invariance", set()),
    (broken.Mined, "state", set()),
    (broken.NotPersistent, "state", set()),
    (broken.FrozenEncoder, "gradients", {"parameters"}),
    (broken.TrainsAbsentEncoders, "gradients", set()),
    (broken.NeedsPairs, "single_modality", {"gradients", "present_policy"}),
    (broken.WrongLabels, "overfit", set()),
    (broken.ForgetsRows, "present_policy", set()),
    (broken.NeedsItsTrainingHead, "parameter_counts", set()),
    (broken.NamesNoModule, "parameter_counts", set()),
    (broken.NoCitation, "declarations", set()),
    (broken.ListOfDeviations, "declarations", set()),
    (broken.DefaultOutOfRange, "declarations", set()),
    (broken.OtherTask, "declarations", set()),
    (broken.NoPaper, "declarations", set()),
    (broken.Refuses, "declarations", set()),
]


@pytest.mark.parametrize(
    ("cls", "check", "too"), BROKEN, ids=[cls.__name__ for cls, _, _ in BROKEN]
)
def test_a_broken_method_is_reported_by_its_check(
    cls: type[Method], check: str, too: set[str]
) -> None:
    found = violated(cls)
    assert set(found) == {check} | too
    with pytest.raises(ConformanceError) as caught:
        check_method(cls, modalities=(2,), classes=(5,))
    assert caught.value.check == check
    assert str(caught.value) == str(found[check])


def test_a_loss_that_is_no_scalar_is_reported_first_by_its_shape() -> None:
    with pytest.raises(ConformanceError) as caught:
        check_method(broken.PerSampleLoss)
    assert caught.value.check == "shapes"


def test_every_check_can_fail() -> None:
    assert {check for _, check, _ in BROKEN} | {"shapes"} == set(CHECKS)


def test_the_error_names_check_method_variant_and_case_and_says_what_the_contract_says() -> None:
    with pytest.raises(ConformanceError) as caught:
        check_method(broken.Multiplied, modalities=(4,), classes=(2,))
    error = caught.value
    assert isinstance(error, AssertionError)
    assert (error.check, error.subject, error.variant, error.modalities, error.classes) == (
        "leak",
        "Multiplied",
        "paper",
        4,
        2,
    )
    assert (
        str(error)
        == "leak: Multiplied (variant paper, V=4, K=2): logits are not finite when absent"
        " modalities hold NaN; the contract: features of absent modalities may be anything, NaN"
        " included, and are replaced by `where`, never by multiplication"
    )


@pytest.mark.parametrize(
    ("cls", "modalities", "classes", "fine"),
    [
        (broken.ThreeModalities, (3, 4), (2,), ((3,), (2,))),
        (broken.ConfusesVAndK, (3,), (3, 2), ((3,), (3,))),
    ],
)
def test_a_method_that_fits_one_v_or_k_is_caught(
    cls: type[Method],
    modalities: tuple[int, ...],
    classes: tuple[int, ...],
    fine: tuple[tuple[int], tuple[int]],
) -> None:
    check_method(cls, modalities=fine[0], classes=fine[1])
    with pytest.raises(
        ConformanceError,
        match=f"V={modalities[-1]}, K={classes[-1]}.* it raised (Value|Index)Error",
    ):
        check_method(cls, modalities=modalities, classes=classes)


def test_an_unknown_variant_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="unknown variant of SFMD 'papr'; did you mean 'paper'"):
        check_method(SFMD, variants=["papr"])


def test_segmentation_methods_are_checked_on_label_maps() -> None:
    check_method(SFMD, task="segmentation", modalities=(2,), classes=(4,), backbone=broken.Pixels)
    with pytest.raises(ConformanceError) as caught:
        check_method(
            broken.Multiplied,
            task="segmentation",
            modalities=(2,),
            classes=(4,),
            backbone=broken.Pixels,
        )
    assert caught.value.check == "leak"
