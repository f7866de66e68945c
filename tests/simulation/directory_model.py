"""What the simulation of the directory has around the real one: a table of objects, processes, and a node
that carries out what its directory says."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator.common.ids import process_prefix
from orchestrator.gateway import directory as d
from orchestrator.gateway.directory import Directory, Instruction
from orchestrator.gateway.directory_records import SPREAD_BYTES_MIN

if TYPE_CHECKING:
    from tests.simulation.directory_world import Sim

SESSION = "simulated"
#: Why an object may be lost to one node, and to no other.
NO_ROOM = "no room"


class Entry:
    """An object in the table of one node."""

    def __init__(self) -> None:
        self.state = d.PENDING
        #: references by process; agents' ones by stand-in
        self.users: dict[Proc, int] = {}
        self.agents: set[int] = set()
        self.kept = False
        self.watched = False

    def needed(self) -> bool:
        return bool(self.users)


class Proc:
    """A process, and the references it has."""

    def __init__(self, node: SimNode, address: int) -> None:
        self.node, self.address = node, address
        self.alive = True
        self.refs: dict[bytes, int] = {}
        #: how many of them it holds for messages that were not answered
        self.lent: dict[bytes, int] = {}
        self.number = itertools.count(1)
        #: objects whose values it owns and may make again
        self.can_make: set[bytes] = set()

    def __repr__(self) -> str:
        return f"{self.node.index}.{self.address}"


class SimNode:
    """A node: a table of objects, a directory, processes."""

    def __init__(self, sim: Sim, index: int) -> None:
        self.sim, self.index = sim, index
        self.alive = True
        self.directory = Directory(index)
        self.table: dict[bytes, Entry] = {}
        self.procs = [Proc(self, 100 + n) for n in range(2)]
        self.news: deque[bytes] = deque()
        self.pulls: dict[bytes, tuple[int, ...]] = {}
        #: copies that nobody here needs and that stay for now; and how many there have been
        self.spares: dict[bytes, None] = {}
        self.spares_ever = 0
        #: messages of processes that are held back
        self.held: dict[int, deque[tuple[SimNode, object]]] = {}

    # ---- the store

    def state(self, identity: bytes) -> int:
        entry = self.table.get(identity)
        return entry.state if entry is not None else d.ABSENT

    def entry(self, identity: bytes) -> Entry:
        return self.table.setdefault(identity, Entry())

    def use(self, proc: Proc, identity: bytes) -> None:
        entry = self.entry(identity)
        entry.users[proc] = entry.users.get(proc, 0) + 1

    def unuse(self, proc: Proc, identity: bytes) -> None:
        entry = self.table.get(identity)
        if entry is None or proc not in entry.users:
            return
        entry.users[proc] -= 1
        if not entry.users[proc]:
            del entry.users[proc]
        self.settle(identity, entry)

    def settle(self, identity: bytes, entry: Entry) -> None:
        if entry.users:
            return
        if entry.kept:
            self.news.append(identity)
        elif not entry.agents:
            self.table.pop(identity, None)
            self.sim.freed(self, identity)

    # ---- performing

    def perform(self, instructions: Iterable[Instruction]) -> None:
        todo = deque(instructions)
        while todo:
            match todo.popleft():
                case d.Send(node, message):
                    self.sim.send(self, node, message)
                case d.Keep(identity):
                    entry = self.entry(identity)
                    entry.kept = True
                    if not entry.needed():
                        self.news.append(identity)
                case d.Retain(identity):
                    assert self.state(identity) == d.SEALED, identity.hex()
                    self.spares[identity] = None
                    self.spares_ever += 1
                case d.Release(identity, given_to):
                    entry = self.table.get(identity)
                    if entry is None or not entry.kept:
                        continue
                    if entry.needed():
                        continue
                    entry.kept = False
                    self.spares.pop(identity, None)
                    entry.agents.discard(given_to)
                    if not entry.agents:
                        del self.table[identity]
                        self.sim.freed(self, identity)
                    todo.extend(self.directory.released(identity))
                case d.Watch(identity):
                    self.entry(identity).watched = True
                case d.Pull(identity, sources, _):
                    self.pulls[identity] = sources
                case d.StopPull(identity):
                    self.pulls.pop(identity, None)
                case d.Lose(identity, verdict):
                    entry = self.table.get(identity)
                    if entry is not None and entry.state == d.PENDING:
                        entry.state = d.LOST
                        self.sim.lost(self, identity, verdict)
                case d.Missing(identity):
                    todo.extend(self.missing(identity))
                case d.LetGo(process):
                    for target, message in self.held.pop(process, ()):
                        self.sim.post(self, target, message)
        self.directory.validate()

    def missing(self, identity: bytes) -> list[Instruction]:
        if self.state(identity) in (d.SEALED,):
            return self.directory.decided(identity, d.SEALED)
        for proc in self.procs:
            if proc.alive and identity.startswith(proc_prefix(proc)) and identity in proc.can_make:
                # The owner makes it again, here.
                self.sim.later(lambda: self.seal(identity))
                return []
        return self.directory.owner_died(lambda one: one == identity, self.state)

    def seal(self, identity: bytes) -> None:
        entry = self.table.get(identity)
        if not self.alive or entry is None or entry.state == d.SEALED:
            return
        entry.state = d.SEALED
        if entry.watched:
            entry.watched = False
            self.perform(self.directory.decided(identity, d.SEALED))

    def look(self) -> None:
        while self.news:
            identity = self.news.popleft()
            entry = self.table.get(identity)
            if entry is not None and entry.kept and not entry.needed():
                self.perform(self.directory.unneeded(identity))

    def drop_spares(self) -> None:
        """Memory is short."""
        while self.spares:
            identity, _ = self.spares.popitem()
            self.perform(self.directory.drop(identity))

    def finish_pull(self, identity: bytes) -> None:
        sources = self.pulls.pop(identity, None)
        if sources is None:
            return
        nodes = [self.sim.nodes[one] for one in sources if self.sim.nodes[one].alive]
        if any(node.state(identity) == d.SEALED for node in nodes):
            self.entry(identity).state = d.SEALED
            self.perform(self.directory.pulled(identity))
        elif any(identity in node.pulls for node in nodes) and self.sim.rng.random() < 0.7:
            self.pulls[identity] = sources  # one of them is still receiving: it may come
        elif self.sim.deaths and self.sim.rng.random() < 0.1:
            self.perform(self.directory.pull_impossible(identity, NO_ROOM))
        else:
            self.perform(self.directory.pull_failed(identity, sources, "not there"))

    # ---- what other nodes say

    def hear(self, node: int, message: dict) -> None:
        identity = bytes.fromhex(message["object"])
        state = self.state(identity)
        directory = self.directory
        match message["op"]:
            case "stored":
                self.sim.tasks.pop(identity, None)
                owner = next((p for p in self.procs if identity.startswith(proc_prefix(p))), None)
                if owner is not None and owner.alive and identity in owner.refs:
                    entry = self.entry(identity)
                    entry.users.setdefault(owner, owner.refs[identity])
                self.perform(directory.on_stored(node, identity, message["size"], self.state(identity)))
            case "borrow":
                self.perform(directory.on_borrow(node, identity, state))
            case "borrowed":
                self.perform(directory.on_borrowed(node, identity))
            case "unknown":
                self.sim.unknown(self, identity)
                self.perform(directory.on_unknown(node, identity, message["verdict"]))
            case "unborrow":
                self.perform(directory.on_unborrow(node, identity))
            case "want":
                self.perform(directory.on_want(node, identity, state, size_of(identity)))
            case "unwanted":
                self.perform(directory.on_unwanted(node, identity))
            case "located":
                self.perform(directory.on_located(node, identity, message["nodes"], message["size"]))
            case "lost":
                self.perform(directory.on_lost(node, identity, message["verdict"]))
            case "copied":
                self.perform(directory.on_copied(node, identity, state))
            case "dropped":
                self.perform(directory.on_dropped(node, identity))
            case "stale":
                self.perform(directory.on_stale(node, identity, message["nodes"]))
            case "free":
                self.perform(directory.on_free(node, identity))
            case other:
                raise AssertionError(other)


def size_of(identity: bytes) -> int:
    """Return how large an object is: one that travels beside messages, or one that is sent along a tree."""
    return 64 * SPREAD_BYTES_MIN if sum(identity[8:]) % 2 else 10


def proc_prefix(proc: Proc) -> bytes:
    return process_prefix(SESSION, proc.address, proc.node.index)
