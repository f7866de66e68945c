"""Names of objects: 16 bytes, made without asking anybody.

An id made by :func:`new` is 8 random bytes of the process followed by a counter of 8 bytes. Two processes
collide only if they draw the same prefix: with 10 000 processes the chance is 10**8 / 2**65, about 3e-12.
Within a process nothing can collide. The store hashes ids itself, so neighbours don't crowd its table.
"""

from __future__ import annotations

import itertools
import os

__all__ = ["SIZE_BYTES", "check", "derive", "from_hex", "new", "to_hex"]

#: length of every id
SIZE_BYTES = 16

_PREFIX_SIZE_BYTES = 8


class _Generator:
    """A random prefix and a counter; drawing from the counter is one C call, so threads need no lock."""

    __slots__ = ("_next", "_prefix")

    def __init__(self) -> None:
        self.reseed()

    def reseed(self) -> None:
        """Start anew under another prefix. A forked child must, or it would repeat its parent's ids."""
        self._prefix = os.urandom(_PREFIX_SIZE_BYTES)
        self._next = itertools.count().__next__

    def new(self) -> bytes:
        """An id nobody has had before. See the module's text for how sure that is."""
        return self._prefix + self._next().to_bytes(8, "big")


_generator = _Generator()
os.register_at_fork(after_in_child=_generator.reseed)

new = _generator.new


def derive(data: bytes) -> bytes:
    """The id that belongs to ``data``: equal for equal bytes, in every process (BLAKE2b, cut to 16 bytes)."""
    import hashlib  # 3 ms, because it brings OpenSSL along; most processes derive nothing

    return hashlib.blake2b(data, digest_size=SIZE_BYTES).digest()


def to_hex(object_id: bytes) -> str:
    """The id as 32 hexadecimal digits."""
    return check(object_id).hex()


def from_hex(text: str) -> bytes:
    """The id that :func:`to_hex` printed. Raises ValueError for any other text."""
    try:
        object_id = bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"not an object id: {text!r} (32 hexadecimal digits are expected)") from None
    return check(object_id)


def check(object_id: bytes) -> bytes:
    """Return ``object_id`` if it can be one.

    Raises TypeError unless it is ``bytes``, ValueError unless 16 long.
    """
    if type(object_id) is not bytes:
        raise TypeError(f"an object id is bytes, not {type(object_id).__name__}")
    if len(object_id) != SIZE_BYTES:
        raise ValueError(f"an object id has {SIZE_BYTES} bytes, this one has {len(object_id)}")
    return object_id
