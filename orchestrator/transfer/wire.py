"""What goes over a direct data connection, as bytes.

The node that wants objects connects, with a token that it got through the gRPC service:

1. it sends a *hello*: magic, version, its node's index, the token. The other end answers with one byte, or
   hangs up;
2. then, as often as it likes, a *request*: an object, from which byte on, what it has of it so far; the
   *answer*: a status and the object's size, and, if the status is OK, the rest of the object's bytes, raw and
   without any framing, so that the kernel can send them out of one arena and receive them into the other;
3. when it has all of them it says `RECEIVED`, and the other end, if it has held the object all the time,
   `CONFIRMED`. Only then is the object complete.

Step 3 is there because `sendfile` copies nothing: what is on its way, in the queues of both ends, is the
pages of the sender's arena. If the object went before they were read, they could hold another object by then.
For the same reason what arrived before a connection broke is believed only when the next source has compared
its checksum with that of its own bytes.

Whoever can't go on hangs up, and the rest is asked for elsewhere. Whoever wants no more hangs up, too.

All numbers are little-endian. Nothing here has a variable length, so nothing that a stranger sends costs
memory.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from orchestrator.transfer.events import OBJECT_BYTES_MAX, End

VERSION = 1
TOKEN_BYTES = 32
OBJECT_ID_BYTES = 16
ACCEPTED = b"\x06"
RECEIVED = b"\x07"
CONFIRMED = b"\x08"
#: in a request: the size isn't known
SIZE_UNKNOWN = (1 << 64) - 1

_HELLO = struct.Struct(f"<8sHxxI{TOKEN_BYTES}s")
_HELLO_MAGIC = b"plasma\x02\n"
_REQUEST = struct.Struct(f"<4s{OBJECT_ID_BYTES}sQQI")
_REQUEST_MAGIC = b"get\n"
_ANSWER = struct.Struct("<4sIQ")
_ANSWER_MAGIC = b"got\n"

HELLO_BYTES = _HELLO.size
REQUEST_BYTES = _REQUEST.size
ANSWER_BYTES = _ANSWER.size


class WireError(ValueError):
    """The other end doesn't speak this protocol, or says what can't be."""


class Status(IntEnum):
    """How a request is answered."""

    OK = 0
    #: it doesn't have the object
    ABSENT = 1
    #: what the asker has of the object is not how this one begins
    DIFFERENT = 2
    #: too much to do: come back later
    BUSY = 3
    #: the request makes no sense: another size, or an offset behind the end
    WRONG = 4


END_OF: dict[Status, End] = {
    Status.OK: End.COMPLETE,
    Status.ABSENT: End.ABSENT,
    Status.DIFFERENT: End.DIFFERENT,
    Status.BUSY: End.BUSY,
    Status.WRONG: End.WRONG,
}


class Hello(NamedTuple):
    """Who connects, and that he may."""

    node: int
    token: bytes

    def pack(self) -> bytes:
        """Return it as bytes."""
        return _HELLO.pack(_HELLO_MAGIC, VERSION, self.node, self.token)

    @classmethod
    def unpack(cls, data: bytes) -> Hello:
        """Raises WireError."""
        magic, version, node, token = _HELLO.unpack(data)
        if magic != _HELLO_MAGIC:
            raise WireError(f"begins with {magic!r}: no data connection of this project")
        if version != VERSION:
            raise WireError(f"speaks version {version} of data connections, not {VERSION}")
        return cls(node, token)


class Request(NamedTuple):
    """Ask for an object's bytes from `offset` on."""

    object_id: bytes
    offset: int
    #: as the asker knows it; None: it doesn't
    size_bytes: int | None
    #: CRC-32 of the `offset` bytes that the asker has
    prefix_crc: int

    def pack(self) -> bytes:
        """Return it as bytes."""
        size = SIZE_UNKNOWN if self.size_bytes is None else self.size_bytes
        return _REQUEST.pack(_REQUEST_MAGIC, self.object_id, self.offset, size, self.prefix_crc)

    @classmethod
    def unpack(cls, data: bytes) -> Request:
        """Raises WireError."""
        magic, object_id, offset, size, crc = _REQUEST.unpack(data)
        if magic != _REQUEST_MAGIC:
            raise WireError(f"a request begins with {magic!r}")
        return cls(object_id, offset, None if size == SIZE_UNKNOWN else size, crc)


class Answer(NamedTuple):
    """What a request meets; if OK, bytes follow."""

    status: Status
    size_bytes: int

    def pack(self) -> bytes:
        """Return it as bytes."""
        return _ANSWER.pack(_ANSWER_MAGIC, self.status, self.size_bytes)

    @classmethod
    def unpack(cls, data: bytes) -> Answer:
        """Raises WireError."""
        magic, status, size = _ANSWER.unpack(data)
        if magic != _ANSWER_MAGIC:
            raise WireError(f"an answer begins with {magic!r}")
        if size > OBJECT_BYTES_MAX:
            raise WireError(f"claims an object of {size} bytes")
        try:
            return cls(Status(status), size)
        except ValueError:
            raise WireError(f"answers with the unknown status {status}") from None
