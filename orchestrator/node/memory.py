"""How much memory is in use that the kernel could not take back, and how much there may be.

Not counted: page cache (`inactive_file`, `active_file`), which the kernel drops when somebody wants the room.
A program that reads large files fills the memory with it, and is in nobody's way.

=================== ==================================== =============================================
source              limit                                in use
=================== ==================================== =============================================
the machine         `MemTotal`                           `MemTotal - MemAvailable`
a control group, v2 `memory.max` of it and those above   `memory.current`, less file pages and slab
a control group, v1 `memory.limit_in_bytes`              `memory.usage_in_bytes`, less file pages
the session         `ORCHESTRATOR_MEMORY_LIMIT_BYTES`    private memory of its workers
=================== ==================================== =============================================
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

#: Limits above this mean that there is none.
_NO_LIMIT = 1 << 60


class MemoryReading(NamedTuple):
    """One source at one moment."""

    source: str
    used_bytes: int
    limit_bytes: int

    @property
    def share(self) -> float:
        """Which part of what there is is in use."""
        return self.used_bytes / self.limit_bytes

    def __str__(self) -> str:
        return f"{gigabytes(self.used_bytes)} of {gigabytes(self.limit_bytes)} in use ({self.source})"


def gigabytes(count: int) -> str:
    """Return a number of bytes for people."""
    return f"{count / (1 << 30):.2f} GiB"


class MemorySources:
    """The sources that count for this process. `root` is where /proc and /sys are."""

    def __init__(self, root: str = "/", session_limit_bytes: int = 0) -> None:
        self._root = root
        self._session_limit_bytes = session_limit_bytes
        self._groups_v2, self._groups_v1 = self._control_groups()

    def _control_groups(self) -> tuple[list[str], list[str]]:
        v2: list[str] = []
        v1: list[str] = []
        for line in self._lines("proc/self/cgroup"):
            _, _, rest = line.partition(":")
            controllers, _, group = rest.partition(":")
            if controllers == "":
                v2 = [f"sys/fs/cgroup{path}" for path in _with_parents(group)]
            elif "memory" in controllers.split(","):
                v1 = [f"sys/fs/cgroup/memory{path}" for path in _with_parents(group)]
        return v2, v1

    def read(self, workers: Iterable[int] = ()) -> list[MemoryReading]:
        """Return what each source says; those that say nothing, or have no limit, are left out.

        Args:
            workers: pids of the session's workers, for its own limit.
        """
        found = [self._machine()]
        found += [self._group_v2(path) for path in self._groups_v2]
        found += [self._group_v1(path) for path in self._groups_v1]
        if self._session_limit_bytes:
            used = sum(map(self.private_bytes, workers))
            found.append(MemoryReading("workers of this session", used, self._session_limit_bytes))
        return [reading for reading in found if reading is not None and 0 < reading.limit_bytes < _NO_LIMIT]

    def private_bytes(self, pid: int) -> int:
        """Return the memory that would be free without a process; 0 if it is gone."""
        return 1024 * self._fields(f"proc/{pid}/status", ("RssAnon",)).get("RssAnon", 0)

    def available_bytes(self) -> int:
        """Return how much more there is; 0 if nothing says so."""
        return max(0, min((one.limit_bytes - one.used_bytes for one in self.read()), default=0))

    def _machine(self) -> MemoryReading | None:
        fields = self._fields("proc/meminfo", ("MemTotal", "MemAvailable"))
        if len(fields) < 2:
            return None
        total, available = fields["MemTotal"] * 1024, fields["MemAvailable"] * 1024
        return MemoryReading("the machine", total - available, total)

    def _group_v2(self, path: str) -> MemoryReading | None:
        limit, used = self._number(f"{path}/memory.max"), self._number(f"{path}/memory.current")
        if limit is None or used is None:
            return None
        names = ("inactive_file", "active_file", "slab_reclaimable")
        evictable = sum(self._fields(f"{path}/memory.stat", names).values())
        return MemoryReading(f"control group /{path}", max(0, used - evictable), limit)

    def _group_v1(self, path: str) -> MemoryReading | None:
        limit = self._number(f"{path}/memory.limit_in_bytes")
        used = self._number(f"{path}/memory.usage_in_bytes")
        if limit is None or used is None:
            return None
        names = ("total_inactive_file", "total_active_file")
        evictable = sum(self._fields(f"{path}/memory.stat", names).values())
        return MemoryReading(f"control group /{path}", max(0, used - evictable), limit)

    def _number(self, path: str) -> int | None:
        text = "".join(self._lines(path)).strip()
        return int(text) if text.isdigit() else None  # "max" is no limit

    def _fields(self, path: str, names: tuple[str, ...]) -> dict[str, int]:
        found: dict[str, int] = {}
        for line in self._lines(path):
            words = line.replace(":", " ").split()
            if len(words) >= 2 and words[0] in names and words[1].isdigit():
                found[words[0]] = int(words[1])
        return found

    def _lines(self, path: str) -> list[str]:
        try:
            with open(os.path.join(self._root, path)) as file:
                return file.read().splitlines()
        except OSError:
            return []


def _with_parents(group: str) -> list[str]:
    """Return a control group and those above it; in a container the outermost is mounted as the root."""
    parts = [part for part in group.split("/") if part]
    return ["".join(f"/{part}" for part in parts[:count]) for count in range(len(parts), -1, -1)]
