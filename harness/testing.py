"""Conformance: what any method or dataset, ours or a third party's, must pass.

Works with and without pytest.

from harness.testing import check_method
check_method(MyMethod)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.backbones.small import Small
from harness.conformance import dataset_checks as _dataset_checks
from harness.conformance import method_checks as _method_checks
from harness.conformance import training_checks as _training_checks
from harness.conformance.synthetic import (
    LABEL_SIDE,
    REGISTERED,
    Case,
    Check,
    Factory,
    Violation,
    synthetic_spec,
)
from harness.dataset import Dataset, DataSpec
from harness.errors import unknown
from harness.method import Method
from harness.protocol.hyperparameters import Value

__all__ = ["ConformanceError", "check_dataset", "check_method"]

CHECKS: dict[str, Check] = {
    name: check
    for file in (_method_checks, _training_checks)
    for name, check in REGISTERED.items()
    if check.__module__ == file.__name__
}
"""The checks of a method in the order in which they run, whichever file was imported first."""


class ConformanceError(AssertionError):
    """One violated check.

    Attributes:
        check: the check's name.
        subject: the name of the method's or dataset's class.
        variant, modalities, classes: the case; None for a dataset.
    """

    def __init__(
        self,
        check: str,
        subject: str,
        sentence: str,
        variant: str | None = None,
        modalities: int | None = None,
        classes: int | None = None,
    ) -> None:
        case = "" if variant is None else f" (variant {variant}, V={modalities}, K={classes})"
        super().__init__(f"{check}: {subject}{case}: {sentence}")
        self.check, self.subject = check, subject
        self.variant, self.modalities, self.classes = variant, modalities, classes


def check_method(
    cls: type[Method],
    *,
    variants: Sequence[str] | None = None,
    modalities: Sequence[int] = (2, 3, 4),
    classes: Sequence[int] = (2, 5),
    task: str = "classification",
    aligned: bool = False,
    backbone: Factory | None = None,
    hparams: Mapping[str, Value] | None = None,
    side: int = LABEL_SIDE,
) -> None:
    """Raise ConformanceError at the first check that a method violates, over all variants, V and K.

    About a second per case.

    Args:
        cls: the method's class.
        variants: names from ``cls.variants``; None for all.
        modalities: numbers of modalities V.
        classes: numbers of classes K; of a regression without effect.
        task: what the synthetic data asks for; one of the method's tasks.
        aligned: give all modalities the same shape and declare them spatially aligned.
        backbone: makes the shared network for a dataset's description (a Backbone class will do);
            None for ``small``, width 8.
        hparams: hyperparameters that differ from their defaults; modalities are called m0, m1, ...
        side: height and width of segmentation data.
    """
    for variant in variants or cls.variants or ("paper",):
        if variants and variant not in cls.variants:
            raise unknown(f"variant of {cls.__name__}", variant, cls.variants)
        for v in modalities:
            for k in classes:
                case = Case(
                    cls,
                    variant,
                    synthetic_spec(v, k, task, aligned, side),
                    backbone or _narrow,
                    hparams,
                )
                for name in CHECKS:
                    run_check(name, case)


def run_check(name: str, case: Case) -> None:
    """Run one check of one case.

    ConformanceError when it is violated, or when the method raises.
    """
    facts = (case.variant, len(case.spec.modalities), len(case.spec.classes))
    try:
        CHECKS[name](case)
    except Exception as error:
        raise ConformanceError(
            name, case.method.__name__, _sentence(error, CHECKS[name]), *facts
        ) from error


def check_dataset(dataset: Dataset) -> None:
    """Raise ConformanceError at the first check that a dataset violates.

    Loads every split several times.
    """
    for name, function in _dataset_checks.CHECKS.items():
        try:
            function(dataset)
        except Exception as error:
            raise ConformanceError(
                name, type(dataset).__name__, _sentence(error, function)
            ) from error


def _sentence(error: Exception, check: object) -> str:
    found = (
        str(error) if isinstance(error, Violation) else f"it raised {type(error).__name__}: {error}"
    )
    contract = " ".join((check.__doc__ or "").split())
    return f"{found}; the contract: {contract}"


def _narrow(spec: DataSpec) -> Small:
    return Small(spec, {"width": 8})
