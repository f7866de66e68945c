"""What the directory asks for, and what it knows of one object. PURE."""

from __future__ import annotations

from typing import Any, NamedTuple

from orchestrator.gateway.broadcast import Broadcast

# States of an object in the store, as plasma numbers them.
ABSENT, PENDING, CREATED, SEALED, SPILLED, LOST = range(6)
FREED = 7
HERE = frozenset({SEALED, SPILLED})

#: Who wants an object larger than this is sent to a node of a tree (`broadcast`), which may still receive
#: it. Smaller ones travel on the links between nodes, from one that has all of it.
SPREAD_BYTES_MIN = 1 << 20

#: Why an object can't be had, on its way to another node.
GONE, OWNER_DIED, WAS_FREED, NODE_DIED = "gone", "owner died", "freed", "node died"
VERDICTS = {ABSENT: GONE, LOST: OWNER_DIED, FREED: WAS_FREED}


# ---------------------------------------------------------------- instructions


class Keep(NamedTuple):
    """Keep the object's entry in this node's store, and say when nobody here needs it any more."""

    object: bytes


class Release(NamedTuple):
    """Give up the keep, the copy, and what stand-ins hold, unless a process here needs the object.

    If that was done `Directory.released` must follow.
    """

    object: bytes
    #: Address of the stand-in that it was given to; 0 for none.
    given_to: int


class Retain(NamedTuple):
    """Nobody here needs this copy: keep it while there is room, and then ask `Directory.drop`."""

    object: bytes


class Watch(NamedTuple):
    """Say when the object is sealed or lost here (`Directory.decided`)."""

    object: bytes


class Pull(NamedTuple):
    """Bring the bytes here from one of these nodes; `Directory.pulled` or `pull_failed` must follow."""

    object: bytes
    sources: tuple[int, ...]
    size_bytes: int


class StopPull(NamedTuple):
    """The bytes are not wanted any more."""

    object: bytes


class Lose(NamedTuple):
    """The object will not come: whoever waits for it here is to be told."""

    object: bytes
    verdict: str


class Missing(NamedTuple):
    """No bytes are left of an object of ours: its owner makes it again, or gives it up."""

    object: bytes


class Send(NamedTuple):
    """Tell another node."""

    node: int
    message: dict[str, Any]


class LetGo(NamedTuple):
    """What this process sends need not be held back any more."""

    process: int


Instruction = Keep | Release | Retain | Watch | Pull | StopPull | Lose | Missing | Send | LetGo


# ---------------------------------------------------------------- records


class HomeRecord:
    """An object of this node that other nodes have to do with."""

    __slots__ = (
        "borrowers",
        "copies",
        "given_to",
        "is_unneeded",
        "missing",
        "size_bytes",
        "spread",
        "wanted_here",
        "wanters",
    )

    def __init__(self) -> None:
        #: Nodes with processes that refer to it.
        self.borrowers: set[int] = set()
        #: Other nodes that have its bytes.
        self.copies: set[int] = set()
        #: Nodes that wait to hear where the bytes are.
        self.wanters: set[int] = set()
        #: A process of this node waits for the bytes.
        self.wanted_here = False
        self.size_bytes = 0
        #: Who gets it from whom, while several nodes may be receiving it.
        self.spread: Broadcast | None = None
        #: The store has said that no process here needs it.
        self.is_unneeded = False
        #: The owner was asked to make it again.
        self.missing = False
        #: Address of the stand-in for which it was made here; 0 if for nobody elsewhere.
        self.given_to = 0


class AwayRecord:
    """An object of another node that this node has to do with."""

    __slots__ = (
        "borrowed",
        "given_to",
        "has_copy",
        "home_is_dead",
        "is_asked",
        "is_free",
        "is_wanted",
        "pulls",
    )

    def __init__(self) -> None:
        #: The home was told that somebody here refers to it.
        self.borrowed = False
        #: A process here waits for the bytes; and whether the home was asked for them.
        self.is_wanted = False
        self.is_asked = False
        #: The bytes are on their way.
        self.pulls = False
        #: They are here.
        self.has_copy = False
        #: Address of the stand-in for which it was made here; 0 if it was not.
        self.given_to = 0
        #: The home does not need it any more.
        self.is_free = False
        self.home_is_dead = False


def news(op: str, identity: bytes) -> dict[str, Any]:
    """Return what one node tells another about an object."""
    return {"op": op, "object": identity.hex()}


def lost(identity: bytes, verdict: str) -> dict[str, Any]:
    """Return the answer that an object can't be had any more."""
    return news("lost", identity) | {"verdict": verdict}
