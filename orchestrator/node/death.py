"""Why a worker died, in words that help: signal or exit code, last lines of stderr, evidence about memory."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from orchestrator.scheduling.events import OUT_OF_MEMORY, OUT_OF_MEMORY_ALONE


def decode_status(status: int | None) -> tuple[int | None, str | None]:
    """Return (exit code, signal name) of a wait status; the one that does not apply is None."""
    if status is None:
        return None, None
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code, None
    try:
        return None, signal.Signals(-code).name
    except ValueError:
        return None, f"signal {-code}"  # the real-time signals have no names


class MemoryWitness:
    """Watches the kernel's count of processes that it killed for want of memory."""

    def __init__(self) -> None:
        self._sources = [path for path in _oom_sources() if _read_oom_kills(path) is not None]
        self._seen = {path: _read_oom_kills(path) for path in self._sources}

    def testify(self) -> str | None:
        """Return what has changed since the last call, in words; None if nothing points to memory."""
        for path in self._sources:
            before, now = self._seen[path], _read_oom_kills(path)
            self._seen[path] = now
            if before is not None and now is not None and now > before:
                return f"the kernel ran out of memory: oom_kill in {path} rose from {before} to {now}"
        return None


def _oom_sources() -> list[str]:
    """Return the files that may count, this control group's before the whole machine's."""
    paths = []
    try:
        with open("/proc/self/cgroup") as file:
            for line in file:
                _, controllers, group = line.rstrip("\n").split(":", 2)
                if controllers == "":
                    paths += [f"/sys/fs/cgroup{group}/memory.events", "/sys/fs/cgroup/memory.events"]
                elif "memory" in controllers.split(","):
                    paths += [f"/sys/fs/cgroup/memory{group}/memory.oom_control"]
                    paths += ["/sys/fs/cgroup/memory/memory.oom_control"]
    except (OSError, ValueError):
        pass
    return [*dict.fromkeys(paths), "/proc/vmstat"]


def _read_oom_kills(path: str) -> int | None:
    try:
        with open(path) as file:
            for line in file:
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    except (OSError, ValueError):
        pass
    return None


def make_report(
    *,
    pid: int,
    node: str,
    status: int | None,
    decision: str | None,
    verdict: str = "",
    stderr_tail: list[str],
    memory: str | None = None,
    rss_max_bytes: int = 0,
) -> dict[str, Any]:
    """Build the report of a death.

    Args:
        status: the wait status; None when somebody else has reaped the process.
        decision: why this node ended it, if it did.
        verdict: what that means for what ran in it, in one word.
        memory: the `MemoryWitness`'s words, if there are any.
        rss_max_bytes: the most memory it ever had; 0 if unknown.
    """
    exit_code, signal_name = decode_status(status)
    if decision is not None:
        reason = decision
    elif signal_name is not None:
        reason = f"killed by {signal_name}"
        if signal_name == "SIGKILL" and memory:
            reason += f" ({memory})"
        elif signal_name == "SIGKILL":
            reason += " (from outside, or for want of memory: the kernel's log would tell)"
    elif exit_code is not None:
        reason = f"exited with code {exit_code}" + (
            " (os._exit or sys.exit in user code?)" if exit_code == 0 else ""
        )
    else:
        reason = "gone; its exit status is unknown"
    return {
        "pid": pid,
        "exit_code": exit_code,
        "signal": signal_name,
        "reason": reason,
        "verdict": verdict,
        "out_of_memory": verdict in (OUT_OF_MEMORY, OUT_OF_MEMORY_ALONE),
        "alone": verdict == OUT_OF_MEMORY_ALONE,
        "stderr_tail": stderr_tail,
        "node": node,
        "memory": memory,
        "rss_max_bytes": rss_max_bytes,
        "ended_ms": time.time_ns() / 1e6,
    }
