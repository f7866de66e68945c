"""Processes of other nodes, as far as a process has to know that they are not here.

Such a process has an address in this node's store like any other, that of its stand-in; messages and results
for it are sent as ever. Two things differ: the ids of its objects begin with its node's index and its address
there, and of what is stored for it this node must hear, as nobody else could tell its node where the bytes
are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.common.ids import ADDRESS_BITS, Process, object_id, process_prefix
from orchestrator.common.processes import process_of_name
from orchestrator.core.entry import STORED, Entry
from orchestrator.core.part import Part
from orchestrator.objects import plasma_adapter as objects

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime


class Elsewhere(Part):
    """See the module's text."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def process_at(self, address: int) -> Process:
        """Return which process an address of this node's store leads to."""
        runtime = self._runtime
        there = process_of_name(runtime.store.name_of(address)) if runtime.here else None
        return there or Process(runtime.here, address)

    def number_of(self, address: int) -> int:
        """Return a number that no other process of the cluster has; on one machine, the address."""
        process = self.process_at(address)
        return process.node << ADDRESS_BITS | process.address

    def prefix_of(self, address: int) -> bytes:
        """Return what the ids of the process at an address of this node's store begin with."""
        process = self.process_at(address)
        return process_prefix(self._runtime.session, process.address, process.node)

    def gave(self, identity: bytes, owner: int, size_bytes: int) -> None:
        """Tell the node that an object lies here for a process of another one."""
        self._runtime.node.send({"op": "gave", "object": identity.hex(), "owner": owner, "size": size_bytes})

    def store_message(self, address: int, payload: bytes) -> bytes:
        """Put a message that is too long for a channel into the store, for its receiver; return its id."""
        runtime = self._runtime
        identity = object_id(runtime.prefix, runtime.next_seq())
        objects.put_parts(runtime.store, identity, [payload], owner=address, resident=True)
        if runtime.here and self.process_at(address).node != runtime.here:
            self.gave(identity, address, len(payload))
        return identity

    def handle_long(self, sender: int, identity: bytes) -> None:
        """Handle a message that lies in the store, now or when it has come from another node."""
        runtime = self._runtime
        buffer = runtime.store.try_get(identity)
        if buffer is not None:
            runtime.handle(sender, bytes(memoryview(buffer)))
            runtime.references.release(identity)
        elif runtime.references.is_foreign(identity):
            entry = runtime.references.borrow(identity)

            def arrived(_: Entry) -> None:
                found = runtime.store.try_get(identity) if entry.state == STORED else None
                if found is not None:
                    runtime.handle(sender, bytes(memoryview(found)))

            entry.when_done(arrived)
            runtime.references.watch(entry)
