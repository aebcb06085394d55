"""Names, files and entry points.

A broken plug-in is listed with its reason and breaks nothing else.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import guarded
from harness.errors import UserError
from harness.method import Method
from harness.registry import BACKBONES, DATASETS, METHODS
from harness.show import main as show
from harness.testing import check_method

MINE = '''
from methods.sf_md import SFMD


class {name}(SFMD):
    """The baseline under another name."""
'''


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third party's installed distribution with three methods.

    One works, one does not import, one is of a wrong type.
    """
    (tmp_path / "third_party_good.py").write_text(MINE.format(name="Theirs"))
    (tmp_path / "third_party_broken.py").write_text("import a_library_that_is_not_installed\n")
    info = tmp_path / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[harness.methods]\ntheirs = third_party_good:Theirs\nbroken = third_party_broken:X\nwrong"
        " = third_party_good:__name__\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("plugins")
def test_an_entry_point_is_a_method_like_any_other() -> None:
    assert METHODS.names()[-3:] == ["broken", "theirs", "wrong"]
    check_method(METHODS.get("theirs"), modalities=(2,), classes=(3,))


@pytest.mark.usefixtures("plugins")
def test_a_broken_plug_in_is_listed_with_its_reason_and_breaks_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listing = METHODS.listing()
    assert "a_library_that_is_not_installed" in str(listing["broken"])
    assert "is not a subclass of Method" in str(listing["wrong"])
    assert isinstance(listing["theirs"], type) and isinstance(listing["dmrnet"], type)
    assert guarded(show, ["methods"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert (
        "unavailable" in lines["broken"]
        and "DMRNet" not in lines["broken"]
        and "paper" in lines["dmrnet"]
    )


@pytest.mark.usefixtures("plugins")
def test_asking_for_a_broken_plug_in_is_one_sentence() -> None:
    with pytest.raises(
        UserError,
        match=r"method 'broken' \(third_party_broken:X\) does not load: ModuleNotFoundError: ",
    ):
        METHODS.get("broken")


def test_a_file_must_define_exactly_one_method(tmp_path: Path) -> None:
    two = tmp_path / "two.py"
    two.write_text(MINE.format(name="First") + MINE.format(name="Second"))
    with pytest.raises(UserError, match="exactly one public subclass of Method, and defines 2"):
        METHODS.get(str(two))
    bad = tmp_path / "bad.py"
    bad.write_text("def (:\n")
    with pytest.raises(UserError, match=r"bad.py does not load: SyntaxError"):
        METHODS.get(str(bad))


def test_every_registered_class_loads_and_is_described() -> None:
    for registry in (METHODS, DATASETS, BACKBONES):
        assert all(isinstance(found, type) for found in registry.listing().values())
    for name in METHODS.names():
        cls = METHODS.get(name)
        assert (
            issubclass(cls, Method)
            and cls.__doc__
            and cls.citation
            and cls.provenance
            and "paper" in cls.variants
        )
