"""Ends a worker before the kernel ends whatever it likes.

Looks at the memory that cannot be taken back (`memory`); when a source is above the threshold it ends one
worker (`scheduling.victims` says which), waits until that has gone, and looks again. Idle workers with much
memory go before those that work. The report of the death says what was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from orchestrator.node.memory import MemoryReading, MemorySources, gigabytes
from orchestrator.scheduling.victims import Candidate, choose_victim, inevitable, worth_ending
from orchestrator.scheduling.worker_slots import WorkerSlot, WorkerState

#: Memory in use above this share is too much.
THRESHOLD = 0.95
#: How often to look while that is far away, and when it is not.
FAR_S, NEAR_S = 1.0, 0.25
#: Which share of the threshold is near it.
NEAR_SHARE = 0.8
#: An idle worker with this much is worth ending for it.
IDLE_BYTES_MIN = 64 << 20
#: Processes that a report names.
NAMED_MAX = 5

_RUNNING = (WorkerState.LEASED, WorkerState.BLOCKED, WorkerState.ACTOR, WorkerState.ACTOR_BLOCKED)


class Verdict(NamedTuple):
    """Who is to end, and why."""

    token: int
    reason: str
    #: Nothing else runs whose end would have left it more room: trying again would end the same way.
    alone: bool


class MemoryMonitor:
    """Called often, looks as often as needed."""

    def __init__(
        self, sources: MemorySources, *, threshold: float = THRESHOLD, interval_s: float = NEAR_S
    ) -> None:
        self._sources = sources
        self._threshold = threshold
        self._near_s = interval_s
        self._due_s = 0.0
        self._victim: int | None = None

    def due_s(self) -> float:
        """Return when to look next."""
        return self._due_s

    def look(
        self,
        now_s: float,
        slots: Iterable[WorkerSlot],
        pid_of: Callable[[int], int],
        evictable_bytes: Callable[[], int],
    ) -> Verdict | None:
        """Return whom to end now, if anybody.

        Args:
            slots: the workers.
            pid_of: the process of a worker, by token; 0 while there is none.
            evictable_bytes: what the store could give back without losing anything.
        """
        if now_s < self._due_s or not self._near_s:
            return None
        workers = {slot.token: slot for slot in slots}
        pids = {token: pid for token in workers if (pid := pid_of(token))}
        reading = max(self._sources.read(pids.values()), key=lambda one: one.share, default=None)
        near = reading is not None and reading.share >= NEAR_SHARE * self._threshold
        self._due_s = now_s + (self._near_s if near else max(FAR_S, self._near_s))
        if reading is None or reading.share <= self._threshold:
            self._victim = None
            return None
        reading = reading._replace(used_bytes=max(0, reading.used_bytes - evictable_bytes()))
        if reading.share <= self._threshold or self._victim in workers:
            return None  # what is free in the store is free; and whoever was ended is still going
        verdict = self._choose(reading, workers, pids)
        self._victim = verdict.token if verdict is not None else None
        return verdict

    def _choose(
        self, reading: MemoryReading, workers: dict[int, WorkerSlot], pids: dict[int, int]
    ) -> Verdict | None:
        sizes = {token: self._sources.private_bytes(pid) for token, pid in pids.items()}
        evidence = f"memory ran out: {reading}, and more than {self._threshold:.0%} is too much"
        idle = [token for token in sizes if workers[token].state is WorkerState.IDLE]
        largest = max(idle, key=sizes.__getitem__, default=None)
        if largest is not None and sizes[largest] >= IDLE_BYTES_MIN:
            return Verdict(largest, f"{evidence}; it was idle and had {gigabytes(sizes[largest])}", False)
        running = [
            Candidate(token, slot.holder, slot.scheduling.retriable, slot.since_s, sizes[token])
            for token, slot in workers.items()
            if token in sizes and slot.state in _RUNNING
        ]
        worth = worth_ending(running)
        excess_bytes = reading.used_bytes - int(self._threshold * reading.limit_bytes)
        victim = choose_victim(worth, excess_bytes)
        if victim is None:
            return None
        named = sorted(running, key=lambda one: -one.private_bytes)[:NAMED_MAX]
        others = ", ".join(f"pid {pids[one.token]}: {gigabytes(one.private_bytes)}" for one in named)
        reason = (
            f"{evidence}; this process had {gigabytes(victim.private_bytes)} and was ended to make room "
            "(who is too large by itself first, then what can be repeated, then the youngest of whoever has "
            f"most running). Largest: {others}"
        )
        return Verdict(victim.token, reason, len(worth) == 1 or victim in inevitable(worth, excess_bytes))
