"""Any study file and any key=value gives a plan or one sentence."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as maker
from hypothesis import strategies as st

from harness.search.plan import search_plan
from harness.study.config import Study, leaves, load_study
from harness.study.plan import Plan
from tests.support.fuzzing import MAKER, TEXTS, VALUES, sentence

KEYS = [key for key, _, _ in leaves(Study())]
METHODS = st.sampled_from(["sf_md", "hemis", "dmrnet", "dmrnet:released", "./x.py", "all"])
SOME = VALUES | METHODS | st.lists(METHODS, max_size=2)
ENTRIES = st.fixed_dictionaries(
    {"method": METHODS | VALUES},
    optional={"variant": VALUES, "hparams": VALUES, "label": VALUES},
)
ARGUMENTS = st.tuples(st.sampled_from(KEYS) | TEXTS, st.sampled_from(["", ".x", ".", "[0]"]), TEXTS)
INLINE = st.tuples(st.sampled_from(KEYS), SOME | st.lists(ENTRIES, max_size=2))


def as_argument(key: str, value: object) -> str:
    """``key=value`` as a user would quote it."""
    return f"{key}={yaml.safe_dump(value, default_flow_style=True, width=10**9).strip()}"


def plan(arguments: Sequence[str]) -> None:
    """A study down to its rows and its search; data are not read."""
    made = Plan(load_study(arguments))
    assert made.rows and made.study.folder.parent == Path(made.study.output).resolve()
    search_plan(made)


def any_text_as_arguments(parts: list[tuple[str, str, str]]) -> None:
    assert "\n" not in sentence(lambda: plan([f"{key}{end}={text}" for key, end, text in parts]))


def any_value_of_any_key(parts: list[tuple[str, object]]) -> None:
    try:
        arguments = [as_argument(key, value) for key, value in parts]
    except (UnicodeEncodeError, yaml.YAMLError):
        return
    assert "\n" not in sentence(lambda: plan(arguments))


def nested(parts: list[tuple[str, object]]) -> dict[str, object]:
    """``a.b`` and a value as blocks."""
    body: dict[str, object] = {"methods": ["sf_md"], "base": "quickstart"}
    for key, value in parts:
        block, names = body, key.split(".")
        for name in names[:-1]:
            inner = block.get(name)
            if not isinstance(inner, dict):
                inner = block[name] = {}
            block = inner
        block[names[-1]] = value
    return body


def any_file(parts: list[tuple[str, object]], noise: bytes, at: int) -> None:
    """A study with any values, and the same with any bytes in any place."""
    folder = Path(tempfile.mkdtemp())
    try:
        text = yaml.safe_dump(nested(parts), allow_unicode=True).encode("utf-8", "replace")
        for content in (text, text[: at % len(text)] + noise + text[at % len(text) :]):
            (folder / "own.yaml").write_bytes(content)
            said = sentence(lambda: plan([f"study={folder}/own.yaml"]))
            assert "\n" not in said
            sentence(lambda: plan([f"study={folder}/own.yaml", "preset=smoke"]))
        assert [path.name for path in folder.iterdir()] == ["own.yaml"]
    finally:
        shutil.rmtree(folder)


def test_the_makers_reach_what_they_should() -> None:
    """A plan is made of what is right, so that what fuzzing tries is not refused at the door."""
    assert sentence(lambda: plan([as_argument("methods", [{"method": "sf_md"}])])) == ""
    assert asdict(load_study([as_argument("train.epochs", 3)]).train)["epochs"] == 3


TRIED = {
    any_text_as_arguments: (st.lists(ARGUMENTS, min_size=1, max_size=3),),
    any_value_of_any_key: (st.lists(INLINE, min_size=1, max_size=3),),
    any_file: (
        st.lists(st.tuples(st.sampled_from([*KEYS, "presets.smoke", "base", "archive"]), SOME)),
        st.binary(max_size=3),
        st.integers(0, 10**6),
    ),
}


@pytest.mark.parametrize("check", TRIED, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "examples", [30, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.long])]
)
def test_it_is_a_plan_or_a_sentence(check: Callable[..., None], examples: int) -> None:
    maker(MAKER, max_examples=examples)(given(*TRIED[check])(check))()
