"""The lattice of modality subsets against plain enumeration of bits."""

import doctest

import pytest

import harness.protocol.combinations
from harness.errors import UserError
from harness.protocol.combinations import lattice, parse


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_every_non_empty_subset_occurs_once(count: int) -> None:
    names = [f"m{v}" for v in range(count)]
    by_bits = {c.bits: c for c in lattice(names)}
    assert len(lattice(names)) == len(by_bits) == 2**count - 1
    for j in range(1, 2**count):
        members = [names[v] for v in range(count) if j // 2**v % 2]
        assert list(by_bits[j].members) == members
        assert list(by_bits[j].mask) == [name in members for name in names]
        assert by_bits[j].size == len(members)


def test_order_is_by_size_and_then_by_the_datasets_order() -> None:
    names = [c.name for c in lattice(["rgb", "depth", "ir"])]
    assert names == ["rgb", "depth", "ir", "rgb+depth", "rgb+ir", "depth+ir", "rgb+depth+ir"]


@pytest.mark.parametrize(
    ("name", "mask", "index"),
    [
        ("a", (1, 0, 0), 1),
        ("b", (0, 1, 0), 2),
        ("c", (0, 0, 1), 4),
        ("a+c", (1, 0, 1), 5),
        ("a+b+c", (1, 1, 1), 7),
    ],
)
def test_T14_index_of_a_combination(name: str, mask: tuple[int, ...], index: int) -> None:
    combination = parse(name, "abc")
    assert combination.bits == index
    assert tuple(map(int, combination.mask)) == mask


def test_parse_reads_both_separators_and_any_order() -> None:
    assert parse("c+a", "abc") == parse("a.c", "abc")
    assert parse("c.a", "abc").name == "a+c"
    assert parse("c+a", "abc").key == "a.c"
    assert all(parse(c.key, "abcd") == c for c in lattice("abcd"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rbg+ir", "unknown modality 'rbg'; did you mean 'rgb'"),
        ("", "unknown modality ''"),
        ("ir+ir", "combination 'ir\\+ir' names a modality twice"),
    ],
)
def test_parse_refuses_what_is_no_combination(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(name, ["rgb", "depth", "ir"])


def test_the_docstrings_examples_hold() -> None:
    assert doctest.testmod(harness.protocol.combinations).failed == 0
