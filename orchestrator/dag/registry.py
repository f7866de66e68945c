"""Which compiled graphs this process takes part in: where their messages go."""

from __future__ import annotations

from typing import Any, Protocol

from orchestrator.core.runtime import Runtime
from orchestrator.dag.values import DATA, STOP, STOPPED, release


class Participant(Protocol):
    """A process's part in a graph: its driver's, or an actor's."""

    def arrived(self, number: int, slot: int, kind: int, payload: Any) -> None:
        """Take a value of an execution."""


class Registry:
    """The graphs of one process, by id. It is found through the handlers it sets."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._graphs: dict[str, Any] = {}
        handlers = runtime.handlers
        handlers[DATA] = self.on_data
        handlers[STOP] = self.on_stop
        handlers[STOPPED] = self.on_stopped
        self._died_before = handlers.get("died")
        handlers["died"] = self.on_died

    def add(self, graph: str, participant: Any) -> None:
        """Begin with a graph."""
        self._graphs[graph] = participant

    def remove(self, graph: str) -> None:
        """End with a graph; what still arrives for it is dropped."""
        self._graphs.pop(graph, None)

    def on_data(self, sender: int, graph: str, number: int, slot: int, kind: int, payload: Any) -> None:
        """A value has arrived."""
        participant = self._graphs.get(graph)
        if participant is None:
            release(self._runtime, kind, payload)
        else:
            participant.arrived(number, slot, kind, payload)

    def on_stop(self, sender: int, graph: str) -> None:
        """The driver tears a graph down."""
        participant = self._graphs.get(graph)
        if participant is not None:
            participant.close()

    def on_stopped(self, sender: int, graph: str) -> None:
        """An actor has left a graph of this process's."""
        participant = self._graphs.get(graph)
        if participant is not None:
            participant.stopped(sender)

    def on_died(self, address: int) -> None:
        """A process has died."""
        if self._died_before is not None:
            self._died_before(address)
        for participant in list(self._graphs.values()):
            on_died = getattr(participant, "on_died", None)
            if on_died is not None:
                on_died(address)


def registry_of(runtime: Runtime) -> Registry:
    """Return the registry of this process."""
    handler = runtime.handlers.get(DATA)
    if handler is None:
        return Registry(runtime)
    registry: Registry = handler.__self__  # type: ignore[attr-defined]
    return registry
