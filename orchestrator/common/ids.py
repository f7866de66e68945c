"""Ids that two processes can compute without talking to each other.

An id is 16 bytes: an 8-byte prefix that names one process of one session, then a big-endian
64-bit number: the process's sequence number in the upper 40 bits, the index of a return value
in the lower 24. A worker that knows who submitted a task and under which number therefore knows
the id of each of its results, and nothing about ids travels in a message.

40 bits of sequence last 12 days at a million tasks per second; 24 bits allow 16 million items
from one generator.
"""

from __future__ import annotations

import os

ID_SIZE_BYTES = 16
INDEX_BITS = 24
INDEX_MAX = (1 << INDEX_BITS) - 1


def process_prefix(session: str, address: int) -> bytes:
    """Return the 8-byte prefix of the process with this address in this session.

    It is a hash and not random so that a peer can compute it; the session's name is random.
    """
    import hashlib  # not at the top: it brings OpenSSL along, 3 ms before the node can be started

    return hashlib.blake2b(address.to_bytes(8, "big"), digest_size=8, key=session.encode()[:64]).digest()


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


def content_id(blob: bytes) -> bytes:
    """Return the id of a blob that is the same in every process: functions are exported under it."""
    import hashlib

    return hashlib.blake2b(blob, digest_size=ID_SIZE_BYTES).digest()


class Id(bytes):
    """An id as bytes, with the methods that programs call on one."""

    def binary(self) -> bytes:
        """Return the plain bytes."""
        return bytes(self)

    def is_nil(self) -> bool:
        """Tell whether this is the id of nothing."""
        return not any(self)

    def __repr__(self) -> str:
        return f"Id({self.hex()})"


def random_hex() -> str:
    """Return 32 random hexadecimal digits: actor ids, session names."""
    return os.urandom(16).hex()
