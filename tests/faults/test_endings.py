"""However a method ends its trial, that trial fails with a reason and the others finish."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.store import read_json
from tests.faults.test_at_once import UNTIL, WAITED_FOR
from tests.support.faults import command, forked, method_file, study_file, trials
from tests.support.processes import run

LIMITED = """
        limits = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(open('/proc/self/statm').read().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 2**28, limits[1]))
        try:
            {}
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
"""
STRANGE = "class Strange({}):\n    def __str__(self):\n        raise RuntimeError('no text')\n"

ENDINGS: dict[str, tuple[dict[str, str], str]] = {
    "Exits": ({"loss": "sys.exit(0)"}, "its code ended the process (sys.exit, SystemExit: 0)"),
    "ExitsAtOnce": ({"build": "sys.exit()"}, "its code ended the process (sys.exit, SystemExit)"),
    "Leaves": ({"loss": "raise GeneratorExit('x')"}, "GeneratorExit: x"),
    "Base": (
        {"loss": "raise Strange", "before": "class Strange(BaseException): ..."},
        "Strange",
    ),
    "Unspeakable": (
        {"loss": "raise Strange", "before": STRANGE.format("Exception")},
        "Strange: (its text cannot be made: RuntimeError)",
    ),
    "Nasty": (
        {"loss": "raise ValueError('\\x1b[31mred\\ud800\\nsecond line')"},
        "ValueError: [31mred",
    ),
    "NoMemory": ({"loss": LIMITED.format("bytearray(2**32)")}, "out of memory (MemoryError)"),
    "NoTensor": (
        {"loss": LIMITED.format("torch.zeros(2**32)")},
        "out of memory (RuntimeError: [enforce fail at alloc_cpu",
    ),
    "NoGpuMemory": (
        {"loss": "raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')"},
        "out of memory (OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB); a smaller",
    ),
}


def test_each_ending_is_one_failed_trial_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [method_file(tmp_path, name, **parts) for name, (parts, _) in ENDINGS.items()]
    methods = f"methods=[{','.join([*map(str, files), 'sf_md'])}]"
    assert command(tmp_path / "runs", methods) == 1
    printed = capsys.readouterr()
    found = trials(tmp_path / "runs", methods)
    for name, (_, reason) in ENDINGS.items():
        failure = found[name.lower()].failure()
        assert failure is not None, f"{name} is not recorded as failed"
        assert failure["reason"].startswith(reason), name
        assert failure["reason"].isprintable() and failure["reason"] in printed.out
    assert found["sf_md"].record() is not None
    assert "Traceback" not in printed.err + printed.out
    page = (tmp_path / "runs" / "quickstart" / "report.html").read_text()
    assert "its code ended the process" in page
    # Nothing of it is tried again unless somebody asks for it.
    assert command(tmp_path / "runs", methods) == 1
    assert "9 failed, 0 to run" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["sys.exit(0)", "raise KeyError('x')", "raise BaseException('x')"])
def test_a_method_that_ends_the_process_at_import_is_a_mistake_of_the_command(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = method_file(tmp_path, "Imported", after=f"import sys\n{how}")
    assert command(tmp_path / "runs", f"methods=[{file},sf_md]") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"the method file {file} does not load: " in said


def test_sys_exit_where_a_method_is_asked_about_the_data_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after = "    @classmethod\n    def check(cls, spec, variant, hparams):\n        sys.exit(0)\n"
    file = method_file(tmp_path, "Checks", after=after)
    assert command(tmp_path / "runs", f"methods=[{file}]") == 2
    assert "ended the process (sys.exit, 0); take that out" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.long
def test_a_driver_that_dies_in_a_trial_is_told_at_the_next_start_and_not_for_ever(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """os._exit in the second epoch: the epoch before it is kept, and no epoch comes after it."""
    file = method_file(tmp_path, "Dies", loss="os._exit(7) if self.at == 1 else None")
    methods = f"methods=[{file},sf_md]"
    output, said = tmp_path / "runs", []
    for _ in range(4):
        code = forked(output, methods)
        said.append((code, capfd.readouterr().err))
    assert [code for code, _ in said] == [7, 7, 7, 1]
    note = "dies seed 0: the process that ran it died in it"
    assert [note in text for _, text in said] == [False, True, True, False]
    assert "goes on from epoch 1, and is given up when that happens 2 more times" in said[1][1]
    found = trials(output, methods)
    failure = found["dies"].failure()
    assert failure is not None and "died in it 3 times in one epoch" in failure["reason"]
    assert found["sf_md"].record() is not None
    assert not list((output / "store" / "locks").glob("*.running"))


@pytest.mark.slow
@pytest.mark.long
def test_deaths_with_an_epoch_between_them_do_not_add_up(tmp_path: Path) -> None:
    """A machine that is taken away every epoch: the trial ends all the same."""
    file = method_file(tmp_path, "Taken", loss="os._exit(7) if self.steps > 3 else None")
    methods, epochs = f"methods=[{file}]", "train.epochs=5"
    codes = []
    for _ in range(5):
        # The first step of a process is the first of its epoch: two steps are one epoch.
        codes.append(forked(tmp_path / "runs", methods, epochs))
    assert codes == [7, 7, 7, 7, 0]
    assert trials(tmp_path / "runs", methods, epochs)["taken"].record() is not None


def test_a_trial_in_work_elsewhere_is_not_taken_for_one_that_died(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logs = str(tmp_path / "runs/store/*/log.txt")
    file = method_file(tmp_path, "Slow", UNTIL.format(WAITED_FOR.format(logs)))
    first, second = (study_file(tmp_path, name, f"[{file}]") for name in ("first", "second"))
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = command(tmp_path / "runs", first)
        finally:
            os._exit(code)
    mark = None
    while mark is None:
        mark = next((tmp_path / "runs").glob("store/locks/*.running"), None)
        mark = mark if mark is not None and read_json(mark) else None
    assert command(tmp_path / "runs", second) == 0
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "died in it" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.long
def test_the_same_with_ray(tmp_path: Path) -> None:
    chosen = {name: ENDINGS[name] for name in ("Exits", "Base", "Unspeakable", "NoTensor")}
    files = [method_file(tmp_path, name, **parts) for name, (parts, _) in chosen.items()]
    files.append(method_file(tmp_path, "Dies", loss="os._exit(7)"))
    methods = f"methods=[{','.join([*map(str, files), 'sf_md'])}]"
    arguments = (methods, "executor=ray", "dataset.limit=40", "train.epochs=1", "seeds=[0]")
    small = ("train.batch_size=20", "backbone.width=2", "tracking.enabled=false")
    ended = run(*arguments, *small, f"output={tmp_path / 'runs'}")
    assert ended.returncode == 1
    found = trials(tmp_path / "runs", methods, "train.epochs=1")
    reasons = {label: (trial.failure() or {}).get("reason") for label, trial in found.items()}
    for name, (_, reason) in chosen.items():
        assert str(reasons[name.lower()]).startswith(reason), name
    assert "its worker died" in str(reasons["dies"])
    assert found["sf_md"].record() is not None
    assert "Traceback" not in ended.stderr + ended.stdout
