"""Methods of the quick start's network, and datasets without files, pass the conformance checks."""

import pytest

from harness.errors import UserError
from harness.protocol.hyperparameters import Value
from harness.registry import BACKBONES, DATASETS, METHODS
from harness.testing import check_dataset, check_method
from tests.support.registered import ON_SMALL

HPARAMS: dict[str, dict[str, Value]] = {
    "sf_md_reweighted": {"hard_set": "m0"},
    "mmformer": {"d": 32, "heads": 4, "mlp": 64},
}
"""What a method cannot be built without on data it knows nothing about, and sizes that keep the
suite fast.
"""

MANY_CLASSES: dict[str, dict[str, Value]] = HPARAMS | {"mmanet": {"mad": 1.0}}
"""With 40 classes and an untrained teacher, MMANet's default distillation weight (30) hinders
fitting.
"""

CASES = [(name, variant) for name in ON_SMALL for variant in METHODS.get(name).variants]
# Every case is checked; variants other than the paper's, V = 2 and 4, aligned data and pyramids
# among the slow tests.
FIRST = [
    case if case[1] == "paper" else pytest.param(*case, marks=pytest.mark.slow) for case in CASES
]


def _embedded(name: str) -> bool:
    try:
        DATASETS.get(name)().fingerprint()
    except UserError:  # it asks for dataset.root, a manifest or an extra
        return False
    return True


EMBEDDED = [name for name in DATASETS.names() if _embedded(name)]


@pytest.mark.parametrize(
    ("modalities", "classes"),
    [
        (3, 2),
        pytest.param(2, 5, marks=pytest.mark.slow),
        pytest.param(4, 3, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(("name", "variant"), FIRST)
def test_method_conforms(name: str, variant: str, modalities: int, classes: int) -> None:
    check_method(
        METHODS.get(name),
        variants=[variant],
        modalities=[modalities],
        classes=[classes],
        hparams=HPARAMS.get(name),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_method_conforms_on_aligned_modalities(name: str, variant: str) -> None:
    check_method(
        METHODS.get(name),
        variants=[variant],
        modalities=(3,),
        classes=(4,),
        aligned=True,
        hparams=HPARAMS.get(name),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_SMALL)
def test_method_conforms_with_many_classes_at_the_default_width(name: str) -> None:
    check_method(
        METHODS.get(name),
        modalities=(2,),
        classes=(40,),
        backbone=BACKBONES.get("small"),
        hparams=MANY_CLASSES.get(name),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in ON_SMALL if "segmentation" in METHODS.get(name).tasks]
)
def test_method_conforms_on_pyramids(name: str) -> None:
    check_method(
        METHODS.get(name),
        modalities=(3,),
        classes=(4,),
        task="segmentation",
        hparams=HPARAMS.get(name),
    )


def test_digits_is_embedded() -> None:
    assert "digits" in EMBEDDED


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize("limit", [None, 50])
def test_dataset_conforms(name: str, limit: int | None) -> None:
    check_dataset(DATASETS.get(name)(limit=limit))
