"""A report names the cause."""

from __future__ import annotations

import faulthandler
import os
from pathlib import Path

import pytest

from orchestrator.node import death
from orchestrator.node.death import MemoryWitness, decode_status, make_report


def status_of(end: object) -> int:
    """Return the wait status of a child that ends like this."""
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()
        if isinstance(end, int):
            os._exit(end)
        os.kill(os.getpid(), int(str(end)))
        os._exit(99)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (0, (0, None)),
        (3, (3, None)),
        ("9", (None, "SIGKILL")),
        ("11", (None, "SIGSEGV")),
        ("40", (None, "signal 40")),
    ],
)
def test_how_a_process_ended(end: object, expected: tuple[int | None, str | None]) -> None:
    assert decode_status(status_of(end)) == expected


def report(status: int | None, decision: str | None = None, memory: str | None = None) -> dict[str, object]:
    return make_report(
        pid=5, node="ab", status=status, decision=decision, stderr_tail=["last line"], memory=memory
    )


def test_reports_say_why() -> None:
    assert report(3 << 8)["reason"] == "exited with code 3"
    assert report(11)["reason"] == "killed by SIGSEGV"
    assert "for want of memory" in str(report(9)["reason"])
    assert "oom_kill rose" in str(report(9, memory="oom_kill rose")["reason"])
    assert report(9, decision="ray.kill")["reason"] == "ray.kill"
    assert "unknown" in str(report(None)["reason"])
    assert report(11)["stderr_tail"] == ["last line"] and report(11)["pid"] == 5


def test_a_witness_speaks_only_of_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 2\noom_kill 2\n")
    monkeypatch.setattr(death, "_oom_sources", lambda: [str(tmp_path / "missing"), str(counter)])
    witness = MemoryWitness()
    assert witness.testify() is None
    counter.write_text("low 0\noom 3\noom_kill 3\n")
    assert "rose from 2 to 3" in str(witness.testify())
    assert witness.testify() is None


def test_this_machine_has_a_witness() -> None:
    assert MemoryWitness().testify() is None
