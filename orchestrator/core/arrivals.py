"""Entries in the order in which they were completed.

A `Waiter` counts the entries it was registered with, and is used once. This one hands them out, and goes on:
the iteration over ten thousand references registers with each of them once, and each costs one step.
"""

from __future__ import annotations

from collections import deque

from orchestrator.core.entry import Entry, Waiter


class Arrivals(Waiter):
    """A callback of entries, and what to wait for until there is one to take. For one waiting thread."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(1, stop_at_error=False)
        self.arrived = deque()  # type: ignore[assignment]

    def take(self) -> Entry | None:
        """Return the entry that was completed first of those not taken, or None."""
        try:
            return self.arrived.popleft()  # type: ignore[attr-defined, no-any-return]
        except IndexError:
            return None
