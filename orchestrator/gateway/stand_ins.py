"""The stand-ins of a node: one client of the store for each process of another node that has to do with
this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from orchestrator.common.ids import Process
from orchestrator.common.processes import stand_in_name

#: Messages taken from one stand-in's channels before the others have their turn.
MESSAGES_PER_TURN = 256


class StandIn:
    """One process of another node, as this node's processes see it."""

    __slots__ = ("address", "armed", "backlog", "endpoint", "process", "store")

    def __init__(self, process: Process, store: Any) -> None:
        self.process = process
        self.store = store
        self.endpoint = store.endpoint
        self.address: int = store.address
        #: messages for processes here whose rings are full: (address, lane, payload), in order
        self.backlog: list[tuple[int, int, bytes]] = []
        self.armed = False


class StandIns:
    """All of them, by process and by their address here.

    Args:
        store: the node's own; stand-ins share its mappings.
        watch, forget: of the node's event loop.
        on_messages: called with a stand-in when there may be messages for it. False: they can't be taken
        now, and it
            will be armed again by whoever takes them.
        on_made: called with each new one.
    """

    def __init__(
        self,
        store: Any,
        watch: Callable[[int, Callable[[], bool]], None],
        forget: Callable[[int], None],
        on_messages: Callable[[StandIn], bool],
        on_made: Callable[[StandIn], None] = lambda one: None,
    ) -> None:
        self._store = store
        self._watch = watch
        self._forget = forget
        self._on_messages = on_messages
        self._on_made = on_made
        self._by_process: dict[tuple[int, int], StandIn] = {}  # a Process is such a pair
        self._by_address: dict[int, StandIn] = {}

    def __iter__(self) -> Iterator[StandIn]:
        return iter(list(self._by_process.values()))

    def __len__(self) -> int:
        return len(self._by_process)

    def get(self, process: Process) -> StandIn | None:
        """Return the stand-in of a process, if it has one."""
        return self._by_process.get(process)

    def known(self, node: int, address: int) -> StandIn | None:
        """Like `get`, for whoever has a process's two numbers at hand."""
        return self._by_process.get((node, address))

    def at(self, address: int) -> StandIn | None:
        """Return the stand-in with this address here."""
        return self._by_address.get(address)

    def of(self, process: Process) -> StandIn:
        """Return the stand-in of a process, made at the first need."""
        found = self._by_process.get(process)
        return found if found is not None else self._make(process)

    def _make(self, process: Process) -> StandIn:
        store = self._store.stand_in(stand_in_name(process))
        made = StandIn(process, store)
        self._by_process[process] = self._by_address[made.address] = made
        self._watch(made.endpoint.fileno(), partial(self._on_bell, made))
        self.arm(made)
        self._on_made(made)
        return made

    def _on_bell(self, one: StandIn) -> bool:
        """Return True if everything was taken: nothing else is to be done then."""
        one.endpoint.drain()
        one.armed = False
        if self._on_messages(one):
            self.arm(one)
        return one.armed

    def arm(self, one: StandIn) -> None:
        """Have the event loop woken by the next message; what is here already is handled at once."""
        while not one.armed and one.address in self._by_address:
            if one.endpoint.arm():
                one.armed = True
            elif not self._on_messages(one):
                return

    def drop(self, one: StandIn) -> None:
        """The process is gone: whoever sends to it is told, what it held is given back."""
        if self._by_process.get(one.process) is one:
            del self._by_process[one.process], self._by_address[one.address]
            self._forget(one.endpoint.fileno())
            one.store.close()
