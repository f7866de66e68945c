"""What travels on a link: frames, each with its length in front. PURE.

======== ================================================ =========================================
kind     body                                             what
======== ================================================ =========================================
MESSAGE  source u64, target u64, lane u8, then the bytes   from a process to a process; never parsed
NEWS     JSON                                             from a node process to a node process
FORWARD  source u64, then JSON                            from a process to a node process
DELIVER  target u64, then JSON                            from a node process to a process
ACK      count u64                                        so many frames have arrived; not numbered itself
DATA     object 16 bytes, size u64, offset u64, bytes     a piece of an object
======== ================================================ =========================================

Addresses are those in the store of the process's own node: the sender's node for a source, the receiver's for
a target. Numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

MESSAGE, NEWS, FORWARD, DELIVER, ACK, DATA = range(1, 7)

#: Of one frame. Process messages have at most 128 KiB, news are split by whoever makes them.
FRAME_BYTES_MAX = 1 << 20

_LENGTH = struct.Struct("<I")
_HEAD = struct.Struct("<IB")
_MESSAGE = struct.Struct("<IBQQB")
_ADDRESSED = struct.Struct("<IBQ")
_DATA = struct.Struct("<IB16sQQ")
HEAD_BYTES = _HEAD.size
#: What the length in front counts, beside the body: the kind.
_COUNTED = 1


class BadFrame(ValueError):
    """The bytes are no frame: the peer speaks something else, or is broken. The text says how."""


class Frame(NamedTuple):
    """One frame as it arrived. `payload` is the body without the addresses."""

    kind: int
    #: Address of the process it is from (MESSAGE, FORWARD) or for (DELIVER); the count of an ACK; the
    #: object's size of DATA.
    source: int
    #: Address of the process it is for, of a MESSAGE; the offset of DATA.
    target: int
    lane: int
    payload: bytes
    #: The object of DATA.
    object: bytes = b""


def message(source: int, target: int, lane: int, payload: bytes) -> bytes:
    """Return the frame of a message between processes."""
    return _MESSAGE.pack(_MESSAGE.size - 4 + len(payload), MESSAGE, source, target, lane) + payload


def news(payload: bytes) -> bytes:
    """Return the frame of news between node processes."""
    return _HEAD.pack(_COUNTED + len(payload), NEWS) + payload


def forward(source: int, payload: bytes) -> bytes:
    """Return the frame of a process's message to a node process that isn't its own."""
    return _ADDRESSED.pack(_ADDRESSED.size - 4 + len(payload), FORWARD, source) + payload


def deliver(target: int, payload: bytes) -> bytes:
    """Return the frame of a node process's message to a process of another node."""
    return _ADDRESSED.pack(_ADDRESSED.size - 4 + len(payload), DELIVER, target) + payload


def ack(count: int) -> bytes:
    """Return the frame that says how many numbered frames have arrived."""
    return _ADDRESSED.pack(_ADDRESSED.size - 4, ACK, count)


def data(identity: bytes, size_bytes: int, offset: int, piece: bytes | memoryview) -> bytes:
    """Return the frame of a piece of an object."""
    return _DATA.pack(_DATA.size - 4 + len(piece), DATA, identity, size_bytes, offset) + piece


class Decoder:
    """Puts frames together from the pieces in which a stream delivers them."""

    def __init__(self) -> None:
        #: the beginning of a frame that is not complete
        self._rest = bytearray()

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """Take what has arrived, and return the frames that are complete.

        Raises:
            BadFrame: from the iterator, at the first that makes no sense; the stream is of no more use.
        """
        return self._go_on(piece) if self._rest else self._begin(piece)

    def _begin(self, piece: bytes) -> Iterator[Frame]:
        at, end = 0, len(piece)
        while (past := _end_of_frame(piece, at, end)) <= end:
            yield _decode(piece, at, past)
            at = past
        self._rest += piece[at:]

    def _go_on(self, piece: bytes) -> Iterator[Frame]:
        rest = self._rest
        rest += piece
        at, end = 0, len(rest)
        with memoryview(rest) as whole:
            while (past := _end_of_frame(whole, at, end)) <= end:
                yield _decode(whole, at, past)
                at = past
        del rest[:at]


def _end_of_frame(whole: bytes | memoryview, begin: int, end: int) -> int:
    """Return where the frame that begins here ends; if not all of it is at hand, that is beyond the end."""
    if end - begin < HEAD_BYTES:
        return begin + HEAD_BYTES
    size: int = _LENGTH.unpack_from(whole, begin)[0]
    if not _COUNTED <= size <= FRAME_BYTES_MAX:
        raise BadFrame(f"a frame of {size} bytes (at most {FRAME_BYTES_MAX})")
    return begin + 4 + size


def _decode(whole: bytes | memoryview, begin: int, end: int) -> Frame:
    size = end - begin
    kind = whole[begin + _LENGTH.size]
    if kind == MESSAGE and size >= _MESSAGE.size:
        _, _, source, target, lane = _MESSAGE.unpack_from(whole, begin)
        if lane > 1:
            raise BadFrame(f"there is no lane {lane}")
        return Frame(kind, source, target, lane, bytes(whole[begin + _MESSAGE.size : end]))
    if kind in (FORWARD, DELIVER, ACK) and size >= _ADDRESSED.size:
        source = _ADDRESSED.unpack_from(whole, begin)[2]
        return Frame(kind, source, 0, 0, bytes(whole[begin + _ADDRESSED.size : end]))
    if kind == DATA and size >= _DATA.size:
        _, _, identity, size_bytes, offset = _DATA.unpack_from(whole, begin)
        return Frame(kind, size_bytes, offset, 0, bytes(whole[begin + _DATA.size : end]), identity)
    if kind == NEWS:
        return Frame(kind, 0, 0, 0, bytes(whole[begin + HEAD_BYTES : end]))
    raise BadFrame(f"kind {kind} with {size} bytes")
