"""What tests of archives start from: a store with its archive, and a store elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.store import Store
from tests.support.archives import Refused, Source, make_source, refusal


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Made anew for each file of tests, because some of them change the store."""
    return make_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def archive(source: Source) -> Path:
    return source.archive


@pytest.fixture
def elsewhere(tmp_path: Path) -> Store:
    return Store.below(tmp_path / "elsewhere")


@pytest.fixture
def refused(elsewhere: Store, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Imports an archive, which must be refused, and returns the sentence."""
    return lambda path: refusal(path, elsewhere, capsys)
