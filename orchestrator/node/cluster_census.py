"""What a process wants to know of the other nodes: which processes they have, and what they have to say.

Whoever looks at a cluster asks each process itself (`orchestrator/core/census.py`), by its stand-in. Here it
learns of them: each node says which it has, within a time. A list that a node keeps itself (actors, what is
used) is asked of that node by a message that names it, and is forwarded to it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.common.ids import Process
from orchestrator.node.questions import Fields, Reply

if TYPE_CHECKING:
    from orchestrator.node.cluster_member import ClusterMember
    from orchestrator.node.daemon import Daemon

#: Processes in an answer: it has to fit into a message.
PROCESSES_MAX = 2000
PROCESSES = "processes"
#: What may be asked of a certain node.
OF_A_NODE = frozenset({"list_actors", "resources"})


class ClusterCensus:
    """See the module's text."""

    def __init__(self, member: ClusterMember, node: Daemon) -> None:
        self._member = member
        self._node = node
        #: Questions that other nodes are to answer: (who asks, his number) to the node.
        self._relayed: dict[tuple[int, int], int] = {}
        member.questions.handlers[PROCESSES] = self._on_processes

    def handle(self, sender: int, op: str, fields: Fields, payload: bytes) -> bool:
        """Answer what a process asks about other nodes; False if it asks something else."""
        if op == PROCESSES:
            self._gather(sender, fields["req"], fields["timeout_s"])
            return True
        if op in OF_A_NODE and fields["node"] not in ("", self._node.node_id):
            self._relay(sender, fields["node"], fields["req"], payload)
            return True
        return False

    # ------------------------------------------------------------ which processes there are

    def _gather(self, sender: int, request: int, timeout_s: float) -> None:
        rows: list[list[int]] = []
        silent: list[str] = []
        ids = {node.node: node.node_id for node in self._member.head.nodes()}
        waiting = set(self._member.peers)

        def done() -> None:
            found = rows[:PROCESSES_MAX]
            answer = {"processes": found, "silent": silent, "left_out": len(rows) - len(found)}
            self._node.outbox.send(sender, {"op": "reply", "req": request, **answer})

        def answered(peer: int, answer: Fields | None) -> None:
            waiting.discard(peer)
            if answer is not None:
                for address, pid in answer["processes"]:
                    stand_in = self._member.stand_ins.of(Process(peer, address))
                    rows.append([stand_in.address, pid])
            elif peer in self._member.peers:
                silent.append(ids.get(peer, str(peer)))
            if not waiting:
                done()

        if not waiting:
            done()
        for peer in sorted(waiting):
            self._member.questions.ask(peer, PROCESSES, {}, partial(answered, peer), timeout_s=timeout_s)

    def _on_processes(self, node: int, fields: Fields, reply: Reply) -> None:
        pids = {client["address"]: client["pid"] for client in self._node.store.clients()}
        found = [[address, pids[address]] for address in self._node.clients if address in pids]
        reply({"processes": found[:PROCESSES_MAX]})

    # ------------------------------------------------------------ what another node has to say

    def _relay(self, sender: int, node_id: str, request: int, payload: bytes) -> None:
        peer = next((one.node for one in self._member.head.nodes() if one.node_id == node_id), None)
        if peer is None:
            self._refuse(sender, request, f"there is no node {node_id!r:.100}")
            return
        self._relayed[sender, request] = peer
        self._member.forward(sender, peer, payload)

    def _refuse(self, sender: int, request: int, why: str) -> None:
        self._node.outbox.send(sender, {"op": "reply", "req": request, "error": why})

    def answered(self, client: int, message: dict[str, Any]) -> None:
        """An answer for a process of this node has come from another one."""
        self._relayed.pop((client, message.get("req", 0)), None)

    def node_died(self, node: int) -> None:
        """Another node is dead: it says nothing more."""
        for client, request in [asked for asked, peer in self._relayed.items() if peer == node]:
            del self._relayed[client, request]
            self._refuse(client, request, "the node has died")

    def client_gone(self, client: int) -> None:
        """A process of this node is gone."""
        for asked in [asked for asked in self._relayed if asked[0] == client]:
            del self._relayed[asked]
