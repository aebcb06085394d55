"""Declared settings: types, ranges and the sentences that say what is wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from harness.backbones.small import Small
from harness.conformance.synthetic import synthetic_spec
from harness.errors import UserError, shown
from harness.protocol.hyperparameters import Range, resolve
from harness.registry import METHODS
from methods.dmrnet import DMRNet

ALPHA = Range(1e-3, 1e-4, 1e-2, log=True, limits=(0.0, 10.0))
NARROW = Range(0.5, 0.0, 1.0)
WIDTH = Range(16, 1, 64)
CHOICE = Range("a", choices=("a", "b"))
FLAG = Range(True)


@pytest.mark.parametrize(
    ("declared", "value", "expected"),
    [
        (ALPHA, 0.0, 0.0),  # outside the search range, inside the limits
        (ALPHA, 10, 10.0),  # an integer where a float is declared
        (NARROW, 1.0, 1.0),
        (NARROW, 0, 0.0),
        (WIDTH, 64, 64),
        (CHOICE, "b", "b"),
        (FLAG, False, False),
    ],
)
def test_a_legal_value_comes_back_in_the_declared_type(
    declared: Range, value: Any, expected: Any
) -> None:
    found = declared.check("key", value)
    assert found == expected
    assert type(found) is type(declared.default)


@pytest.mark.parametrize(
    ("declared", "value", "message"),
    [
        (ALPHA, -1e-9, r"m.key=-1e-09 is outside its range \[0.0, 10.0\]"),
        (ALPHA, 10.1, r"m.key=10.1 is outside its range"),
        (NARROW, 1.01, r"m.key=1.01 is outside its range \[0.0, 1.0\]"),
        (WIDTH, 0, r"m.key=0 is outside its range \[1, 64\]"),
        (WIDTH, 8.0, r"m.key=8.0 is not a value of type int \(default: 16\)"),
        (WIDTH, True, r"m.key=True is not a value of type int"),
        (ALPHA, True, r"m.key=True is not a value of type float"),
        (ALPHA, "0.1", r"m.key='0.1' is not a value of type float"),
        (ALPHA, math.nan, r"m.key=nan must be a finite number"),
        (ALPHA, math.inf, r"m.key=inf must be a finite number"),
        (FLAG, 1, r"m.key=1 is not a value of type bool"),
        (CHOICE, "aa", r"unknown value for m.key: 'aa'; did you mean 'a'\? known: a, b"),
        (CHOICE, 1, r"m.key=1 is not a value of type str"),
    ],
)
def test_an_illegal_value_is_refused_by_name(declared: Range, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        declared.check("m.key", value)


def test_resolve_fills_in_defaults_in_the_declared_order() -> None:
    declared = {"alpha": ALPHA, "width": WIDTH}
    assert resolve("hyperparameter", declared, {"width": 3}, "m") == {"alpha": 1e-3, "width": 3}
    assert list(resolve("hyperparameter", declared, {"width": 3}, "m")) == ["alpha", "width"]


def test_resolve_names_the_nearest_known_key() -> None:
    with pytest.raises(
        UserError, match=r"unknown hyperparameter 'm\.alhpa'; did you mean 'm\.alpha'"
    ):
        resolve("hyperparameter", {"alpha": ALPHA, "width": WIDTH}, {"alhpa": 1.0}, "m")


def test_describe_says_default_and_search_range() -> None:
    assert ALPHA.describe() == "default 0.001, search 0.0001..0.01 (log)"
    assert CHOICE.describe() == "default 'a', one of a, b"
    assert FLAG.describe() == "default True"


def test_floats_become_buffers_and_the_rest_settings() -> None:
    model = DMRNet(Small(synthetic_spec(3, 5)), hparams={"alpha": 0.25, "hard_set": "m1"})
    assert isinstance(model.alpha, torch.Tensor)
    assert (model.alpha.dim(), model.alpha.item(), model.beta.item()) == (
        0,
        0.25,
        pytest.approx(0.7),
    )
    assert model.settings == {"hard_set": "m1"}
    assert {"alpha", "beta"} <= set(dict(model.named_buffers()))
    # They belong to the trial's identity, not to its weights.
    assert not {"alpha", "beta"} & set(model.state_dict())


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_refuses_an_unknown_hyperparameter(name: str) -> None:
    cls = METHODS.get(name)
    with pytest.raises(UserError, match=f"unknown hyperparameter '{cls.__name__}.no_such'"):
        cls(Small(synthetic_spec(2, 2)), hparams={"no_such": 1.0})


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ("", ""),
        ("abc", "a, b, c"),
        ("abcd", "a, b, c and 1 more"),
        ("abcdefgh", "a, b, c and 5 more"),
    ],
)
def test_many_things_are_shown_as_the_first_three_and_a_number(items: str, said: str) -> None:
    assert shown(items) == said
