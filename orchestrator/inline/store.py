"""The object table of a session that is one process: ids, states, references, bytes."""

from __future__ import annotations

import builtins
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from orchestrator.inline.endpoint import InlineEndpoint
from orchestrator.objects.plasma_adapter import (
    ABSENT,
    FREED,
    LOST,
    PENDING,
    SEALED,
    ObjectExistsError,
    PlasmaFullError,
    Serialized,
)

STATE_NAMES = ("absent", "pending", "created", "sealed", "spilled", "lost", "deleted", "freed")


class Info(NamedTuple):
    """An object, as far as a listing needs it."""

    object_id: bytes
    state: str
    size_bytes: int


class Holding(NamedTuple):
    """Who keeps an object: a process by its address, or an object by its id."""

    object_id: bytes
    holder: int
    parent: bytes | None
    pins: int
    refs: int
    keeps: bool = False


class _Object:
    """One entry: the bytes, who refers to it, and what it refers to."""

    __slots__ = ("contained", "data", "refs", "state")

    def __init__(self, state: int) -> None:
        self.state = state
        self.data: bytes = b""
        self.refs = 0
        self.contained: list[bytes] = []


class InlineStore:
    """An `ObjectStore` in this process's heap. Objects are `bytes`: arrays read from them are read-only."""

    address = 1

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.endpoint = InlineEndpoint(self.address)
        self.closed = False
        self._objects: dict[bytes, _Object] = {}
        self._used_bytes = 0
        # Reentrant: a destructor may drop a reference at any point, also inside these methods.
        self._lock = threading.RLock()
        #: called with the id of an object whose last reference has gone
        self.on_freed: Callable[[bytes], None] = lambda _: None

    def put_parts(
        self,
        object_id: bytes,
        parts: Sequence[Any],
        *,
        owner: int = 0,
        contained: Sequence[bytes] = (),
        referenced: bool = False,
        timeout_s: float = 0.0,
        resident: bool = False,
    ) -> int:
        """Store an object under an id that is new, or was declared.

        Raises:
            ObjectExistsError: the id is taken.
            ObjectStoreFullError: it does not fit.
        """
        data = Serialized(list(parts), 0).to_bytes()
        with self._lock:
            entry = self._objects.get(object_id)
            if entry is not None and entry.state != PENDING:
                raise ObjectExistsError(f"object {object_id.hex()} exists")
            if self._used_bytes + len(data) > self.size_bytes:
                free = self.size_bytes - self._used_bytes
                raise PlasmaFullError(f"need {len(data)} bytes, {free} of {self.size_bytes} are free")
            if entry is None:
                entry = self._objects[object_id] = _Object(SEALED)
                entry.refs = 1 if referenced else 0
            for inner in contained:
                self.add_ref(inner)
            entry.contained = list(contained)
            entry.data = data
            entry.state = SEALED
            self._used_bytes += len(data)
        return len(data)

    def try_get(self, object_id: bytes) -> bytes | None:
        """Return the object's bytes, or None."""
        entry = self._objects.get(object_id)
        return entry.data if entry is not None and entry.state == SEALED else None

    def get(self, object_id: bytes, timeout_s: float | None = None) -> bytes:
        """Return the object's bytes.

        Raises:
            ObjectNotFoundError: there is no such object, and in one process nobody else will make it.
        """
        data = self.try_get(object_id)
        if data is None:
            raise _not_found(object_id)
        return data

    def declare(self, object_id: bytes) -> None:
        """Make an object known before it is produced, with one reference."""
        with self._lock:
            if object_id not in self._objects:
                self._objects[object_id] = _Object(PENDING)
            self._objects[object_id].refs += 1

    def abandon(self, object_id: bytes) -> bool:
        """Say that a declared object will never come."""
        entry = self._objects.get(object_id)
        if entry is None or entry.state != PENDING:
            return False
        entry.state = LOST
        return True

    def state(self, object_id: bytes) -> int:
        """Return the object's state."""
        entry = self._objects.get(object_id)
        return entry.state if entry is not None else ABSENT

    watch = state

    def unwatch(self, object_id: bytes) -> None:
        """Nobody is told of a seal here."""

    def contains(self, object_id: bytes) -> bool:
        """Tell whether the object is here."""
        return self.state(object_id) == SEALED

    def add_ref(self, object_id: bytes) -> bool:
        """Take one reference; False when there is no such object."""
        return self.take_ref(object_id) != ABSENT

    def take_ref(self, object_id: bytes) -> int:
        """Take one reference, and return the object's state; ABSENT when there is no such object."""
        with self._lock:
            entry = self._objects.get(object_id)
            if entry is None:
                return ABSENT
            entry.refs += 1
            return entry.state

    def drop_ref(self, object_id: bytes) -> None:
        """Give one reference back; with the last one the object goes, and what it refers to may."""
        freed = []
        with self._lock:
            going = [object_id]
            while going:
                identity = going.pop()
                entry = self._objects.get(identity)
                if entry is None:
                    continue
                entry.refs -= 1
                if entry.refs <= 0:
                    del self._objects[identity]
                    self._used_bytes -= len(entry.data)
                    going += entry.contained
                    freed.append(identity)
        for identity in freed:
            self.on_freed(identity)

    def delete(self, object_id: bytes) -> None:
        """Remove an object, whoever refers to it."""
        with self._lock:
            entry = self._objects.pop(object_id, None)
            if entry is not None:
                self._used_bytes -= len(entry.data)
                for inner in entry.contained:
                    self.drop_ref(inner)

    def free(self, object_id: bytes) -> None:
        """Give an object's bytes up; who refers to it sees the state FREED."""
        with self._lock:
            entry = self._objects.get(object_id)
            if entry is not None and entry.state == SEALED:
                contained, entry.contained = entry.contained, []
                self._used_bytes -= len(entry.data)
                entry.state, entry.data = FREED, b""
                for inner in contained:
                    self.drop_ref(inner)

    def renew(self, object_id: bytes, owner: int = 0) -> bool:
        """Return False: of what was deleted nothing is left that could be renewed."""
        return False

    def knows(self, object_id: bytes) -> bool:
        """Tell whether the object is here, or promised."""
        return object_id in self._objects

    def clients(self) -> list[dict[str, Any]]:
        """Return the only process there is."""
        return [{"address": self.address, "pid": os.getpid(), "name": "driver", "state": "active"}]

    def list(self) -> list[Info]:
        """Return what is here."""
        with self._lock:
            return [
                Info(identity, STATE_NAMES[one.state], len(one.data))
                for identity, one in self._objects.items()
            ]

    def holds(self) -> builtins.list[Holding]:
        """Return who keeps what."""
        with self._lock:
            held = [
                Holding(inner, 0, identity, 0, 1)
                for identity, one in self._objects.items()
                for inner in one.contained
            ]
            inside = Counter(hold.object_id for hold in held)
            return held + [
                Holding(identity, self.address, None, 0, one.refs - inside[identity])
                for identity, one in self._objects.items()
            ]

    def stats(self) -> dict[str, int]:
        """Return totals."""
        return {
            "used_bytes": self._used_bytes,
            "size_bytes": self.size_bytes,
            "objects": len(self._objects),
        }

    def close(self) -> None:
        """Drop everything."""
        self.closed = True
        self._objects.clear()
        self._used_bytes = 0


def _not_found(object_id: bytes) -> Exception:
    from orchestrator.objects.plasma_adapter import ObjectLostError

    return ObjectLostError(f"no object {object_id.hex()} in this session")
