"""What both halves of the directory must know of other nodes: who is dead, who leaves, and what waits. PURE.

What waits are news that end something (`free`, `unborrow`, `dropped`), and processes that may not be heard
elsewhere yet: both until every borrowing of this node is acknowledged by the home of its object.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.common.ids import home_of
from orchestrator.gateway.directory_records import Instruction, LetGo, Send


class Peers:
    """The other nodes, and in which order they are told."""

    def __init__(self) -> None:
        self.dead: set[int] = set()
        #: Nodes that are about to leave.
        self.draining: set[int] = set()
        #: Borrowings that were not acknowledged, and for which processes: what those send is held back.
        self._unacknowledged: dict[bytes, set[int]] = {}
        #: Processes that wait for acknowledgements: how many of them.
        self._held: dict[int, int] = {}
        #: News that end something; they wait until everything is acknowledged.
        self._endings: list[Send] = []

    @property
    def unacknowledged_count(self) -> int:
        """How many borrowings were not acknowledged."""
        return len(self._unacknowledged)

    def is_held(self, process: int) -> bool:
        """Tell whether what a process sends must be held back for now."""
        return process in self._held

    # ------------------------------------------------------------ borrowings

    def borrows(self, identity: bytes) -> None:
        """The home of an object was told that this node borrows it."""
        self._unacknowledged[identity] = set()

    def is_acknowledged(self, identity: bytes) -> bool:
        """Tell whether no answer to such a message is to come."""
        return identity not in self._unacknowledged

    def hold(self, process: int, identity: bytes) -> None:
        """Hold back what a process sends, if the borrowing of what it refers to is not acknowledged."""
        waiting = self._unacknowledged.get(identity)
        if waiting is not None and process not in waiting:
            waiting.add(process)
            self._held[process] = self._held.get(process, 0) + 1

    def acknowledged(self, identity: bytes) -> list[Instruction]:
        """The home has answered, or never will."""
        waiting = self._unacknowledged.pop(identity, None)
        if waiting is None:
            return []
        out: list[Instruction] = []
        for process in sorted(waiting):
            self._held[process] -= 1
            if not self._held[process]:
                del self._held[process]
                out.append(LetGo(process))
        return out + self.endings_due()

    # ------------------------------------------------------------ endings

    def end(self, endings: Iterable[Send]) -> None:
        """Say something that ends something, as soon as that may be said."""
        self._endings += [ending for ending in endings if ending.node not in self.dead]

    def take_back(self, ending: Send) -> bool:
        """Don't say what was not said yet; False if there is no such thing."""
        if ending in self._endings:
            self._endings.remove(ending)
            return True
        return False

    def endings_due(self) -> list[Instruction]:
        """Return what may be said now."""
        if self._unacknowledged or not self._endings:
            return []
        endings, self._endings = self._endings, []
        return list(endings)

    # ------------------------------------------------------------ deaths

    def died(self, node: int) -> None:
        """A node is dead: there is nothing to say to it any more."""
        self.dead.add(node)
        self.draining.discard(node)
        self._endings = [ending for ending in self._endings if ending.node != node]

    def unanswered(self, node: int) -> list[Instruction]:
        """A dead node acknowledges nothing: nobody waits for it longer."""
        out: list[Instruction] = []
        for identity in [one for one in self._unacknowledged if home_of(one) == node]:
            out += self.acknowledged(identity)
        return out

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        held: dict[int, int] = {}
        for waiting in self._unacknowledged.values():
            for process in waiting:
                held[process] = held.get(process, 0) + 1
        assert held == self._held, (held, self._held)
        assert not self._endings or self._unacknowledged
