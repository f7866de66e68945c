"""Objects on their way into this node's arena, and the bytes of them that can be passed on already.

One thread at a time writes into a landing, in order from its start; any number read what has arrived, so a
node that is still receiving is a source for the next one. The memory goes when the last of them is done with
it.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

from orchestrator.exceptions import OrchestratorError


class LandingGone(OrchestratorError):
    """The object stopped coming, or began anew: what was passed on of it can't be completed."""


class Allocation(Protocol):
    """Memory of an unsealed object; dropped unsealed, nothing of it remains."""

    def __buffer__(self, flags: int, /) -> memoryview: ...

    @property
    def fresh(self) -> bool: ...

    def populate(self, start: int, size: int) -> None: ...

    def seal(self) -> None: ...


class Landing:
    """One object on its way here."""

    def __init__(self, object_id: bytes, allocation: Any) -> None:
        self.object_id = object_id
        self.allocation = allocation
        self.view = memoryview(allocation)
        self.size_bytes = self.view.nbytes
        self._changed = threading.Condition()
        self._received_bytes = 0
        #: which beginning this is; those who read an earlier one must not go on
        self._beginning = 0
        self._over = False
        self._sealed = False

    @property
    def received_bytes(self) -> int:
        """Bytes that have arrived, from the start."""
        return self._received_bytes

    @property
    def beginning(self) -> int:
        """To be handed to `wait_beyond`."""
        return self._beginning

    def advance(self, received_bytes: int) -> None:
        """Say that all bytes before this one are there."""
        with self._changed:
            self._received_bytes = received_bytes
            self._changed.notify_all()

    def restart(self) -> None:
        """Begin anew: what has arrived was of another object."""
        with self._changed:
            self._received_bytes = 0
            self._beginning += 1
            self._changed.notify_all()

    def seal(self) -> None:
        """Show the object to all. Raises what the store does."""
        self.allocation.seal()
        with self._changed:
            self._sealed = True

    def close(self) -> None:
        """Let go: whoever waits for more bytes of an object that isn't sealed gets `LandingGone`."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait_beyond(self, offset: int, beginning: int, timeout_s: float) -> int:
        """Return how many bytes are there, once that is more than `offset` or all.

        Raises:
            LandingGone: they don't come any more, or not within the time.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._over
                    or self._beginning != beginning
                    or self._received_bytes > offset
                    or self._received_bytes == self.size_bytes
                ),
                timeout_s,
            )
            if self._beginning != beginning or (self._over and not self._sealed):
                raise LandingGone(f"object {self.object_id.hex()} stopped coming")
            if self._received_bytes <= offset < self.size_bytes:
                raise LandingGone(f"nothing of object {self.object_id.hex()} came for {timeout_s:g} s")
            return self._received_bytes


class Landings:
    """All objects on their way here."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._landings: dict[bytes, Landing] = {}
        #: what is wanted here, and will be on its way as soon as it has memory
        self._expected: set[bytes] = set()

    def expect(self, object_id: bytes) -> None:
        """Say that an object will be on its way soon: who is sent here for it need not go away again."""
        with self._changed:
            self._expected.add(object_id)

    def expect_no_more(self, object_id: bytes) -> None:
        """Say that it is here, or will not come."""
        with self._changed:
            self._expected.discard(object_id)
            self._changed.notify_all()

    def wait_for(self, object_id: bytes, timeout_s: float) -> Landing | None:
        """Return it once it is on its way; None if it isn't expected, any more or so soon."""
        with self._changed:
            self._changed.wait_for(
                lambda: object_id in self._landings or object_id not in self._expected, timeout_s
            )
            return self._landings.get(object_id)

    def add(self, landing: Landing) -> None:
        """Make it findable."""
        with self._changed:
            assert landing.object_id not in self._landings
            self._landings[landing.object_id] = landing
            self._changed.notify_all()

    def get(self, object_id: bytes) -> Landing | None:
        """Return it while it is on its way."""
        return self._landings.get(object_id)

    def remove(self, object_id: bytes) -> Landing | None:
        """Take it out and close it."""
        with self._changed:
            landing = self._landings.pop(object_id, None)
        if landing is not None:
            landing.close()
        return landing

    def close(self) -> None:
        """Close all."""
        with self._changed:
            self._expected.clear()
            self._changed.notify_all()
        for object_id in list(self._landings):
            self.remove(object_id)
