"""This node as one of several: what its processes ask of other nodes, and what those ask of it.

The node's clients may be elsewhere. What a process tells a node process that isn't its own is forwarded, and
handled there as if the process's stand-in had said it; what a node process tells a stand-in is delivered to
the process. So the whole of `control_handlers` serves processes of other nodes too, and this file says only
who is asked:

====================================== ==========================================================
about                                  is asked
====================================== ==========================================================
an actor (resolve, kill, its state)    the node of the process that created it, its *home*
a worker (return, kill)                the node on which it runs
workers for tasks and actors           this node, and those that `leases_abroad` chooses
placement groups                       the head, by `groups_abroad`
a name                                 the head, and the node that has claimed it: `cluster_names`
====================================== ==========================================================

In a message between nodes a process is `[node, address]`; here it is the address of its stand-in.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from typing import TYPE_CHECKING, Any

from orchestrator.common.ids import Process, home_of_actor
from orchestrator.common.priority import Priority
from orchestrator.gateway import frames
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.link import Identity, Links
from orchestrator.gateway.stand_ins import StandIn, StandIns
from orchestrator.node.cluster_census import ClusterCensus
from orchestrator.node.cluster_names import ClusterNames
from orchestrator.node.deaths_abroad import DeathsAbroad
from orchestrator.node.environments_abroad import EnvironmentsAbroad
from orchestrator.node.groups_abroad import GroupsAbroad
from orchestrator.node.head_link import LINK, OBJECTS, HeadLink, own_spec
from orchestrator.node.jobs_abroad import JobsAbroad
from orchestrator.node.keepsakes import Keepsakes
from orchestrator.node.leases_abroad import LeasesAbroad
from orchestrator.node.leaving import Leaving
from orchestrator.node.locator import Locator
from orchestrator.node.object_plane import ObjectPlane
from orchestrator.node.pulls import Pulls
from orchestrator.node.questions import Questions
from orchestrator.node.scaling import Scaling
from orchestrator.rpc.join_string import join_address, split_address

if TYPE_CHECKING:
    from orchestrator.node.daemon import Daemon

#: Fields of messages that name a process.
PROCESS_FIELDS = ("worker", "client")
#: News about objects; `object_plane` knows them.
OBJECT_NEWS = frozenset({
    "stored", "borrow", "borrowed", "unknown", "unborrow", "want", "located", "lost", "copied", "dropped",
    "stale", "free", "fetch", "no_copy",
})  # fmt: skip
#: Pause before a full ring is tried again.
RETRY_S = 0.002

#: Of an answer that lists nodes.
NODES_LISTED_MAX = 200

_encode = json.JSONEncoder(separators=(",", ":")).encode


class ClusterMember:
    """See the module's text.

    Args:
        node: the node process's daemon.
        store_fd: the descriptor of the store's segment.
        facts: `node_id`; `host`, as others reach it; `listen_fd`, a listening TCP socket for links;
        `secret` (hex);
            `gcs`, the head's address; `identity`, the directory of this node's certificate; `trusted`,
            whether links and data go in the clear; `is_head`.

    Raises:
        NotRegistered: the head does not take this node.
        CredentialError: the certificate can't be read.
    """

    def __init__(self, node: Daemon, facts: dict[str, Any], store_fd: int) -> None:
        from orchestrator.gateway.security import tls_context
        from orchestrator.rpc.credentials import CLUSTER_NAME
        from orchestrator.rpc.credentials import Identity as Certificate
        from orchestrator.rpc.network_thread import NetworkThread
        from orchestrator.transfer.security import Security
        from orchestrator.transfer.transfer import ObjectTransfer

        self._node = node
        listener = socket.socket(fileno=os.dup(facts["listen_fd"]))
        certificate = Certificate.load(facts["identity"])
        security = Security(certificate, facts["trusted"])
        # The index is not known yet, and nothing is pulled before it is.
        self.transfer = ObjectTransfer(node.store, 0, facts["host"], security)
        objects = self.transfer.start()
        spec = own_spec(
            node.node_id,
            {LINK: join_address(facts["host"], listener.getsockname()[1]), OBJECTS: objects.target},
            node.scheduler.total,
            dict(node.labels),
            is_head=facts["is_head"],
        )
        self.head = HeadLink(facts["gcs"], certificate, spec, NetworkThread())
        registered = self.head.wait_registered()
        self.here: int = registered.node
        #: Index of the head's node, the home of all detached actors.
        self.head_index: int = registered.head_index or registered.node
        self.transfer.joined_as(self.here)
        self.session: str = registered.cluster_id
        identity = Identity(
            self.session,
            self.here,
            secrets.token_hex(8),
            bytes.fromhex(facts["secret"]),
            None if facts["trusted"] else tls_context(certificate, server=False),
            None if facts["trusted"] else tls_context(certificate, server=True),
            CLUSTER_NAME,
        )
        self.links = Links(identity, node.reactor, listener, self._on_frame, node.complain, time.monotonic)
        node.reactor.after_carrying = self.links.flush
        self.stand_ins = StandIns(
            node.store,
            node.reactor.watch,
            node.reactor.forget,
            self._read,
            lambda one: self.deaths.stand_in_made(one),
        )
        self.objects = ObjectPlane(
            self.session,
            node.store,
            self.stand_ins,
            self.links,
            here=self.here,
            tell=self.tell,
            tell_process=self._tell_process,
            tell_all=lambda message: node.outbox.broadcast(node.clients, message),
            complain=node.complain,
            now=time.monotonic,
        )
        self.gateway = Gateway(
            self.here,
            self.stand_ins,
            self.links,
            hopeless=node.hopeless,
            is_held=self.objects.directory.is_held,
            read_control=node.read_messages,
        )
        self.objects.gateway = self.gateway
        self.objects.on_released = self._released
        node.memory.drop_spares = self.objects.drop_spares
        #: Actors of this node whose workers are on others: the addresses of their stand-ins.
        self._actors_abroad: dict[bytes, int] = {}
        self.deaths = DeathsAbroad(self, node)
        self.leases = LeasesAbroad(self, node)
        #: Nodes that are alive, as far as is known.
        self.peers: set[int] = set()
        self.jobs = JobsAbroad(self, node)
        self.leaving = Leaving(self, node)
        self.scaling = Scaling(self)
        self.groups = GroupsAbroad(self, node)
        self.environments = EnvironmentsAbroad(self, node)
        node.environments.fetch = self.environments.fetch
        self.questions = Questions(self.here, self._send_behind, time.monotonic)
        self.keepsakes = Keepsakes(type(node.store).attach(store_fd, name="keeper"), self)
        self.names = ClusterNames(self, node)
        self.census = ClusterCensus(self, node)
        self.locator = Locator(self, node)
        self.objects.transfer = Pulls(self.transfer, self.objects)
        node.reactor.watch(self.transfer.fileno(), self.objects.transfer.look)
        node.reactor.watch(self.head.fileno(), self._on_head)
        self._on_head()

    def _on_head(self) -> None:
        self.head.poll(self)

    def complain(self, text: str) -> None:
        """Write down what a person should know."""
        self._node.complain(text)

    def must_leave(self, reason: str) -> None:
        """This node does not belong to the cluster any more."""
        self._node.stop(f"the head says that this node has to leave: {reason}")

    @property
    def is_behind(self) -> bool:
        """Whether something waits to be sent to other nodes."""
        return any(self.links.waiting_bytes(node) for node in self.peers)

    def on_head_event(self, event: Any) -> None:
        """The head has said something else."""
        if not self.groups.on_event(event):
            self.complain(f"the head said {type(event).__name__}, which this node does not act upon")

    # ------------------------------------------------------------ other nodes

    def node_joined(self, index: int, host: str, port: int, objects: str) -> None:
        """A node is there; `objects` is the address of its object service."""
        if index != self.here:
            if objects:
                self.objects.transfer.know(index, objects)  # type: ignore[union-attr]
            self.links.know(index, host, port)
            self.peers.add(index)
            self.jobs.node_joined(index)
            self.leases.node_joined(index)

    def node_died(self, index: int, why: str) -> None:
        """Another node is dead, and with it all its processes."""
        if self.links.is_dead(index):
            return
        self.peers.discard(index)
        self.links.node_died(index)
        self.leases.node_died(index)
        self.environments.node_died(index)
        self.questions.node_died(index)
        self.deaths.node_died(index, why)
        self.census.node_died(index)
        self.leaving.node_gone(index)
        self.transfer.node_died(index)
        self.objects.node_died(index)

    def describe_nodes(self) -> list[dict[str, Any]]:
        """Return what is known of each node that lives, as far as it fits into a message."""
        return [
            {
                "node": node.node_id,
                "index": node.node,
                "alive": True,
                "host": split_address(node.services[LINK], "the link's address")[0],
                "hostname": node.hostname,
                "total": node.total.to_floats(),
                "available": node.available.to_floats(),
                "labels": dict(node.labels),
                "is_head": node.is_head,
                "draining": node.draining,
            }
            for node in self.head.nodes()[:NODES_LISTED_MAX]
        ]

    def tell(self, node: int, message: dict[str, Any]) -> None:
        """Send news to another node process."""
        self.links.send(node, frames.news(_encode(message).encode()))

    def _send_behind(self, process: int, node: int, frame: bytes) -> None:
        """Send a frame, behind all that a process of this node has sent if it is about one."""
        if process:
            self.gateway.send_for(process, node, frame)
        else:
            self.links.send(node, frame)

    def tell_for(self, process: int, node: int, message: dict[str, Any]) -> None:
        """Like `tell`, after all that a process of this node has said to that node."""
        self.gateway.send_for(process, node, frames.news(_encode(message).encode()))

    # ------------------------------------------------------------ the loop

    def go_on(self) -> bool:
        """Do what had to wait; True if something still does and there is no descriptor to wait for."""
        waits = self.gateway.go_on()
        waits = self.deaths.go_on() or waits
        self.objects.go_on()
        self.links.flush()
        return waits

    def tick(self) -> float:
        """Do what is due; return the seconds until the next call is."""
        due_s = min(
            self.links.tick(),
            self.objects.tick(),
            self.leases.tick(),
            self.groups.tick(time.monotonic()),
            self.environments.tick(time.monotonic()),
            self.questions.tick(),
        )
        self.links.flush()
        return due_s

    def close(self) -> None:
        """Leave the cluster."""
        self.environments.close()
        self.links.close()
        self.head.close("its session ended")
        self.keepsakes.close()
        self.transfer.close()

    def _read(self, one: StandIn) -> bool:
        return self.gateway.read(one)

    # ------------------------------------------------------------ from processes of this node

    def route(self, sender: int, op: str, fields: dict[str, Any], payload: bytes) -> bool:
        """Have another node answer what a process asks, if that is for it to answer."""
        match op:
            case "resolve_actor" | "kill_actor" | "actor_state":
                if fields.get("label"):
                    self._node.handlers.label(sender, fields["label"])
                home = home_of_actor(fields["actor"])
                if home in (0, self.here):
                    return False
                self.forward(sender, home, payload)
                return True
            case "create_actor" if (home := home_of_actor(fields["actor"])) not in (0, self.here):
                message = {**json.loads(payload), "job": self._node.jobs.of(sender)}
                self.forward(sender, home, _encode(message).encode())
                return True
            case "entrust":
                self.keepsakes.entrust(sender, fields["actor"], fields["object"])
                return True
            case "return" | "kill_worker":
                one = self.stand_ins.at(fields["worker"])
                if one is None:
                    return False
                self.forward(sender, one.process.node, payload)
                return True
            case "borrow":
                self.objects.borrow(sender, fields["object"])
                return True
            case "want":
                self.objects.want(fields["object"], Priority(min(fields["priority"], max(Priority))))
                return True
            case "locate":
                self.locator.locate(sender, fields["objects"], fields["req"])
                return True
            case "gave":
                self.objects.gave(fields["object"], fields["owner"], fields["size"])
                return True
        return self.names.handle(sender, op, fields) or self.census.handle(sender, op, fields, payload)

    def forward(self, sender: int, node: int, payload: bytes) -> None:
        """Have another node handle what a process of this one has said."""
        message = self._outward(json.loads(payload))
        frame = frames.forward(sender, _encode(message).encode())
        self.gateway.send_for(sender, node, frame)

    def abroad(self, address: int, payload: bytes) -> bool:
        """Deliver what this node tells a client, if that is a process of another node."""
        one = self.stand_ins.at(address)
        if one is None:
            return False
        message = self._outward(json.loads(payload))
        self.links.send(one.process.node, frames.deliver(one.process.address, _encode(message).encode()))
        return True

    def _outward(self, message: dict[str, Any]) -> dict[str, Any]:
        for name in PROCESS_FIELDS:
            address = message.get(name)
            if type(address) is int and address:
                message[name] = list(self.process_at(address))
        return message

    def _inward(self, message: dict[str, Any]) -> dict[str, Any]:
        for name in PROCESS_FIELDS:
            process = message.get(name)
            if isinstance(process, list):
                node, address = process
                message[name] = self.address_of(Process(node, address))
        return message

    def process_at(self, address: int) -> Process:
        """Return the process that an address of this node's store leads to."""
        one = self.stand_ins.at(address)
        return one.process if one is not None else Process(self.here, address)

    def address_of(self, process: Process) -> int:
        """Return the address here of a process anywhere."""
        if process.node == self.here:
            return process.address
        return self.stand_ins.of(process).address

    def _tell_process(self, address: int, message: dict[str, Any]) -> bool:
        """Tell a process of this node something; False if there is none with this address."""
        if address not in self._node.clients:
            return False
        self._node.outbox.send(address, message)
        return True

    # ------------------------------------------------------------ from other nodes

    def _on_frame(self, node: int, frame: frames.Frame) -> bool:
        try:
            match frame.kind:
                case frames.MESSAGE:
                    return self.gateway.deliver(node, frame)
                case frames.DATA:
                    self.objects.on_data(node, frame)
                case frames.FORWARD:
                    self._on_forwarded(node, frame)
                case frames.DELIVER:
                    self._on_delivered(node, frame)
                case frames.NEWS:
                    self._on_news(node, json.loads(frame.payload))
        except Exception as error:
            # Whatever it was: a node that talks nonsense must not end this one.
            self._node.complain(f"from node {node}: {error!r} in {frame.payload[:200]!r}")
        return False

    def _on_forwarded(self, node: int, frame: frames.Frame) -> None:
        sender = self.stand_ins.of(Process(node, frame.source)).address
        message = self._inward(json.loads(frame.payload))
        self._node.handlers.handle_from_abroad(sender, _encode(message).encode())

    def _on_delivered(self, node: int, frame: frames.Frame) -> None:
        client = frame.source
        message = self._inward(json.loads(frame.payload))
        if message.get("op") == "granted":
            self.leases.granted(node, client, message["class"])
        elif message.get("op") == "reply":
            self.census.answered(client, message)
        if client in self._node.clients:
            self._node.outbox.send(client, message)
        elif message.get("op") == "granted":
            self._give_back(node, client, message["worker"])

    def _give_back(self, node: int, client: int, worker: int) -> None:
        """Return a worker that came too late for the process that wanted it."""
        message = self._outward({"op": "return", "worker": worker})
        self.links.send(node, frames.forward(client, _encode(message).encode()))

    def _on_news(self, node: int, message: dict[str, Any]) -> None:
        op = message.get("op")
        if op in OBJECT_NEWS:
            self.objects.on_news(node, str(op), message)
        elif op == "died":
            one = self.stand_ins.get(Process(node, message["address"]))
            if one is not None:
                self.deaths.process_gone(one, message)
        elif op == "entrust":
            self.keepsakes.on_entrust(node, message)
        elif op == "question":
            self.questions.on_question(node, message)
        elif op == "answer_to":
            self.questions.on_answer(node, message)
        elif op == "stands":
            self.deaths.on_stands(node, message["address"])
        elif op == "job":
            self.jobs.on_job(node, message)
        elif op == "end":
            self.leaving.on_end(message)
        elif self.environments.on_news(node, message):
            pass
        elif not self.leases.on_news(node, message):
            self._node.complain(f"from node {node}: unknown news {op!r:.100}")

    # ------------------------------------------------------------ actors

    def placed_here(self, actor: str, worker: int) -> bool:
        """An actor has got a worker of this node; True if its home is another one, which was told."""
        home = home_of_actor(actor)
        self.leases.local_actor(actor)
        if home in (0, self.here):
            return False
        self.tell(home, {"op": "actor_placed", "actor": actor, "address": worker})
        self.deaths.actor_placed(actor, worker)
        return True

    def actor_gone(self, actor: str) -> None:
        """An actor of this node is dead, or was never made: what was kept for it may go."""
        self.names.actor_gone(actor)
        self.keepsakes.actor_gone(actor)

    def kill_abroad(self, worker: int, reason: str) -> bool:
        """End a worker of another node; False if it is none."""
        one = self.stand_ins.at(worker)
        if one is None:
            return False
        message = {"op": "kill", "address": one.process.address, "reason": reason}
        self.tell(one.process.node, message)
        return True

    def on_actor_placed(self, node: int, message: dict[str, Any]) -> None:
        """An actor of ours has got a worker on another node."""
        worker = self.stand_ins.of(Process(node, message["address"])).address
        identity = bytes.fromhex(message["actor"])
        self.objects.perform(self.objects.directory.keep(identity))
        self._actors_abroad[identity] = worker
        self._node.perform_all(self._node.actors.placed(message["actor"], worker))
        self.leaving.move_actors()

    def _released(self, identity: bytes) -> None:
        """Nobody needs an object of this node any more. If it is an actor of another node, that is to end."""
        worker = self._actors_abroad.pop(identity, 0)
        if worker:
            self._node.actors.is_not_needed(identity.hex())
            self._node.outbox.send(worker, {"op": "no_handles", "actor": identity.hex()})

    def on_kill(self, message: dict[str, Any]) -> None:
        """Another node ends a worker of ours: the actor in it is dead by decision."""
        process = self._node.pool.at(message["address"])
        if process is not None:
            self._node.kill(process, str(message["reason"])[:1000])
