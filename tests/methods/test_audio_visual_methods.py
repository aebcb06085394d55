"""Every method on the audio-visual network: conformance, and operators on pooled vectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.conformance.synthetic import Case
from harness.conformance.training_checks import _trainer
from harness.method import EpochContext
from harness.protocol.hyperparameters import Value
from harness.registry import METHODS
from harness.testing import CHECKS, run_check
from harness.training.loop import EpochReport
from methods.dmrnet import DMRNet
from methods.ogm_md import OGMMD
from methods.rfnet import RFNet
from methods.sf_pcme import ONE_PLACE, SFPCME
from methods.sf_pe import SFPE
from tests.support.av import TINY, av_case, heard_and_seen, narrow, on_narrow, size
from tests.support.registered import methods_on

NARROW = heard_and_seen(TINY, 5)
METHODS_HERE = methods_on(narrow(NARROW))
HPARAMS: dict[str, dict[str, Value]] = {
    "sf_md_reweighted": {"hard_set": "audio"},
    "mmformer": {"d": 32, "heads": 4, "mlp": 64, "aux_scale": 0.3},
    "sf_dmr_scaled": {"beta": 0.1},
    "dmrnet:released": {"beta": 0.1},
}
"""Sizes that keep the suite fast, and weights with which training does not diverge at the checks'
learning rate of 0.05.
"""

WHOLE = ("ogm_md",)
LONGEST = ("overfit", "state")
"""Checks that train for long: here for the methods in WHOLE alone; on the quick start's network
they are run for every method.
"""


def case_of(name: str, variant: str = "paper", **options: str) -> Case:
    hparams = HPARAMS.get(name if variant == "paper" else f"{name}:{variant}", HPARAMS.get(name))
    return av_case(METHODS.get(name), variant, hparams, **options)


def conforms(case: Case, whole: bool = False) -> None:
    for check in CHECKS:
        if whole or check not in LONGEST:
            run_check(check, case)


@pytest.mark.parametrize(
    "name",
    [
        name if name in WHOLE else pytest.param(name, marks=pytest.mark.slow)
        for name in METHODS_HERE
    ],
)
def test_method_conforms_on_it(name: str) -> None:
    conforms(case_of(name), name in WHOLE)


RELEASED = [
    (name, variant)
    for name in METHODS_HERE
    for variant in METHODS.get(name).variants
    if variant != "paper"
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), RELEASED)
def test_other_variants_conform_on_it(name: str, variant: str) -> None:
    conforms(case_of(name, variant))


JOINED = methods_on(narrow(NARROW, fusion="film"))


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["sum", "film", "gated"])
@pytest.mark.parametrize("name", ["dmrnet", "rfnet", "shaspec"])
def test_methods_conform_with_other_fusions(name: str, fusion: str) -> None:
    conforms(case_of(name, fusion=fusion))


def test_only_moments_and_modulation_refuse_a_fusion_that_joins() -> None:
    assert set(METHODS_HERE) - set(JOINED) == {"hemis", "ogm_md"}
    assert set(methods_on(narrow(NARROW, fusion="sum"))) == set(METHODS_HERE)


# ---------------------------------------------------------------------- what one place means


def test_rfnet_has_one_region_and_says_so() -> None:
    for aligned, why in (
        (False, "modalities are not spatially aligned"),
        (True, "network's maps have one place"),
    ):
        spec = heard_and_seen(TINY, 5)
        object.__setattr__(spec, "aligned", aligned)
        model = RFNet(narrow(spec))
        assert model.k == 1 and len(model.prm) == 0
        assert (
            f"K = 1: the {why}, so regions, their maps (PRM) and their loss are left out"
            in model.remarks(100)
        )


@torch.no_grad()
def test_a_distribution_over_maps_of_one_place_is_one_over_vectors() -> None:
    """SF-PE and DMRNet without HCR are one model here: a 1x1 convolution of a 1x1 map is a linear
    layer.
    """
    maps, vectors = on_narrow(DMRNet), on_narrow(SFPE)
    weights = maps.state_dict()
    renamed = {key.replace("heads.", "distribution."): value for key, value in weights.items()}
    vectors.load_state_dict(
        {key: renamed[key].reshape(value.shape) for key, value in vectors.state_dict().items()}
    )
    case, alike = av_case(DMRNet), []
    for model in (maps, vectors):
        model.train()
        terms, output, _ = Case(type(model), "paper", case.spec, case.factory).losses(
            model, case.mixed, 0
        )
        alike.append((output.logits, terms["task"], terms["kl"]))
    for one, other in zip(*alike, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_sf_pcme_has_no_attention_over_one_place_and_says_so() -> None:
    model = SFPCME(narrow())
    channels, linear = 64, 64 * 64 + 64
    assert size(model.distribution) == 4 * linear + 2 * channels
    assert model.remarks(100) == [ONE_PLACE]
    assert ONE_PLACE.startswith("the attention is left out")


def test_dmrnet_mines_its_hard_set_in_the_released_variant_too() -> None:
    """CASIA-SURF's constant belongs to CASIA-SURF: elsewhere the set is mined once, or given."""
    model = av_case(DMRNet, "released", {"beta": 0.1}).trained
    assert any("mined once" in remark for remark in model.remarks(100))
    given: Any = on_narrow(DMRNet, "released", {"hard_set": "audio"})
    assert given.remarks(100) == ["hard combinations (given): audio"]


# ----------------------------------------------------------------- the training loop calls the hook


def test_the_training_loop_modulates_gradients() -> None:
    history: dict[str, list[dict[str, float]]] = {}
    for modulation, alpha in (("ogm", 0.8), ("ogm", 0.0)):
        case = av_case(OGMMD, hparams={"modulation": modulation, "alpha": alpha})

        def keep(report: EpochReport, key: str = str(alpha)) -> None:
            history[key] = [entry["values"] for entry in report.history]
            if report.epoch == 1:
                raise StopIteration

        with pytest.raises(StopIteration):
            _trainer(case, case.fresh(), keep).fit()
    assert [
        min(values["method/k/audio"], values["method/k/visual"]) < 1 for values in history["0.8"]
    ] == [True, True]
    assert [(values["method/k/audio"], values["method/k/visual"]) for values in history["0.0"]] == [
        (1.0, 1.0)
    ] * 2
    assert [values["train/loss"] for values in history["0.8"]] != [
        values["train/loss"] for values in history["0.0"]
    ]
    assert EpochContext(0, 15, ()).starts(51) == 8  # of 15 epochs 0 to 7 are modulated
