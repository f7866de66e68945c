"""Nodes that move objects in a simulation: virtual time, one random generator, everything that can go wrong.

Each node has the real pull manager. What it asks for is done here, at random speed and with random failures;
the bytes are real, so that in the end each is looked at.
"""

from __future__ import annotations

import heapq
import itertools
import zlib
from collections.abc import Callable
from functools import partial
from random import Random

from orchestrator.common.priority import Priority
from orchestrator.transfer import events as ev
from orchestrator.transfer.events import Cause, End, Refusal
from orchestrator.transfer.pull_manager import PullManager

Action = Callable[[], None]


class Simulation:
    """A clock that jumps, and nodes by index."""

    def __init__(self, seed: int, store_bytes: int = 1 << 20, bytes_max: int = 1 << 19) -> None:
        self.rng = Random(seed)
        self.now_s = 1000.0
        self._numbers = itertools.count()
        self._agenda: list[tuple[float, int, Action]] = []
        self.store_bytes = store_bytes
        self.bytes_max = bytes_max
        self.nodes: dict[int, SimNode] = {}
        #: chances of what may go wrong with a step
        self.breaks = 0.05
        self.silent = 0.02
        self.lies = 0.01
        #: pairs of nodes that cannot speak to each other
        self.cut: set[frozenset[int]] = set()

    def add_node(self) -> SimNode:
        node = SimNode(self, len(self.nodes) + 1)
        self.nodes[node.index] = node
        return node

    def later(self, delay_s: float, action: Action) -> None:
        heapq.heappush(self._agenda, (self.now_s + delay_s, next(self._numbers), action))

    def reachable(self, a: int, b: int) -> bool:
        return self.nodes[a].alive and self.nodes[b].alive and frozenset((a, b)) not in self.cut

    def kill(self, index: int) -> None:
        self.nodes[index].alive = False
        for node in self.nodes.values():
            if node.alive:
                delay_s = self.rng.uniform(0.0, 5.0)
                self.later(delay_s, partial(node.tell, ev.NodeDied(index)))

    def run(self, steps_max: int = 200_000) -> None:
        """Until nothing is left to happen."""
        for _ in range(steps_max):
            if not self._agenda:
                return
            self.now_s, _, action = heapq.heappop(self._agenda)
            action()
        raise AssertionError("it goes on for ever")


class SimNode:
    """A store with a size, and a pull manager."""

    def __init__(self, simulation: Simulation, index: int) -> None:
        self.sim = simulation
        self.index = index
        self.alive = True
        self.sealed: dict[bytes, bytes] = {}
        self.coming: dict[bytes, bytearray] = {}
        self.received: dict[bytes, int] = {}
        #: bytes that others than the transfer have taken
        self.taken_bytes = 0
        self.running: set[int] = set()
        self.stopped: set[int] = set()
        self.reports: dict[bytes, list[ev.Pulled | ev.Lost]] = {}
        self.pulls = PullManager(
            Random(simulation.rng.random()),
            bytes_max=simulation.bytes_max,
            streams_max=2,
            small_streams_max=3,
        )

    # ------------------------------------------------------------ events in, instructions out

    def tell(self, event: ev.Event) -> None:
        if not self.alive:
            return
        instructions = self.pulls.handle(event, self.sim.now_s)
        self.pulls.validate()
        for instruction in instructions:
            self.perform(instruction)
        deadline_s = self.pulls.deadline_s()
        if deadline_s is not None:
            self.sim.later(max(0.0, deadline_s - self.sim.now_s), lambda: self._tick(deadline_s))

    def _tick(self, deadline_s: float) -> None:
        if self.pulls.deadline_s() == deadline_s:
            self.tell(ev.Tick())

    def soon(self, event: ev.Event) -> None:
        self.sim.later(self.sim.rng.uniform(0.0, 0.05), partial(self.tell, event))

    def perform(self, instruction: ev.Instruction) -> None:
        if isinstance(instruction, ev.Ask):
            self.running.add(instruction.attempt)
            self._ask(instruction)
        elif isinstance(instruction, ev.Stream):
            self.running.add(instruction.attempt)
            assert len(self.running) <= 5, "more attempts at once than allowed"
            assert instruction.offset == self.received[instruction.object_id]
            self._begin(instruction)
        elif isinstance(instruction, ev.StopAttempt):
            assert instruction.attempt in self.running
            self.stopped.add(instruction.attempt)
        elif isinstance(instruction, ev.CreateBuffer):
            self.soon(self._create(instruction))
        elif isinstance(instruction, ev.DropBuffer):
            del self.coming[instruction.object_id]
        elif isinstance(instruction, ev.Seal):
            data = bytes(self.coming.pop(instruction.object_id))
            assert self.received[instruction.object_id] == len(data)
            self.sealed[instruction.object_id] = data
            self.soon(ev.Sealed(instruction.object_id))
        elif isinstance(instruction, ev.Complain):
            raise AssertionError(instruction.text)
        else:
            self.reports.setdefault(instruction.object_id, []).append(instruction)

    def end(self, instruction: ev.Ask | ev.Stream, end: End, size: int | None, why: str = "") -> None:
        self.running.discard(instruction.attempt)
        received = self.received.get(instruction.object_id, 0)
        if end is End.DIFFERENT:
            self.received[instruction.object_id] = 0
        self.tell(ev.AttemptEnded(instruction.object_id, instruction.attempt, end, received, size, why))

    # ------------------------------------------------------------ the store

    def _create(self, instruction: ev.CreateBuffer) -> ev.Event:
        object_id, size = instruction
        if object_id in self.sealed:
            return ev.BufferRefused(object_id, Refusal.PRESENT, "here")
        if size > self.sim.store_bytes:
            return ev.BufferRefused(object_id, Refusal.NEVER, "larger than the store")
        used = self.taken_bytes + sum(map(len, self.coming.values()))
        if used + size > self.sim.store_bytes:  # what is sealed is evicted
            return ev.BufferRefused(object_id, Refusal.FULL, f"{used} are used")
        self.coming[object_id] = bytearray(size)
        self.received[object_id] = 0
        return ev.BufferMade(object_id)

    def data_of(self, object_id: bytes) -> tuple[int, bytes] | None:
        """(size, what is there of it)."""
        if object_id in self.sealed:
            return len(self.sealed[object_id]), self.sealed[object_id]
        if object_id in self.coming:
            data = self.coming[object_id]
            return len(data), bytes(data[: self.received[object_id]])
        return None

    # ------------------------------------------------------------ the network

    def _ask(self, instruction: ev.Ask) -> None:
        rng = self.sim.rng
        source = self.sim.nodes[instruction.source]

        def answer() -> None:
            if not self.sim.reachable(self.index, source.index) or rng.random() < self.sim.breaks:
                self.end(instruction, End.BROKEN, None, "no answer")
            elif (found := source.data_of(instruction.object_id)) is None:
                self.end(instruction, End.ABSENT, None, "it doesn't have it")
            elif rng.random() < self.sim.lies:
                self.end(instruction, End.COMPLETE, 1 << 60)
            else:
                self.end(instruction, End.COMPLETE, found[0])

        self.sim.later(rng.uniform(0.0, 0.1), answer)

    def _begin(self, instruction: ev.Stream) -> None:
        source = self.sim.nodes[instruction.source]
        object_id, offset = instruction.object_id, instruction.offset

        def begin() -> None:
            found = source.data_of(object_id) if self.sim.reachable(self.index, source.index) else None
            if not self.sim.reachable(self.index, source.index):
                self.end(instruction, End.BROKEN, None, "unreachable")
            elif found is None:
                self.end(instruction, End.ABSENT, None, "it doesn't have it")
            elif found[0] != instruction.size_bytes:
                self.end(instruction, End.WRONG, found[0])
            elif len(found[1]) < offset:
                self.end(instruction, End.BUSY, found[0])
            elif zlib.crc32(found[1][:offset]) != zlib.crc32(self.coming[object_id][:offset]):
                self.end(instruction, End.DIFFERENT, found[0])
            else:
                self._step(instruction, stalls=0)

        self.sim.later(self.sim.rng.uniform(0.0, 0.1), begin)

    def _step(self, instruction: ev.Stream, stalls: int) -> None:
        """Move some bytes, and come again."""
        rng, object_id = self.sim.rng, instruction.object_id
        source = self.sim.nodes[instruction.source]
        if not self.alive:
            return
        size = instruction.size_bytes
        at = self.received[object_id]
        found = source.data_of(object_id) if self.sim.reachable(self.index, source.index) else None
        if instruction.attempt in self.stopped:
            self.end(instruction, End.BROKEN, size, "stopped")
        elif found is None or found[0] != size or rng.random() < self.sim.breaks:
            self.end(instruction, End.BROKEN, size, "the connection broke")
        elif at == size:
            self.end(instruction, End.COMPLETE, size)
        elif len(found[1]) <= at or rng.random() < self.sim.silent:
            if stalls > 20:
                self.end(instruction, End.BROKEN, size, "silent")
            else:
                self.sim.later(1.0, lambda: self._step(instruction, stalls + 1))
        else:
            count = min(len(found[1]) - at, rng.randint(1, max(1, size // 3)))
            self.coming[object_id][at : at + count] = found[1][at : at + count]
            self.received[object_id] = at + count
            self.sim.later(rng.uniform(0.0, 0.2), lambda: self._step(instruction, stalls))

    # ------------------------------------------------------------ for tests

    def take(self, taken_bytes: int) -> None:
        """A program holds so much of the store from now on."""
        self.taken_bytes = taken_bytes

    def want(
        self, object_id: bytes, sources: list[int], priority: Priority = Priority.GET, size: int | None = None
    ) -> None:
        self.tell(ev.Wanted(object_id, tuple(sources), priority, size))

    def last(self, object_id: bytes) -> ev.Pulled | ev.Lost | None:
        reports = self.reports.get(object_id)
        return reports[-1] if reports else None


__all__ = ["Cause", "SimNode", "Simulation"]
