"""This node's session with the head: who else is there, what is free where, names, commands.

The node registers before it serves anybody, as its index is part of everything that is made on it. From then
on the head may be away for any time: what is known stays known, links between nodes work on, questions wait.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import messages
from orchestrator.gcs.link import GcsLink
from orchestrator.gcs.messages import Heartbeat, NodeSpec, NodeView, Pending, Registered
from orchestrator.gcs.requests import (
    Answer,
    DeclareDead,
    FinishJob,
    JobEnded,
    Request,
    StartJob,
)
from orchestrator.rpc.join_string import split_address
from orchestrator.rpc.network_thread import NetworkThread

if TYPE_CHECKING:
    from orchestrator.node.cluster_member import ClusterMember
    from orchestrator.rpc.credentials import Identity

#: How long a node waits for the head when it begins.
REGISTER_TIMEOUT_S = 30.0
#: Names of services in a node's record.
LINK, OBJECTS = "link", "objects"


class NotRegistered(Exception):
    """The head does not take this node; the text says why."""


class HeadLink:
    """See the module's text."""

    def __init__(self, address: str, identity: Identity, spec: NodeSpec, thread: NetworkThread) -> None:
        self._thread = thread
        self._link = GcsLink(thread, address, identity, spec)
        self._waiting: list[messages.LinkEvent] = []
        self._alive: dict[int, NodeView] = {}
        #: While a snapshot comes: who has not been in it yet.
        self._unseen: set[int] = set()
        self.connected = False

    def wait_registered(self) -> Registered:
        """Wait until the head has given this node its index.

        Raises:
            NotRegistered: it refuses, or there is no answer.
        """
        deadline_s = time.monotonic() + REGISTER_TIMEOUT_S
        said = ""
        while time.monotonic() < deadline_s:
            registered: Registered | None = None
            for event in self._link.poll():
                match event:
                    case Registered():
                        registered = event
                    case messages.MustLeave(reason):
                        raise NotRegistered(reason)
                    case messages.Explain(text):
                        said = text
                    case _:
                        # What comes with the index is who else is there.
                        self._waiting.append(event)
            if registered is not None:
                self.connected = True
                return registered
            time.sleep(0.002)  # only now, when a node begins, is there nothing else to do
        raise NotRegistered(f"the head did not answer within {REGISTER_TIMEOUT_S:g} s. {said}")

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._link.fileno()

    def submit(self, request: Request, callback: Callable[[Answer], None] | None = None) -> None:
        """Ask the head; `callback` is called in this node's loop."""
        self._link.submit(request, callback)

    def post(self, function: Callable[[], None]) -> None:
        """Have the node's loop call this. From any thread."""
        self._thread.post(function)

    def report(self, available: ResourceSet, pending: list[Pending], status: dict[str, Any]) -> None:
        """Say what is free here and what waits."""
        self._link.report(Heartbeat(available, tuple(pending), status=json.dumps(status)))

    def start_job(
        self, job: str, namespace: str, entrypoint: str, callback: Callable[[Answer], None]
    ) -> None:
        """A driver of this node has begun a job; `callback` is called when the head knows it."""
        self._link.submit(StartJob(job, namespace, entrypoint), callback)

    def finish_job(self, job: str, reason: str) -> None:
        """The driver is gone; every node will be told to end the job."""
        self._link.submit(FinishJob(job, reason))

    def node_is_gone(self, index: int, reason: str) -> None:
        """Somebody knows for sure that a node is gone."""
        self._link.submit(DeclareDead(index, reason))

    def poll(self, member: ClusterMember) -> None:
        """Handle what the head has said."""
        events, self._waiting = [*self._waiting, *self._link.poll()], []
        for event in events:
            match event:
                case messages.View():
                    self._on_view(member, event)
                case messages.MustLeave(reason):
                    member.must_leave(reason)
                case messages.DrainNode(reason, grace_s):
                    member.leaving.begin(reason, grace_s)
                case messages.EndJob(job, reason):
                    member.jobs.on_job_over(job)
                    self._link.submit(JobEnded(job))
                case messages.Explain(text):
                    member.complain(text)
                case messages.Registered():
                    pass  # once more, under the same index: the head was away
                case messages.Connected():
                    self.connected = True
                    member.groups.watch_again()
                    member.scaling.learn()
                case messages.Disconnected(cause):
                    self.connected = False
                    member.complain(f"the head is out of reach: {cause}")
                case _:
                    member.on_head_event(event)

    def _on_view(self, member: ClusterMember, view: messages.View) -> None:
        if view.snapshot:
            # Who is not in it is dead, be it since before this node came: what was a dead node's may still be
            # referred to. The first index is kept for the head's node, and that may come later.
            self._unseen = {*self._alive, *range(2, member.here)} - {member.here}
        for node in view.nodes:
            self._unseen.discard(node.node)
            if node.state == "DEAD":
                if self._alive.pop(node.node, None) is not None:
                    member.node_died(node.node, node.cause)
                continue
            if node.node not in self._alive:
                host, port = split_address(node.services[LINK], "the link's address")
                member.node_joined(node.node, host, port, node.services.get(OBJECTS, ""))
            self._alive[node.node] = node
            member.leases.on_view(node)
            if node.draining and node.node != member.here:
                member.leaving.node_drains(node.node)
        if view.version:  # all of it has come
            unseen, self._unseen = self._unseen, set()
            for index in sorted(unseen):
                self._alive.pop(index, None)
                member.node_died(index, "the head does not know it any more")

    def nodes(self) -> list[NodeView]:
        """Return the nodes that live, this one too."""
        return list(self._alive.values())

    def close(self, reason: str) -> None:
        """Leave the cluster."""
        self._link.close(reason)
        self._thread.close()


def own_spec(
    node_id: str, services: dict[str, str], total: ResourceSet, labels: dict[str, str], *, is_head: bool
) -> NodeSpec:
    """Return what this node says of itself."""
    return NodeSpec(node_id, socket.gethostname(), services, total, labels, is_head)
