"""The processes of a driver's own Ray, so that tests can kill them. Linux only.

All of them are in the session of the process that the driver started Ray in.
"""

from __future__ import annotations

from pathlib import Path


def _facts(process: Path) -> list[str]:
    """State, parent, group and session of a process; all "0" when it is gone."""
    try:
        return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[:4]
    except OSError:
        return ["0"] * 4


def _running() -> dict[int, list[str]]:
    facts = {int(path.name): _facts(path) for path in Path("/proc").glob("[0-9]*")}
    return {pid: found for pid, found in facts.items() if found[0] not in "ZX0"}


def ray_leader(driver: int) -> int:
    """The process that a driver runs Ray in; 0 where there is none just now."""
    for pid, (_, parent, _, session) in _running().items():
        if int(parent) == driver and int(session) == pid:
            return pid
    return 0


def members(leader: int) -> list[int]:
    """The running processes of Ray's session."""
    return [pid for pid, facts in _running().items() if int(facts[3]) == leader]


def part(leader: int, name: str) -> int:
    """The process of Ray's session whose program has this name."""
    for pid in members(leader):
        program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
        if program.endswith(name):
            return pid
    raise AssertionError(f"no {name} in Ray's session {leader}")
