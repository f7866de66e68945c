"""How a node leaves a cluster in good order, and whether it has anything to do at all.

Draining is asked for at the head (`orchestrator drain`, the autoscaler), which tells everybody:

============================ =============================================================================
who                          does what
============================ =============================================================================
the node itself              takes nothing new: no leases, actors, bundles or drivers; asks for all leases
                             back, which come when their tasks are done
nodes with objects there     bring those home of which there is no copy elsewhere; a task's result is its
                             submitter's. Results whose bytes are lost all the same are made again, by their
                             lineage
nodes that borrow its own    bring copies to themselves: they last as long as somebody there refers to them
homes of actors there        have those restarted elsewhere that may be, which counts as no restart
the node itself              leaves when nothing keeps it: tasks, actors that are not restarted, drivers,
                             bundles of placement groups, objects; at the end of the grace in any case
============================ =============================================================================

There is no way back: a node that has begun to leave leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.gcs.requests import Refused, RequestDrain
from orchestrator.scheduling import actor_table, events
from orchestrator.scheduling.worker_slots import WorkerState

if TYPE_CHECKING:
    from orchestrator.node.cluster_member import ClusterMember
    from orchestrator.node.daemon import Daemon

#: What actors that are restarted elsewhere get to do what they were sent.
MOVE_GRACE_S = 30.0
#: How often is looked whether something still keeps a node that leaves.
LOOK_S = 0.05
#: Nodes that an error names.
NAMED_MAX = 20

_TASKS = (WorkerState.LEASED, WorkerState.BLOCKED)
_ACTORS = (WorkerState.ACTOR, WorkerState.ACTOR_BLOCKED)


class Leaving:
    """See the module's text."""

    def __init__(self, member: ClusterMember, node: Daemon) -> None:
        self._member = member
        self._node = node
        #: Other nodes that are about to leave.
        self._draining: set[int] = set()
        self._looked_s = 0.0
        self._is_kept = True

    def ask_for(self, node_id: str, grace_s: float, answer: Callable[[str], None]) -> None:
        """Have the head drain a node, this or another; `answer` is called with why that can't be, or ""."""
        nodes = {one.node_id: one for one in self._member.head.nodes()}
        found = nodes.get(node_id)
        if found is None:
            known = ", ".join(sorted(nodes)[:NAMED_MAX])
            answer(f"there is no node {node_id!r:.100}; there are {known}")
        elif found.is_head:
            answer(f"node {node_id} is the head's: the cluster ends with it, by `orchestrator stop`")
        else:
            request = RequestDrain(found.node, "it was asked to", grace_s)
            self._member.head.submit(
                request, lambda said: answer(said.text if isinstance(said, Refused) else "")
            )

    # ------------------------------------------------------------ this node

    def keeps(self) -> str:
        """Return what would end, or be missed, if this node left now; "" if nothing."""
        node = self._node
        slots = node.scheduler.slots
        found = []
        if slots.count(*_TASKS) or node.scheduler.waiting():
            found.append("tasks")
        if slots.count(*_ACTORS, WorkerState.ENDING) or node.actors.has_living:
            found.append("actors")
        if node.drivers is not None and node.drivers.count:
            found.append("drivers")
        if not found and node.scheduler.available != node.scheduler.total:
            found.append("bundles of placement groups")
        directory = self._member.objects.directory
        if not found and (directory.holds_for_others() or node.named_objects.listing(None)):
            found.append("objects")
        return ", ".join(found)

    def begin(self, reason: str, grace_s: float) -> None:
        """Leave as soon as nothing keeps this node, or when the grace is over; only the first time counts."""
        node = self._node
        if self._member.leases.is_draining:
            return
        node.complain(f"this node is drained: {reason}")
        self._member.leases.drain()
        slots = node.scheduler.slots
        node.perform_all(
            [
                events.Reclaim(slot.holder, slot.class_key, slot.token)
                for state in _TASKS
                for slot in slots.in_state(state)
            ]
        )
        if node.drivers is not None:
            node.drivers.drain(grace_s, self._keeps_still)

    def _keeps_still(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._is_kept = bool(self.keeps()) or self._member.is_behind
        return self._is_kept

    # ------------------------------------------------------------ other nodes

    def node_drains(self, index: int) -> None:
        """Another node is about to leave: bring here, or restart, what can be."""
        if index in self._draining:
            return
        self._draining.add(index)
        store, objects = self._node.store, self._member.objects
        objects.perform(objects.directory.node_drains(index, store.state))
        self.move_actors()

    def node_gone(self, index: int) -> None:
        """It has left."""
        self._draining.discard(index)

    def move_actors(self) -> None:
        """Have actors of this node restarted that are on nodes which leave."""
        if not self._draining:
            return

        def is_there(worker: int) -> bool:
            return self._member.process_at(worker).node in self._draining

        self._node.perform_all(self._node.actors.move_away(is_there, "its node leaves the cluster"))

    def move_actor(self, instruction: actor_table.MoveActorWorker) -> None:
        """Have the node of an actor's worker end it."""
        process = self._member.process_at(instruction.worker)
        message = {"op": "end", "address": process.address, "reason": instruction.reason}
        self._member.tell(process.node, message)

    def on_end(self, message: dict[str, Any]) -> None:
        """Another node moves an actor that is here."""
        process = self._node.pool.at(message["address"])
        if process is not None and process.decision is None:
            reason = str(message["reason"])[:1000]
            self._node.pool.end_gently(process, reason, time.monotonic(), MOVE_GRACE_S)
