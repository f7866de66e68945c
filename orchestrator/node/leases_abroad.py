"""Workers of other nodes for the processes of this one, and of this one for theirs.

Performs what `scheduling.cluster` decides: the *router* divides what clients here want between the nodes,
this one included; the *lender* answers what other nodes ask. An actor is placed by the same router: a demand
for one worker, in the name of its creator, under the key `actor:ID`.

Each node tells the others what it has and what is free, at most every `REPORT_S`, when that has changed.
"""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.common.ids import Process
from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass, placement_from_message
from orchestrator.gcs.messages import NodeView, Pending
from orchestrator.scheduling import actor_table, events
from orchestrator.scheduling.cluster import lease_events
from orchestrator.scheduling.cluster.lease_router import LeaseRouter
from orchestrator.scheduling.cluster.lender import Answer, Lender, Want
from orchestrator.scheduling.cluster.policies import NodeChooser
from orchestrator.scheduling.cluster.view import ClusterView, NodeReport
from orchestrator.scheduling.jobs import job_of

if TYPE_CHECKING:
    from orchestrator.node.cluster_member import ClusterMember
    from orchestrator.node.daemon import Daemon

#: Between two reports to other nodes.
REPORT_S = 0.1
#: A report is repeated after this time though nothing has changed.
REPORT_AGAIN_S = 5.0
#: Kinds of demands that a report to the head names.
PENDING_MAX = 100
_ACTOR = "actor:"


class _ForeignActor(NamedTuple):
    """An actor of another node that is to get a worker here."""

    #: Stand-in of the process that created it.
    client: int
    #: What it holds while it lives.
    hold: ResourceSet


class LeasesAbroad:
    """See the module's text."""

    def __init__(self, member: ClusterMember, node: Daemon) -> None:
        self._member = member
        self._node = node
        self._view = ClusterView()
        self._router = LeaseRouter(
            member.here,
            self._view,
            NodeChooser(self._view, member.here, random.Random()),
            node.scheduler.places.room,
        )
        self._lender = Lender(node.scheduler.places.room)
        #: Actors that want a place, by id: who asked the scheduler of which node is the router's affair.
        self._actors: dict[str, actor_table.ActorSpec] = {}
        #: Actors of other nodes that were asked for here.
        self._foreign_actors: dict[str, _ForeignActor] = {}
        self._version = 0
        self._reported: tuple[Any, ...] = ()
        self._reported_s = 0.0
        self._report_due = True
        self._drains = False

    # ------------------------------------------------------------ nodes

    def node_joined(self, index: int) -> None:
        """Another node is there, and hears at once what is here."""
        self._member.tell(index, self._report_message())

    def on_view(self, node: NodeView) -> None:
        """The head has news of a node."""
        if node.node == self._member.here or not node.status:
            return
        status = json.loads(node.status)
        self._view.report(
            NodeReport(
                node.node,
                node.node_id,
                status["version"],
                node.total,
                node.available,
                node.labels,
                node.draining or status["draining"],
            )
        )
        self._route(lease_events.ViewChanged())

    def drain(self) -> None:
        """This node is to take no new work."""
        self._drains = True
        self._lender.drain()
        self._report_due = True

    def node_died(self, index: int) -> None:
        """Another node is dead."""
        self._view.remove(index)
        self._route(lease_events.NodeDied(index))

    def client_gone(self, client: int) -> None:
        """A process of this node is dead."""
        self._route(lease_events.ClientGone(client))

    def stand_in_gone(self, client: int) -> None:
        """A process of another node is dead."""
        self._lender.client_gone(client)

    # ------------------------------------------------------------ what processes of this node want

    def wanted(self, client: int, class_key: int | str, scheduling: SchedulingClass, want: int) -> None:
        """A process says how many more workers it wants for one of its classes."""
        self._route(lease_events.Demand(client, class_key, scheduling, want))

    def actor_wanted(self, client: int, spec: actor_table.ActorSpec) -> None:
        """An actor of this node wants a place."""
        self._actors[spec.actor] = spec
        self._route(lease_events.Demand(client, _ACTOR + spec.actor, spec.scheduling, 1))

    def actor_withdrawn(self, actor: str) -> None:
        """It wants none any more."""
        spec = self._actors.pop(actor, None)
        if spec is not None:
            for client in (0, *self._node.clients):
                self._route(lease_events.Demand(client, _ACTOR + actor, spec.scheduling, 0))

    def granted(self, node: int, client: int, class_key: int | str, worker: int) -> None:
        """Another node has lent a worker to a process of this one."""
        self._route(lease_events.Granted(client, class_key, node))

    def returned(self, client: int, worker: Process) -> None:
        """A process gives back a worker of another node."""

    # ------------------------------------------------------------ what this node's scheduler says

    def local_grant(self, client: int, class_key: int | str) -> None:
        """The scheduler has lent a worker of this node."""
        if not self._lender.granted(client, class_key):
            self._route(lease_events.Granted(client, class_key, self._member.here))

    def local_actor(self, actor: str) -> None:
        """The scheduler has placed an actor here."""
        foreign = self._foreign_actors.pop(actor, None)
        if foreign is not None:
            self._lender.granted(foreign.client, _ACTOR + actor)
        elif self._actors.pop(actor, None) is not None:
            owner = self._node.actors.owner_of(actor)
            self._route(lease_events.Granted(owner, _ACTOR + actor, self._member.here))

    def local_refusal(
        self, client: int, class_key: int | str, actor: str | None, verdict: str, cause: str
    ) -> bool:
        """The scheduler can never serve a demand. True if that is dealt with: another node may serve it."""
        key = class_key if actor is None else _ACTOR + actor
        foreign = self._foreign_actors.pop(actor, None) if actor is not None else None
        if foreign is not None:
            client = foreign.client
        if self._lender.failed(client, key):
            one = self._member.stand_ins.at(client)
            if one is not None:
                news = {"op": "failed", "client": one.process.address, "class": key}
                self._member.tell(one.process.node, news | {"verdict": verdict, "cause": cause})
            return True
        if actor is not None:
            client = self._node.actors.owner_of(actor)
        self._route(lease_events.Failed(client, key, self._member.here, verdict, cause))
        return True

    def scheduler_changed(self) -> None:
        """The scheduler has handled something: what is free here may be something else now."""
        self._report_due = True

    # ------------------------------------------------------------ what other nodes say

    def on_news(self, node: int, message: dict[str, Any]) -> bool:
        """Handle what another node says about leases; False if it is about something else."""
        match message.get("op"):
            case "ask":
                self._on_ask(node, message)
            case "answer":
                self._on_answer(node, message)
            case "report":
                self._on_report(node, message)
            case "actor_placed":
                actor = message["actor"]
                spec = self._actors.pop(actor, None)
                if spec is not None:
                    owner = self._node.actors.owner_of(actor)
                    self._route(lease_events.Granted(owner, _ACTOR + actor, node))
                self._member.on_actor_placed(node, message)
            case "failed":
                client, key = message["client"], message["class"]
                self._route(lease_events.Failed(client, key, node, message["verdict"], message["cause"]))
            case "kill":
                self._member.on_kill(message)
            case _:
                return False
        return True

    def _on_ask(self, node: int, message: dict[str, Any]) -> None:
        client = self._member.stand_ins.of(Process(node, message["client"])).address
        scheduling = _scheduling_of(message)
        class_key = message["class"]
        if isinstance(class_key, str) and class_key.startswith(_ACTOR):
            hold = ResourceSet.from_floats(message["hold"])
            self._foreign_actors[class_key[len(_ACTOR) :]] = _ForeignActor(client, hold)
        wants = self._lender.asked(
            node,
            client,
            class_key,
            scheduling,
            message["want"],
            seen=message["seen"],
            serial=message["serial"],
            patient=message["patient"],
        )
        for want in wants:
            self._want_here(want)
        self._settle()

    def _want_here(self, want: Want) -> None:
        key = want.class_key
        if isinstance(key, str) and key.startswith(_ACTOR):
            actor = key[len(_ACTOR) :]
            foreign = self._foreign_actors.get(actor)
            if want.want and foreign is not None:
                event = events.ActorWanted(
                    want.client, actor, want.scheduling, foreign.hold, job_of(want.scheduling.env)
                )
                self._node.tell_scheduler(event)
            else:
                self._foreign_actors.pop(actor, None)
                self._node.tell_scheduler(events.ActorWithdrawn(actor))
            return
        self._node.tell_scheduler(
            events.LeaseWanted(want.client, key, want.scheduling, want.want, job_of(want.scheduling.env))
        )

    def _settle(self) -> None:
        for out in self._lender.settle(time.monotonic()):
            if isinstance(out, Answer):
                one = self._member.stand_ins.at(out.client)
                if one is not None:
                    answer = {
                        "op": "answer",
                        "client": one.process.address,
                        "class": out.class_key,
                        "serial": out.serial,
                        "left": out.left,
                        "report": self._report_message(),
                    }
                    self._member.tell(out.peer, answer)
            else:
                self._want_here(out)

    def _on_answer(self, node: int, message: dict[str, Any]) -> None:
        self._route(
            lease_events.Refused(
                message["client"], message["class"], node, message["serial"], message["left"]
            )
        )
        self._on_report(node, message["report"])

    def _on_report(self, node: int, message: dict[str, Any]) -> None:
        if node not in self._member.peers:
            return
        self._view.report(
            NodeReport(
                node,
                message["node_id"],
                message["version"],
                ResourceSet.from_floats(message["total"]),
                ResourceSet.from_floats(message["available"]),
                message["labels"],
                message["draining"],
            )
        )
        self._route(lease_events.ViewChanged())

    # ------------------------------------------------------------ performing

    def _route(self, event: lease_events.Event) -> None:
        for out in self._router.handle(event, time.monotonic()):
            match out:
                case lease_events.AskNode() if out.node == self._member.here:
                    self._ask_here(out)
                case lease_events.AskNode():
                    self._ask_there(out)
                case lease_events.Infeasible(client, class_key, verdict, cause):
                    self._infeasible(client, class_key, verdict, cause)
                case lease_events.Explain(client, class_key, text):
                    who = f"a class of tasks ({class_key})"
                    if isinstance(class_key, str) and class_key.startswith(_ACTOR):
                        who = f"actor {self._node.actors.class_name(class_key[len(_ACTOR) :])}"
                    if client:
                        self._node.outbox.send(client, {"op": "explain", "text": f"{who} {text}"})
                    else:
                        self._node.complain(f"{who} {text}")
                case lease_events.Complain(text):
                    self._node.complain(text)

    def _ask_here(self, ask: lease_events.AskNode) -> None:
        key = ask.class_key
        if isinstance(key, str) and key.startswith(_ACTOR):
            spec = self._actors.get(key[len(_ACTOR) :])
            if spec is not None and ask.want:
                event = events.ActorWanted(
                    ask.client, spec.actor, spec.scheduling, spec.hold, job_of(spec.scheduling.env)
                )
                self._node.tell_scheduler(event)
            else:
                self._node.tell_scheduler(events.ActorWithdrawn(key[len(_ACTOR) :]))
            return
        self._node.tell_scheduler(
            events.LeaseWanted(ask.client, key, ask.scheduling, ask.want, job_of(ask.scheduling.env))
        )

    def _ask_there(self, ask: lease_events.AskNode) -> None:
        message = {
            "op": "ask",
            "client": ask.client,
            "class": ask.class_key,
            "scheduling": ask.scheduling.to_message(),
            "want": ask.want,
            "seen": ask.seen,
            "serial": ask.serial,
            "patient": ask.patient,
        }
        if isinstance(ask.class_key, str) and ask.class_key.startswith(_ACTOR):
            spec = self._actors.get(ask.class_key[len(_ACTOR) :])
            message["hold"] = spec.hold.to_floats() if spec is not None else {}
        self._member.tell(ask.node, message)

    def _infeasible(self, client: int, class_key: int | str, verdict: str, cause: str) -> None:
        if isinstance(class_key, str) and class_key.startswith(_ACTOR):
            actor = class_key[len(_ACTOR) :]
            self._actors.pop(actor, None)
            self._node.perform_all(self._node.actors.infeasible(actor, verdict, cause))
            return
        news = {"op": "infeasible", "class": class_key, "verdict": verdict, "cause": cause}
        self._node.outbox.send(client, news)

    # ------------------------------------------------------------ time and reports

    def _report_message(self) -> dict[str, Any]:
        scheduler = self._node.scheduler
        self._version += 1
        return {
            "op": "report",
            "node_id": self._node.node_id,
            "version": self._version,
            "total": scheduler.total.to_floats(),
            "available": self._available().to_floats(),
            "labels": dict(self._node.labels),
            "draining": self._drains,
        }

    def _available(self) -> ResourceSet:
        """Return what is free here. A CPU that was lent twice counts as none."""
        floats = self._node.scheduler.available.to_floats()
        return ResourceSet.from_floats({name: max(0.0, quantity) for name, quantity in floats.items()})

    def _local_report(self) -> None:
        self._version += 1
        scheduler = self._node.scheduler
        self._view.report(
            NodeReport(
                self._member.here,
                self._node.node_id,
                self._version,
                scheduler.total,
                self._available(),
                dict(self._node.labels),
                self._drains,
            )
        )
        self._route(lease_events.ViewChanged())

    def tick(self) -> float:
        """Report, answer, and look after waits; return the seconds until the next call is due."""
        now_s = time.monotonic()
        if self._report_due:
            self._report_due = False
            self._local_report()
        self._settle()
        state = (self._node.scheduler.available, self._node.scheduler.total)
        since_s = now_s - self._reported_s
        if (state != self._reported and since_s >= REPORT_S) or since_s >= REPORT_AGAIN_S:
            self._reported, self._reported_s = state, now_s
            self._version += 1
            pending = [
                Pending(scheduling.resources, count)
                for scheduling, count in self._router.waiting()[:PENDING_MAX]
            ]
            status = {"version": self._version, "draining": self._drains}
            self._member.head.report(self._available(), pending, status)
        due_s = self._router.deadline_s()
        if due_s is not None and due_s <= now_s:
            self._route(lease_events.Tick())
        deadlines = [REPORT_AGAIN_S]
        if state != self._reported:
            deadlines.append(REPORT_S)
        for one in (self._router.deadline_s(), self._lender.deadline_s(now_s)):
            if one is not None:
                deadlines.append(max(one - now_s, 0.0))
        return min(deadlines)


def _scheduling_of(message: dict[str, Any]) -> SchedulingClass:
    fields = message["scheduling"]
    return SchedulingClass(
        ResourceSet.from_floats(fields["resources"]),
        fields.get("env", ""),
        placement_from_message(fields.get("placement")),
        fields.get("priority", 0),
        fields.get("retriable", True),
    )
