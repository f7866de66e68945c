"""What is sent: the bytes of an object that is in the store, or on its way there."""

from __future__ import annotations

import zlib
from typing import Any

from orchestrator.transfer.landing import Landing, LandingGone, Landings
from orchestrator.transfer.stores import TransferStore
from orchestrator.transfer.wire import Answer, Request, Status

#: How long a sender waits for bytes that its own node is still waiting for, before the receiver had better
#: ask somebody else.
STALL_TIMEOUT_S = 20.0
#: How long it waits for an object that was asked of it before its own node had memory for it.
EXPECTED_TIMEOUT_S = 2.0


class Outgoing:
    """An object's bytes; they stay where they are until this is released."""

    def __init__(self, source: Any, extent: tuple[int, int] | None, landing: Landing | None = None) -> None:
        self._source = source
        self._landing = landing
        self._beginning = 0 if landing is None else landing.beginning
        self.view = memoryview(source)
        self.size_bytes = self.view.nbytes
        #: where it lies in the segment's file; None: nowhere (it is mapped from a spilled file)
        self.file_offset = None if extent is None else extent[0]

    def wait_beyond(self, offset: int) -> int:
        """Return how many bytes are there, once that is more than `offset`. Raises LandingGone."""
        if self._landing is None:
            return self.size_bytes
        return self._landing.wait_beyond(offset, self._beginning, STALL_TIMEOUT_S)

    def answer(self, request: Request) -> Answer:
        """Return whether the request can be served, by what it says about size and beginning."""
        offset = request.offset
        if request.size_bytes not in (None, self.size_bytes):
            return Answer(Status.WRONG, self.size_bytes)
        if offset > self.size_bytes:
            return Answer(Status.WRONG, self.size_bytes)
        if offset:
            try:
                while self.wait_beyond(offset - 1) < offset:
                    pass
            except LandingGone:
                return Answer(Status.BUSY, self.size_bytes)
            if zlib.crc32(self.view[:offset]) != request.prefix_crc:
                return Answer(Status.DIFFERENT, self.size_bytes)
        return Answer(Status.OK, self.size_bytes)

    def release(self) -> None:
        """Let go of the object."""
        self.view.release()
        self._source = self._landing = None


class Library:
    """Finds what can be sent."""

    def __init__(self, store: TransferStore, landings: Landings) -> None:
        self.store = store
        self._landings = landings

    def open(self, object_id: bytes) -> Outgoing | None:
        """Return the object, restored from disk if need be; None: it is neither here nor expected.

        To be released.
        """
        landing = self._landings.get(object_id)
        if landing is None:
            buffer = self.store.find(object_id)
            if buffer is not None:
                return Outgoing(buffer, self.store.extent(buffer))
            landing = self._landings.wait_for(object_id, EXPECTED_TIMEOUT_S)
        if landing is None:
            buffer = self.store.find(object_id)  # it may have been on its way for less than a moment
            return None if buffer is None else Outgoing(buffer, self.store.extent(buffer))
        return Outgoing(landing.allocation, self.store.extent(landing.allocation), landing)

    def locate(self, object_id: bytes) -> tuple[bool, int | None]:
        """Return (all of it is here, its size if it is here or on its way)."""
        landing = self._landings.get(object_id)
        if landing is not None:
            return False, landing.size_bytes
        buffer = self.store.find(object_id) if self.store.is_here(object_id) else None
        return (False, None) if buffer is None else (True, len(buffer))
