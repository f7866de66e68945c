"""What the pull manager is told, and what it asks for.

Nodes are named by their index in the cluster, objects by their 16-byte id. An *attempt* is one question or
one stream to one source; its number is never used again, so what comes late is known to be late.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from orchestrator.common.priority import Priority

#: What one object may be; anything above is a lie or a mistake.
OBJECT_BYTES_MAX = 1 << 46


class End(Enum):
    """How an attempt ended."""

    #: all bytes are here (of a question: the size is known)
    COMPLETE = "complete"
    #: the connection broke, or the source gave up in the middle: worth another try
    BROKEN = "broken"
    #: the source is too busy to answer: worth another try, and no fault
    BUSY = "busy"
    #: the source doesn't have the object
    ABSENT = "absent"
    #: what the source has is not what was begun with: nothing of that is of use
    DIFFERENT = "different"
    #: the source doesn't keep to the protocol, or lies about sizes
    WRONG = "wrong"


class Refusal(Enum):
    """Why there is no buffer for an object."""

    #: the object is in the store already
    PRESENT = "present"
    #: somebody else in this store is making it
    BEING_MADE = "being made"
    #: no room now
    FULL = "full"
    #: it can never be made here
    NEVER = "never"


class Cause(Enum):
    """Why a pull was given up, for whoever has to do something about it."""

    #: no source has it, can be reached, or lives
    NO_SOURCE = "no source"
    #: the store had no room for it for as long as one may wait
    NO_ROOM = "no room"
    #: it can never be made here; the text says why
    IMPOSSIBLE = "impossible"


# ---------------------------------------------------------------- events


class Tick(NamedTuple):
    """Time has passed. Wanted at `PullManager.deadline_s` at the latest."""


class Wanted(NamedTuple):
    """An object is to be brought here, from one of `sources`, the best first.

    Said again of the same object it adds sources, and may make it more urgent.
    """

    object_id: bytes
    sources: tuple[int, ...]
    priority: Priority
    size_bytes: int | None = None


class Unwanted(NamedTuple):
    """Nobody waits for the object any more."""

    object_id: bytes


class NodeDied(NamedTuple):
    """A node is gone for good: it is no source of anything."""

    node: int


class RoomIs(NamedTuple):
    """How many bytes the store can still take, without the buffers that have been made."""

    free_bytes: int


class BufferMade(NamedTuple):
    """The store has memory for the object, and part of it may be filled already (0 usually)."""

    object_id: bytes


class BufferRefused(NamedTuple):
    """The store has no memory for the object."""

    object_id: bytes
    refusal: Refusal
    why: str


class AttemptEnded(NamedTuple):
    """A question or a stream is over: nobody writes into the buffer any more.

    `size_bytes` is the object's size as the source says, None where it didn't. `received_bytes` are in the
    buffer, from its start.
    """

    object_id: bytes
    attempt: int
    end: End
    received_bytes: int
    size_bytes: int | None
    why: str


class Sealed(NamedTuple):
    """The object is in the store for all to see."""

    object_id: bytes


class SealRefused(NamedTuple):
    """The store did not seal the object: it was deleted while it came."""

    object_id: bytes
    why: str


Event = (
    Tick
    | Wanted
    | Unwanted
    | NodeDied
    | RoomIs
    | BufferMade
    | BufferRefused
    | AttemptEnded
    | Sealed
    | SealRefused
)

# ---------------------------------------------------------------- instructions


class Ask(NamedTuple):
    """Ask a source how large the object is. Ends with `AttemptEnded`."""

    object_id: bytes
    attempt: int
    source: int


class CreateBuffer(NamedTuple):
    """Get memory for the object. Answered by `BufferMade` or `BufferRefused`."""

    object_id: bytes
    size_bytes: int


class Stream(NamedTuple):
    """Fetch the object's bytes from `offset` on into its buffer. Ends with `AttemptEnded`."""

    object_id: bytes
    attempt: int
    source: int
    offset: int
    size_bytes: int


class StopAttempt(NamedTuple):
    """End an attempt now; its `AttemptEnded` is still waited for."""

    object_id: bytes
    attempt: int


class DropBuffer(NamedTuple):
    """Give the buffer's memory back."""

    object_id: bytes


class Seal(NamedTuple):
    """All bytes are here. Answered by `Sealed` or `SealRefused`."""

    object_id: bytes


class Pulled(NamedTuple):
    """Report: the object is here."""

    object_id: bytes


class Lost(NamedTuple):
    """Report: the object can't be brought here; `why` tells the whole story."""

    object_id: bytes
    cause: Cause
    why: str


class Complain(NamedTuple):
    """Write down what made no sense."""

    text: str


Instruction = Ask | CreateBuffer | Stream | StopAttempt | DropBuffer | Seal | Pulled | Lost | Complain
