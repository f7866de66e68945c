"""What a process knows about one object: its state, and the value when that is here.

States and where the value is:

=========  ============================================================================
PENDING    nowhere yet; `callbacks` wait for it
PLAIN      `value` is the value itself: immutable and small
BLOB       `value` is the value's bytes; every `get` makes a fresh copy from them
STORED     in the store, under the entry's id; `hold` keeps it there
ERROR      `value` is an exception, or the bytes of one
=========  ============================================================================

PENDING goes to any of the others, once; nothing leaves them. Python's own reference count of an
entry is the count of the references to the object in this process: when the last `ObjectRef`
goes the entry goes, with it the hold, and with that the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.objects.plasma_adapter import Hold

PENDING = 0
PLAIN = 1
BLOB = 2
STORED = 3
ERROR = 4

STATE_NAMES = ("pending", "here", "here", "in the store", "failed")


class Entry:
    """One object, as this process knows it. See the module's table."""

    __slots__ = ("__weakref__", "callbacks", "hold", "ident", "state", "task", "value")

    def __init__(self, ident: int | bytes, state: int = PENDING, value: Any = None, task: Any = None) -> None:
        #: number (sequence and index) of an object made here, whose id is computed when asked
        #: for; or the whole id, of any object
        self.ident = ident
        self.state = state
        self.value = value
        #: the task that produces it, while it is PENDING and that task is this process's
        self.task = task
        #: set as soon as other processes can know of the object
        self.hold: Hold | None = None
        self.callbacks: list[Callable[[Entry], Any]] | None = None

    def complete(self, state: int, value: Any) -> bool:
        """Leave PENDING and call whoever waits. False if that had happened before."""
        first = not self.state
        if first:
            self.value = value
            self.task = None
            # The state comes last: whoever sees it set may read the value without a lock.
            self.state = state
        # A second call finishes what an interrupted first one had begun. Each callback is taken off
        # the list before it is called, so that a thread that adds one at this moment and this one
        # agree about who calls it.
        callbacks = self.callbacks
        if callbacks is not None:
            while callbacks:
                callbacks.pop(0)(self)
        return first

    def when_done(self, callback: Callable[[Entry], Any]) -> None:
        """Call `callback(entry)` once, when the entry is no longer PENDING; at once if it isn't."""
        if not self.state:
            callbacks = self.callbacks
            if callbacks is None:
                self.callbacks = callbacks = []
            callbacks.append(callback)
            if not self.state:
                return
            try:
                callbacks.remove(callback)
            except ValueError:
                return
        callback(self)

    def forget(self, callback: Callable[[Entry], Any]) -> None:
        """Take back a callback that was not called yet."""
        callbacks = self.callbacks
        if callbacks is not None:
            try:
                callbacks.remove(callback)
            except ValueError:
                pass


class Waiter:
    """Counts the entries that were completed, and wakes its thread when enough were.

    Instances are callbacks of entries. `list.append` is atomic, so no lock is needed.
    """

    __slots__ = ("arrived", "entries", "failed", "gate", "need", "stop_at_error")

    def __init__(self, need: int, stop_at_error: bool, entries: Sequence[Entry] = ()) -> None:
        self.need = need
        self.arrived: list[Entry] = []
        self.failed = False
        self.stop_at_error = stop_at_error
        #: the entries all of which are needed; empty if some will do
        self.entries = entries
        #: the waiting thread sleeps on this, when it is not the one that pumps
        self.gate: Any = None

    @property
    def state(self) -> int:
        """Nonzero when the wait is over: what an entry offers, so that both can be waited for."""
        return len(self.arrived) >= self.need or self.failed

    def __call__(self, entry: Entry) -> None:
        self.arrived.append(entry)
        if self.stop_at_error and entry.state == ERROR:
            self.failed = True
        gate = self.gate
        if gate is not None and (self.failed or len(self.arrived) >= self.need):
            open_gate(gate)

    def satisfy(self) -> None:
        """End the wait, whatever has arrived."""
        self.need = 0
        gate = self.gate
        if gate is not None:
            open_gate(gate)


def open_gate(gate: Any) -> None:
    """Wake the thread that sleeps on this lock; opening it twice is harmless."""
    try:
        gate.release()
    except RuntimeError:
        pass
