"""What a published weight amounts to: the numbers of the sentences, and what the losses have."""

from __future__ import annotations

import re

import pytest
import torch

from harness.backbones.small import Small
from harness.conformance.synthetic import Case, synthetic_spec
from harness.dataset import DataSpec
from harness.method import Method
from harness.protocol.hyperparameters import Value
from harness.registry import METHODS
from methods.dmrnet import DMRNet
from methods.mmanet import MMANet
from tests.support.naive import faces

WEIGHTS = {
    # 3 of 7 combinations and B = 64: 27.43 such samples are expected in a batch.
    ("mmanet", "mar"): (0.5, 0.5 * 3 / 7, 0.5 * 64 * 3 / 7),
    ("dmrnet", "beta"): (0.7, 0.7 * 3 / 7, 0.7 * 64 * 3 / 7),
}


def note(method: str, spec: DataSpec, variant: str, **hparams: Value) -> str:
    (found,) = METHODS.get(method).weight_notes(spec, variant, hparams, 64)
    return found


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize(("method", "name"), list(WEIGHTS))
def test_published_weights_of_three_modalities(method: str, name: str, variant: str) -> None:
    value, own, broadcast = WEIGHTS[method, name]
    assert f"{broadcast:.1f}" == {"mmanet": "13.7", "dmrnet": "19.2"}[method]
    text = note(method, faces(), variant, **{name: value})
    found = [float(n) for n in re.findall(r"([\d.]+) times (?:the size|in the variant)", text)]
    expected = [own, broadcast] if variant == "paper" else [broadcast, own]
    assert found == pytest.approx(expected, rel=5e-3)
    assert text.startswith(f"{name} = {value:g} adds")
    assert "3 of 7 combinations, batches of 64" in text
    assert f"in the variant {'released' if variant == 'paper' else 'paper'}:" in text


@pytest.mark.parametrize(("modalities", "weak"), [(2, "1 of 3"), (4, "7 of 15")])
def test_mmanets_weak_set_has_all_subsets_of_all_modalities_but_one(
    modalities: int, weak: str
) -> None:
    assert f"({weak} combinations" in note(
        "mmanet", synthetic_spec(modalities, 3), "paper", mar=1.0
    )


def test_dmrnets_set_is_as_large_as_it_is_given_or_has_v_members() -> None:
    spec = synthetic_spec(4, 3)
    assert "(4 of 15 combinations" in note("dmrnet", spec, "paper", beta=0.7)
    given = note("dmrnet", spec, "paper", beta=0.7, hard_set="m0,m1+m2")
    assert "(2 of 15 combinations" in given


def test_methods_without_such_a_loss_say_nothing() -> None:
    silent = ("sf_md", "sf_dmr", "hemis", "shaspec", "dedicated")
    assert not [m for m in silent if METHODS.get(m).weight_notes(faces(), "paper", {}, 64)]
    assert not DMRNet.weight_notes(faces(), "paper", {"beta": 0.0}, 64)
    control = METHODS.get("sf_md_scaled").weight_notes(faces(), "paper", {"beta": 0.7}, 64)
    assert control == ["beta = 0.7 multiplies the task loss by 20.2"]


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize(("cls", "term"), [(DMRNet, "hcr"), (MMANet, "mar")])
def test_the_losses_have_that_size(cls: type[Method], term: str, variant: str) -> None:
    """Where every combination occurs equally often and every sample has the loss ln K."""
    spec = synthetic_spec(3, 5)
    case = Case(cls, variant, spec, lambda s: Small(s, {"width": 8}))
    model = case.fresh()
    case.begin(model, 50)
    case.size = 14
    case.split.inputs.update({name: x[:14] for name, x in case.split.inputs.items()})
    case.split.target = case.split.target[:14]
    marked = model.hard if cls is DMRNet else model.weak
    marked.zero_()  # type: ignore[operator]
    marked[[1, 4, 5]] = 1.0  # type: ignore[index, operator]
    heads = [module for name, module in model.named_modules() if name.endswith("head")]
    for parameter in (p for head in heads for p in head.parameters()):
        torch.nn.init.zeros_(parameter)
    terms, _, _ = case.losses(model, case.mixed[:14])
    (_, value), *_ = [(k, w[0]) for k, w in WEIGHTS.items() if k[0] == cls.__name__.lower()]
    share = value * 3 / 7 * (1 if variant == "paper" else 14)
    assert float(terms["task"].detach()) == pytest.approx(float(torch.tensor(5.0).log()), rel=1e-6)
    assert float((terms[term] / terms["task"]).detach()) == pytest.approx(share, rel=1e-5)
