"""Memory, as the node looks after it: free pages go back; when too little is left, somebody is ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.common import environ
from orchestrator.node.death import MemoryWitness
from orchestrator.node.memory import MemorySources
from orchestrator.node.memory_monitor import NEAR_S, THRESHOLD, MemoryMonitor
from orchestrator.node.pressure import PressureRelief
from orchestrator.node.worker_pool import WorkerPool, WorkerProcess
from orchestrator.scheduling import events
from orchestrator.scheduling.worker_slots import WorkerSlots


class MemoryGuard:
    """See the module's text. Settings come from the environment.

    Args:
        end: ends a worker, for a reason.
        complain: takes what is to be written down.
    """

    def __init__(
        self,
        store: Any,
        pool: WorkerPool,
        slots: WorkerSlots,
        end: Callable[[WorkerProcess, str], None],
        complain: Callable[[str], None],
    ) -> None:
        self._store = store
        self._pool = pool
        self._slots = slots
        self._end = end
        self._complain = complain
        #: What is remembered for the reports of deaths.
        self.witness = MemoryWitness()
        self._monitor = MemoryMonitor(
            MemorySources(session_limit_bytes=int(environ.number("MEMORY_LIMIT_BYTES", 0))),
            threshold=environ.number("MEMORY_USAGE_THRESHOLD", THRESHOLD),
            interval_s=environ.number("MEMORY_MONITOR_REFRESH_MS", NEAR_S * 1000) / 1000,
        )
        self._pressure = PressureRelief(self)
        #: lets go of what the store has only in case it should be wanted again
        self.drop_spares: Callable[[], None] = lambda: None

    def due_s(self) -> float:
        """Return when the next look is wanted at the latest."""
        return self._monitor.due_s()

    def relieve(self, now_s: float) -> None:
        """Give the store's free pages back, if the machine is short of memory."""
        self._pressure.relieve(now_s)

    def trim(self) -> int:
        """Give back to the machine all that can be; return how many bytes."""
        self.drop_spares()
        return int(self._store.trim())

    def look(self, now_s: float) -> None:
        """End somebody if there is too little memory left."""
        verdict = self._monitor.look(now_s, self._slots, self._pid_of, self._evictable_bytes)
        process = self._pool.get(verdict.token) if verdict is not None else None
        if process is not None and verdict is not None:
            self._complain(f"worker {process.token} (pid {process.pid}) is ended: {verdict.reason}")
            process.verdict = events.OUT_OF_MEMORY_ALONE if verdict.alone else events.OUT_OF_MEMORY
            self._end(process, verdict.reason)

    def _pid_of(self, token: int) -> int:
        process = self._pool.get(token)
        return process.pid if process is not None else 0

    def _evictable_bytes(self) -> int:
        """Return what free pages of the store have in memory, after giving back what can be."""
        self.trim()
        stats = self._store.stats(objects=False)
        return max(0, stats["touched_bytes"] - stats["used_bytes"])
