"""What a serialized value consists of: parts, each at a multiple of 64 bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plasma.errors import CorruptStoreError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["ALIGNMENT_BYTES", "Serialized", "aligned", "damaged", "lay_out"]

#: where parts start: a cache line, and enough for every SIMD load
ALIGNMENT_BYTES = 64

_PADDING = bytes(ALIGNMENT_BYTES)


def aligned(size_bytes: int) -> int:
    """The next multiple of 64."""
    return (size_bytes + 63) & -64


def damaged(what: str) -> CorruptStoreError:
    """The error for bytes whose ``what`` can't be true."""
    return CorruptStoreError(f"not a serialized value, or a damaged one: its {what} makes no sense")


class Serialized:
    """A value ready to be laid out: ``parts[0]`` is the header, the others are buffers of whoever owns them.

    The parts borrow the value's memory: keep the value unchanged until they are copied.
    """

    __slots__ = ("parts", "size_bytes")

    #: buffers, to be laid one after another, each at a multiple of 64 bytes
    parts: list[Buffer]
    #: what the layout takes, from the first byte of the header to the last of the last part
    size_bytes: int

    def __init__(self, parts: list[Buffer], size_bytes: int) -> None:
        self.parts = parts
        self.size_bytes = size_bytes

    def to_bytes(self) -> bytes:
        """The layout as one ``bytes``."""
        if len(self.parts) == 1:
            return bytes(self.parts[0])
        laid_out: list[Buffer] = []
        for part in self.parts:
            with memoryview(part) as view:
                laid_out += (part, _PADDING[: -view.nbytes & 63])
        laid_out.pop()
        return b"".join(laid_out)


def lay_out(header: bytes, parts: list[Any]) -> Serialized:
    """Join header and ``parts`` (flat buffers of bytes); their sizes must already be in the header."""
    size_bytes = len(header)
    for part in parts:
        size_bytes = aligned(size_bytes) + len(part)
    return Serialized([header, *parts], size_bytes)
