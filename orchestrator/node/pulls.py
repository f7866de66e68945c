"""Large objects by the object service: the node's side of `transfer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.common.priority import Priority
from orchestrator.rpc.join_string import split_address
from orchestrator.transfer.addresses import NodeAddress
from orchestrator.transfer.events import Cause, Lost

if TYPE_CHECKING:
    from orchestrator.node.object_plane import ObjectPlane
    from orchestrator.transfer.transfer import ObjectTransfer


class Pulls:
    """What `object_plane` needs of it."""

    def __init__(self, transfer: ObjectTransfer, plane: ObjectPlane) -> None:
        self._transfer = transfer
        self._plane = plane
        self._addresses: dict[int, NodeAddress] = {}
        #: Objects on their way, and the nodes that were named for them.
        self._sources: dict[bytes, tuple[int, ...]] = {}

    def know(self, node: int, address: str) -> None:
        """Learn where a node serves objects."""
        host, port = split_address(address, "the object service")
        self._addresses[node] = NodeAddress(node, host, port)

    def pull(self, identity: bytes, sources: Sequence[int], size_bytes: int, priority: Priority) -> None:
        """Bring an object here."""
        known = [self._addresses[node] for node in sources if node in self._addresses]
        if not known:
            self._plane.failed(identity, sources, "no object service is known there")
            return
        self._sources[identity] = tuple(sources)
        self._transfer.pull(identity, known, priority, size_bytes)

    def hasten(self, identity: bytes, priority: Priority) -> None:
        """One that is on its way is wanted for something more urgent."""
        sources = self._sources.get(identity, ())
        known = [self._addresses[node] for node in sources if node in self._addresses]
        if known:
            self._transfer.pull(identity, known, priority)

    def cancel(self, identity: bytes) -> None:
        """Nobody waits for it any more."""
        if self._sources.pop(identity, None) is not None:
            self._transfer.cancel(identity)

    def look(self) -> None:
        """Handle what has happened."""
        while self._transfer.complaints:
            self._plane.complain(self._transfer.complaints.popleft())
        for event in self._transfer.take_events():
            sources = self._sources.pop(event.object_id, None)
            if sources is None:
                continue
            if isinstance(event, Lost) and event.cause is not Cause.NO_SOURCE:
                self._plane.impossible(event.object_id, event.why)
            elif isinstance(event, Lost):
                self._plane.failed(event.object_id, sources, event.why)
            else:
                self._plane.arrived(event.object_id)
