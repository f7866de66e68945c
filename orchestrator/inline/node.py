"""What the node process would answer, answered here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.common.resources import ResourceSet
from orchestrator.core.part import Part
from orchestrator.objects.named_objects import NamedObjects

if TYPE_CHECKING:
    from orchestrator.inline.runtime import InlineRuntime

Answer = dict[str, Any]


class InlineNode(Part):
    """Answers requests; takes reports and needs none of them."""

    address = 0

    def __init__(self, runtime: InlineRuntime, quantities: Mapping[str, float]) -> None:
        self._runtime = runtime
        self.pid = os.getpid()
        self._named_objects = NamedObjects(runtime.store)
        self.total = ResourceSet.from_floats(quantities)
        self._answers: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "resources": self._resources,
            "end_actors": lambda message: runtime.actors.end_with_hooks(),
            "list_names": lambda message: runtime.actors.list_names(message["namespace"], message["skip"]),
            "wish": lambda message: {"error": "nobody starts nodes here: this session has one process"},
            "list_jobs": lambda message: {"jobs": [], "count": 0},
            "list_actors": lambda message: runtime.actors.listing(),
            "name_object": self._name_object,
            "find_object": self._find_object,
            "forget_object": self._forget_object,
            "list_named_objects": self._list_named_objects,
            "get_actor": lambda message: runtime.actors.find(message["namespace"], message["name"]),
        }

    def refusal(self, queue: Any) -> str | None:
        """Say why tasks of this scheduling class can never run here; None if they can.

        Nothing is counted: one thing runs at a time. But what no session of this size could run is an error.
        """
        return self._refusal(queue.scheduling.resources)

    def refusal_of(self, quantities: Mapping[str, float]) -> str | None:
        """Say why an actor that needs this to be placed can never be."""
        return self._refusal(ResourceSet.from_floats(quantities))

    def _refusal(self, wanted: ResourceSet) -> str | None:
        # Memory is the process's own, and a node's name is this one's.
        wanted = wanted.within(one for one in wanted if one != "memory" and not one.startswith("node:"))
        if wanted.fits(self.total):
            return None
        return f"needs {wanted}, the node has {self.total} in total"

    def ask(self, message: dict[str, Any], timeout_s: float = 0.0) -> Answer:
        """Answer a request.

        Raises:
            NotImplementedError: there is nothing like it in a session of one process.
        """
        answer = self._answers.get(message["op"])
        if answer is None:
            raise NotImplementedError(
                f'{message["op"]!r} needs the processes of a session: init() without mode="inline"'
            )
        return answer(message)

    def ask_later(self, message: dict[str, Any], on_answer: Callable[[Answer], None]) -> None:
        """Answer a request through a callback."""
        on_answer(self.ask(message))

    def send(self, message: dict[str, Any]) -> None:
        """Take a report: who is blocked, how an actor is. The actors' table learns it otherwise."""

    def alive(self) -> bool:
        """Return True, as who asks lives."""
        return True

    def stop(self, timeout_s: float) -> None:
        """End the actors."""
        self._runtime.actors.end_all()

    def _name_object(self, message: dict[str, Any]) -> Answer:
        identity = bytes.fromhex(message["object"])
        return {"named": self._named_objects.name(message["namespace"], message["name"], identity)}

    def _find_object(self, message: dict[str, Any]) -> Answer:
        found = self._named_objects.find(message["namespace"], message["name"])
        return {"object": found.hex() if found is not None else None}

    def _forget_object(self, message: dict[str, Any]) -> Answer:
        return {"forgotten": self._named_objects.forget(message["namespace"], message["name"])}

    def _list_named_objects(self, message: dict[str, Any]) -> Answer:
        names = self._named_objects.listing(message["namespace"])
        return {"names": names[message["skip"] :], "count": len(names)}

    def _resources(self, message: dict[str, Any]) -> Answer:
        quantities = self.total.to_floats()
        return {"total": quantities, "available": quantities}
