"""Objects whose home is on another node, or whose bytes are. PURE: events in, instructions out.

Which node is an object's *home* is part of its id: the node of the process that made it. The home knows where
the bytes are and which nodes borrow the object. Every other node keeps account of the processes of its own
(the store does), and tells the home only of the first and the last of them. So an object that a thousand
processes share costs one message a node.

At home, for an object of ours                     Elsewhere, for an object of theirs
(`directory_home`)                                 (`directory_away`)
---------------------------------------------      ---------------------------------------------------
stored    a result of ours lies on that node       a process here refers to it: we *borrow* it
borrow    that node has somebody who needs it      a process here waits for its bytes: we *want* it
want      that node wants its bytes: `located`,    it is sealed here: we have a *copy*, or the first
          now or when they exist somewhere         one there is (`given`: it was made here for them)
unwanted  it does so no more                       there is no room for it here, or nobody needs it now
released  nobody here needs it, nobody borrows     nobody here needs it: `unborrow`; what was given stays
          it: `free` to all who have copies        until `free`, a copy until then or `dropped`

**No object is freed that somebody refers to.** Whoever passes a reference on holds it until the receiver has
answered. The receiver's node registers the borrowing with the home, and holds back what the receiver sends
(`is_held`) until the home has acknowledged; after that the sender may let go. News that end something
(`free`, `unborrow`) wait until all borrowings of this node are acknowledged (`directory_peers`): a copy that
is given up may have held what is being borrowed. Links keep the order of what one node tells another, so a
node that borrows again after `unborrow` is understood.

**Who leaves.** Of a node that drains, the homes of what it holds bring that to themselves, and give it free
there; those who borrow what is its own bring copies to themselves. When it holds nothing for others any more
(`holds_for_others`) it may go.

**Who dies.** A node: what it borrowed is given back, its copies are gone. If it had the only one, the process
that owns the object is told (`Missing`) and makes it again. A home: what is here stays as long as somebody
here refers to it; what is not can't be had any more (`Lose`). A process: the store gives back what it held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from orchestrator.common.ids import home_of
from orchestrator.gateway.directory_away import AwayObjects
from orchestrator.gateway.directory_home import HomeObjects
from orchestrator.gateway.directory_peers import Peers
from orchestrator.gateway.directory_records import (
    ABSENT,
    CREATED,
    FREED,
    GONE,
    HERE,
    LOST,
    NODE_DIED,
    OWNER_DIED,
    PENDING,
    SEALED,
    SPILLED,
    VERDICTS,
    AwayRecord,
    HomeRecord,
    Instruction,
    Keep,
    LetGo,
    Lose,
    Missing,
    Pull,
    Release,
    Retain,
    Send,
    StopPull,
    Watch,
)

__all__ = [
    "ABSENT", "CREATED", "FREED", "GONE", "HERE", "LOST", "NODE_DIED", "OWNER_DIED", "PENDING", "SEALED",
    "SPILLED",
    "VERDICTS", "AwayRecord", "Directory", "HomeRecord", "Instruction", "Keep", "LetGo", "Lose", "Missing",
    "Pull", "Release", "Retain", "Send", "StopPull", "Watch",
]  # fmt: skip


class Directory(HomeObjects, AwayObjects):
    """The objects of one node that others have to do with. Every method returns what to do.

    Here is what concerns both halves, and which of them an object belongs to.

    Args:
        here: the index of this node.
    """

    def __init__(self, here: int) -> None:
        peers = Peers()
        HomeObjects.__init__(self, here, peers)
        AwayObjects.__init__(self, here, peers)

    def __len__(self) -> int:
        return len(self._home) + len(self._away)

    def _is_ours(self, identity: bytes) -> bool:
        return home_of(identity) == self.here

    def is_held(self, process: int) -> bool:
        """Tell whether what a process sends must be held back for now."""
        return self._peers.is_held(process)

    def holds_for_others(self) -> bool:
        """Tell whether other nodes would miss something if this one left now."""
        return self._others_would_miss_ours() or self._others_would_miss_theirs()

    def counts(self) -> dict[str, int]:
        """Return how many objects there are of each kind, for people."""
        return {
            "home": len(self._home),
            "borrowed": sum(record.borrowed for record in self._away.values()),
            "copies": sum(record.has_copy for record in self._away.values()),
            "unacknowledged": self._peers.unacknowledged_count,
        }

    # ------------------------------------------------------------ what processes of this node say

    def want(self, identity: bytes, state: int) -> list[Instruction]:
        """A process here waits for the bytes of an object that aren't here; `state` is the store's."""
        if state in HERE:
            return []
        return self._want_ours(identity, state) if self._is_ours(identity) else self._want_theirs(identity)

    def gave(self, identity: bytes, owner: int, size_bytes: int, node: int) -> list[Instruction]:
        """A worker here has stored an object for a process of another node, whose stand-in is `owner`."""
        if self._is_ours(identity):
            return self._gave_ours(identity, owner, size_bytes, node)
        return self._gave_theirs(identity, owner, size_bytes)

    # ------------------------------------------------------------ what the store and the transfer say

    def unneeded(self, identity: bytes) -> list[Instruction]:
        """No process of this node needs the object any more."""
        return self._unneeded_ours(identity) if self._is_ours(identity) else self._unneeded_theirs(identity)

    def released(self, identity: bytes) -> list[Instruction]:
        """The store has let go of an object, as `Release` asked."""
        is_ours = self._is_ours(identity)
        out = self._released_ours(identity) if is_ours else self._released_theirs(identity)
        return out + self._peers.endings_due()

    def pulled(self, identity: bytes) -> list[Instruction]:
        """The bytes of an object are here."""
        return self._pulled_ours(identity) if self._is_ours(identity) else self._pulled_theirs(identity)

    def pull_impossible(self, identity: bytes, why: str) -> list[Instruction]:
        """There is no room here for an object, wherever it is."""
        if self._is_ours(identity):
            self._give_up_ours(identity)
            return [Lose(identity, why)]
        return [*self._give_up_theirs(identity), Lose(identity, why)]

    def pull_failed(self, identity: bytes, without: Iterable[int], why: str) -> list[Instruction]:
        """The bytes could not be had from these nodes: they have no copy, or can't be reached."""
        if self._is_ours(identity):
            return self._not_pulled_ours(identity, without)
        return self._not_pulled_theirs(identity, without, why)

    # ------------------------------------------------------------ nodes that leave, and deaths

    def node_drains(self, node: int, state_of: Callable[[bytes], int]) -> list[Instruction]:
        """Another node is about to leave: have here what would be lost with it."""
        self._peers.draining.add(node)
        return [*self._rescue_ours(node, state_of), *self._save_theirs(node)]

    def node_died(self, node: int) -> list[Instruction]:
        """A node is dead."""
        self._peers.died(node)
        out = [*self._forget_node(node), *self._orphan(node), *self._peers.unanswered(node)]
        return out + self._peers.endings_due()

    def stand_in_gone(self, address: int, node: int) -> list[Instruction]:
        """A process of another node is dead: what was made here for it is nobody's, if nobody else refers
        to it.
        """
        self._forget_stand_in_of_theirs(address)
        return self._forget_stand_in_of_ours(address, node)

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        self._peers.validate()
        self._validate_ours()
        self._validate_theirs()
