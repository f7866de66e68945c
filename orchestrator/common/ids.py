"""Ids that two processes can compute without talking to each other.

An id is 16 bytes:

======  =====  =========================================================================================
offset  bytes  what
======  =====  =========================================================================================
0       2      index of the *home node*: the node of the process that made it; 0 in a private session
2       6      which process: its address, masked with a hash of the session's name
8       5      the process's sequence number, big-endian
13      3      index of a return value
======  =====  =========================================================================================

A worker that knows who submitted a task and under which number therefore knows the id of each of its results,
and nothing about ids travels in a message; and whoever has an id knows which node keeps account of the
object. The mask keeps a reference that was pickled in one session from naming something in another.

40 bits of sequence last 12 days at a million tasks per second; 24 bits allow 16 million items from one
generator. Functions, and what else is named by its content, have a hash after the home node.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Self

ID_SIZE_BYTES = 16
NODE_BYTES = 2
PREFIX_BYTES = 8
INDEX_BITS = 24
INDEX_MAX = (1 << INDEX_BITS) - 1
#: Bits of a process's address in a store: its slot, and the slot's generation.
ADDRESS_BITS = 48


class Process(NamedTuple):
    """A process of a cluster: the index of its node, and its address in that node's store."""

    node: int
    address: int


@lru_cache(maxsize=16)
def _mask(session: str) -> int:
    # FNV-1a (Fowler, Noll, Vo). It is to tell sessions apart, and keeps no secret; `hashlib` would bring
    # OpenSSL along, 4 ms on the way to the first task.
    number = 0xCBF29CE484222325
    for byte in session.encode():
        number = (number ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return number >> 64 - ADDRESS_BITS


def process_prefix(session: str, address: int, node: int = 0) -> bytes:
    """Return the first 8 bytes of the ids of the process with this address on a node of this session."""
    masked = (address ^ _mask(session)) & ((1 << ADDRESS_BITS) - 1)
    return (node << ADDRESS_BITS | masked).to_bytes(PREFIX_BYTES, "big")


def process_of_number(number: int) -> Process:
    """Return the process that a number of 64 bits names: its node, and its address there."""
    return Process(number >> ADDRESS_BITS, number & ((1 << ADDRESS_BITS) - 1))


def process_of(session: str, identity: bytes) -> Process:
    """Return the process whose ids begin like this one."""
    number = int.from_bytes(identity[:PREFIX_BYTES], "big")
    return Process(number >> ADDRESS_BITS, (number & ((1 << ADDRESS_BITS) - 1)) ^ _mask(session))


def home_of(identity: bytes) -> int:
    """Return the index of the node that keeps account of an object or an actor."""
    return int.from_bytes(identity[:NODE_BYTES], "big")


def home_of_actor(actor: str) -> int:
    """Return the same of an actor's id in hexadecimal; 0, which is no node, if it is none."""
    try:
        return int(actor[: 2 * NODE_BYTES], 16)
    except ValueError:
        return 0


def object_id(prefix: bytes, sequence: int, index: int = 0) -> bytes:
    """Return the id of return value `index` of the task (or put) number `sequence`."""
    return prefix + ((sequence << INDEX_BITS) | index).to_bytes(8, "big")


def sequence_of(identity: bytes) -> int:
    """Return the number of the task, or put, that an id is of."""
    return int.from_bytes(identity[8:13], "big")


def index_of(identity: bytes) -> int:
    """Return which return value an id is of."""
    return int.from_bytes(identity[13:], "big")


def first_result_of(identity: bytes) -> bytes:
    """Return the id of the first result of the task that this is a result of; a task is named by it."""
    return identity[:-3] + bytes(3)


def content_id(blob: bytes, node: int = 0) -> bytes:
    """Return the id of a blob that is the same in every process of a node: functions are exported under
    it.
    """
    import hashlib

    digest = hashlib.blake2b(blob, digest_size=ID_SIZE_BYTES - NODE_BYTES).digest()
    return node.to_bytes(NODE_BYTES, "big") + digest


class Id(bytes):
    """An id as bytes, with the methods that programs call on one.

    Ids of two kinds differ, whatever their bytes are; plain bytes are of no kind.
    """

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Return the id that `hex` has made this text of.

        Raises:
            ValueError: the text is not hexadecimal.
        """
        return cls(bytes.fromhex(text))

    @classmethod
    def from_binary(cls, data: bytes) -> Self:
        """Return the id with these bytes."""
        return cls(data)

    @classmethod
    def nil(cls) -> Self:
        """Return the id of nothing."""
        return cls()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Id) and type(other) is not type(self):
            return False
        return bytes.__eq__(self, other)  # type: ignore[no-any-return, arg-type]

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = bytes.__hash__

    def binary(self) -> bytes:
        """Return the plain bytes."""
        return bytes(self)

    def is_nil(self) -> bool:
        """Tell whether this is the id of nothing."""
        return not any(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"


class ActorID(Id):
    """The id of an actor."""


class JobID(Id):
    """The id of a job: a driver and what it has started."""


class NodeID(Id):
    """The id of a node."""


class PlacementGroupID(Id):
    """The id of a placement group."""


class TaskID(Id):
    """The id of a task, which is that of its first result."""


class WorkerID(Id):
    """The id of a process that runs the user's code."""


def random_hex() -> str:
    """Return 32 random hexadecimal digits: session names."""
    return os.urandom(16).hex()


def random_id(node: int = 0) -> bytes:
    """Return an id that nothing else has: actors, placement groups."""
    return node.to_bytes(NODE_BYTES, "big") + os.urandom(ID_SIZE_BYTES - NODE_BYTES)
