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
        self._rest = bytearray()

    def feed(self, piece: bytes | memoryview) -> Iterator[Frame]:
        """Take what has arrived, and return the frames that are complete.

        Raises:
            BadFrame: from the iterator, at the first that makes no sense; the stream is of no more use.
        """
        rest = self._rest
        rest += piece
        at = 0
        try:
            while len(rest) - at >= HEAD_BYTES:
                size, kind = _HEAD.unpack_from(rest, at)
                if not _COUNTED <= size <= FRAME_BYTES_MAX:
                    raise BadFrame(f"a frame of {size} bytes (at most {FRAME_BYTES_MAX})")
                if len(rest) - at < 4 + size:
                    return
                frame = _decode(kind, memoryview(rest)[at : at + 4 + size])
                at += 4 + size
                yield frame
        finally:
            del rest[:at]


def _decode(kind: int, whole: memoryview) -> Frame:
    with whole:
        if kind == MESSAGE and len(whole) >= _MESSAGE.size:
            _, _, source, target, lane = _MESSAGE.unpack_from(whole)
            if lane > 1:
                raise BadFrame(f"there is no lane {lane}")
            return Frame(kind, source, target, lane, bytes(whole[_MESSAGE.size :]))
        if kind in (FORWARD, DELIVER, ACK) and len(whole) >= _ADDRESSED.size:
            return Frame(kind, _ADDRESSED.unpack_from(whole)[2], 0, 0, bytes(whole[_ADDRESSED.size :]))
        if kind == DATA and len(whole) >= _DATA.size:
            _, _, identity, size_bytes, offset = _DATA.unpack_from(whole)
            return Frame(kind, size_bytes, offset, 0, bytes(whole[_DATA.size :]), identity)
        if kind == NEWS:
            return Frame(kind, 0, 0, 0, bytes(whole[HEAD_BYTES:]))
        size = len(whole)
    raise BadFrame(f"kind {kind} with {size} bytes")
