"""Deaths across nodes: those of this node's processes, told to the others, and theirs, told here.

A process's node tells every other that it is dead, after all that it has said. Here its stand-in is dropped
when everything that it has said has been received.

A stand-in may be *late*: made because a third node has named a process, after the news of its death had
passed. So a node that makes a stand-in says so to the process's node (`stands`), which answers if it is dead.
Of a node that is dead itself, the answer is known here.

With a node the actors end that are at home there, wherever they run: whoever made them has ended, and nobody
knows of them any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.common.ids import home_of_actor, process_prefix

if TYPE_CHECKING:
    from orchestrator.gateway.stand_ins import StandIn
    from orchestrator.node.cluster_member import ClusterMember
    from orchestrator.node.daemon import Daemon

#: Deaths that are remembered in detail, for those who hear late.
BURIED_MAX = 1000


class DeathsAbroad:
    """See the module's text."""

    def __init__(self, member: ClusterMember, node: Daemon) -> None:
        self._member = member
        self._node = node
        #: What is still to be told here: (stand-in, news).
        self._waiting: list[tuple[StandIn, dict[str, Any]]] = []
        #: The last deaths of processes of this node, as other nodes are told of them.
        self._buried: dict[int, dict[str, Any]] = {}

    # ------------------------------------------------------------ of this node

    def process_died(self, address: int, news: dict[str, Any]) -> None:
        """A process of this node is dead; all of this node know it."""
        member = self._member
        message = {"op": "died", "address": address, "actor": news.get("actor"), "report": news.get("report")}
        self._buried[address] = message
        if len(self._buried) > BURIED_MAX:
            del self._buried[next(iter(self._buried))]
        for node in sorted(member.peers):
            member.tell_for(address, node, message)
        member.objects.process_died(process_prefix(member.session, address, member.here))
        member.leases.client_gone(address)
        member.groups.client_gone(address)
        member.census.client_gone(address)
        member.gateway.source_gone(address)

    def on_stands(self, node: int, address: int) -> None:
        """Another node has made a stand-in of a process of this one."""
        # Address 0 is nobody's: detached actors are asked for in its name.
        if address and address not in self._node.clients:
            unknown = {"op": "died", "address": address, "actor": None, "report": None}
            self._member.tell_for(address, node, self._buried.get(address, unknown))

    # ------------------------------------------------------------ of others

    def stand_in_made(self, one: StandIn) -> None:
        """A process of another node has got a stand-in here."""
        node, address = one.process
        if self._member.links.is_dead(node):
            self._waiting.append((one, _died_with_node(node, "this was known before")))
        else:
            self._member.tell(node, {"op": "stands", "address": address})

    def node_died(self, index: int, why: str) -> None:
        """Another node is dead, and with it all its processes."""
        for one in self._member.stand_ins:
            if one.process.node == index:
                self.process_gone(one, _died_with_node(index, why))
        for slot in self._node.scheduler.slots:
            if slot.actor is not None and home_of_actor(slot.actor) == index:
                self._end_orphan(slot.actor, slot.address)

    def actor_placed(self, actor: str, worker: int) -> None:
        """An actor of another node has got a worker here: that node may be dead since it has asked."""
        if self._member.links.is_dead(home_of_actor(actor)):
            self._end_orphan(actor, worker)

    def _end_orphan(self, actor: str, worker: int) -> None:
        process = self._node.pool.at(worker)
        if process is not None:
            self._node.kill(process, f"node {home_of_actor(actor)}, where its creator was, is dead")

    def process_gone(self, one: StandIn, news: dict[str, Any]) -> None:
        """A process of another node is dead."""
        self._waiting.append((one, news))
        self.go_on()

    def go_on(self) -> bool:
        """Tell of deaths whose time has come; True if there were some: all is to be looked at again soon."""
        member = self._member
        waiting, self._waiting = self._waiting, []
        for one, news in waiting:
            if member.gateway.is_behind(one):
                self._waiting.append((one, news))
            elif member.stand_ins.at(one.address) is one:  # else it was told before, with its node, say
                member.objects.stand_in_gone(one.address, one.process.node)
                member.gateway.drop(one)
                member.leases.stand_in_gone(one.address)
                member.keepsakes.creator_gone(one.address)
                self._node.departures.process_of_other_node(one.address, one.process, news)
        return bool(waiting)


def _died_with_node(index: int, why: str) -> dict[str, Any]:
    reason = f"node {index} died: {why}"
    return {"actor": None, "report": {"reason": reason, "node": index}}
