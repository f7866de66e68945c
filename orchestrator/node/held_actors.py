"""Detached actors, whose objects the node holds: they need no handles to live."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.objects.named_objects import Holder


class HeldActors:
    """The objects of detached actors, and those of their constructors' calls, by id in hexadecimal.

    Args:
        holder: who holds them.
        complain: takes what made no sense.
    """

    def __init__(self, holder: Holder, complain: Callable[[str], None]) -> None:
        self._holder = holder
        self._complain = complain
        self._held: set[str] = set()

    def hold(self, identity: str) -> None:
        """Keep a reference."""
        try:
            if self._holder.add_ref(bytes.fromhex(identity)):
                self._held.add(identity)
        except ValueError:
            self._complain(f"{identity!r:.100} is not the id of an actor")

    def drop(self, identity: str) -> None:
        """Give it back, if it is held."""
        if identity in self._held:
            self._held.remove(identity)
            self._holder.drop_ref(bytes.fromhex(identity))
