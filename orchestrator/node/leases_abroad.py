"""Workers of other nodes for the processes of this one, and of this one for theirs.

Performs what `scheduling.cluster` decides: the *router* divides what clients here want between the nodes,
this one included; the *lender* answers what nodes ask of this one. An actor is placed by the same router: a
demand for one worker, in the name of its creator, under the key `actor:ID`.

Both decide one event at a time, and what follows from it is done before the next is looked at: hence the
queue.

What is free here the head tells the others, at most every `REPORT_S`; a node that has asked hears it with the
answer.
"""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.common import environ
from orchestrator.common.config import INFEASIBLE_AFTER
from orchestrator.common.ids import Process
from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import (
    InBundle,
    SchedulingClass,
    placement_from_message,
    placement_to_message,
)
from orchestrator.gcs.messages import NodeView, Pending
from orchestrator.scheduling import actor_table, events
from orchestrator.scheduling.cluster import lease_events
from orchestrator.scheduling.cluster.lease_router import LeaseRouter
from orchestrator.scheduling.cluster.lender import Answer, Lender, Want
from orchestrator.scheduling.cluster.policies import NodeChooser
from orchestrator.scheduling.cluster.view import ClusterView, NodeReport, NodeType
from orchestrator.scheduling.jobs import environment_of, job_of

if TYPE_CHECKING:
    from orchestrator.node.cluster_member import ClusterMember
    from orchestrator.node.daemon import Daemon

#: Between two reports to the head.
REPORT_S = 0.1
#: A report is repeated after this time though nothing has changed.
REPORT_AGAIN_S = 5.0
#: Kinds of demands that a report to the head names.
PENDING_MAX = 100
_ACTOR = "actor:"


class _WantedActor(NamedTuple):
    """An actor that is to get a worker here, asked for by this node or by another."""

    #: The process that created it, or its stand-in.
    client: int
    #: What it holds while it lives.
    hold: ResourceSet


class LeasesAbroad:
    """See the module's text."""

    def __init__(self, member: ClusterMember, node: Daemon) -> None:
        self._member = member
        self._node = node
        self._here = member.here
        self._view = ClusterView()
        chooser = NodeChooser(self._view, member.here, random.Random())
        after_s = environ.number(INFEASIBLE_AFTER, 0.0)
        self._router = LeaseRouter(member.here, self._view, chooser, refuse_after_s=after_s or None)
        self._lender = Lender(node.scheduler.places.room)
        self._queue: deque[Callable[[], None]] = deque()
        self._is_busy = False
        #: Actors of this node that want a place, by id.
        self._actors: dict[str, actor_table.ActorSpec] = {}
        #: Actors, of whatever node, that were asked for here.
        self._wanted_here: dict[str, _WantedActor] = {}
        self._version = 0
        self._reported: tuple[Any, ...] = ()
        self._reported_s = 0.0
        self._report_due = True
        self._drains = False
        #: Workers that were lent here, and actors placed: it grows while there is work.
        self._worked_count = 0
        #: Something here would end, or be missed, if this node left.
        self._is_kept = True

    @property
    def is_draining(self) -> bool:
        """Whether this node takes nothing new."""
        return self._drains

    def may_be_started(self, types: Sequence[NodeType]) -> None:
        """These types of nodes are not there and could be: what fits one of them waits for it."""
        self._view.potential = types
        self._route(lease_events.ViewChanged())

    def _post(self, action: Callable[[], None]) -> None:
        self._queue.append(action)
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._queue:
                self._queue.popleft()()
        finally:
            self._is_busy = False

    def _route(self, event: lease_events.Event) -> None:
        self._post(lambda: self._perform(event))

    # ------------------------------------------------------------ nodes and processes

    def node_joined(self, index: int) -> None:
        """Another node is there, and hears at once what is here."""
        self._member.tell(index, self._report_message())

    def node_died(self, index: int) -> None:
        """Another node is dead."""
        self._view.remove(index)
        self._route(lease_events.NodeDied(index))

    def client_gone(self, client: int) -> None:
        """A process of this node is dead."""
        self.stand_in_gone(client)
        self._route(lease_events.ClientGone(client))

    def stand_in_gone(self, client: int) -> None:
        """A process of another node is dead."""
        self._lender.client_gone(client)
        self._wanted_here = {a: one for a, one in self._wanted_here.items() if one.client != client}

    def on_view(self, node: NodeView) -> None:
        """The head has news of a node."""
        if node.node == self._here or not node.status:
            return
        status = json.loads(node.status)
        report = NodeReport(
            node.node,
            node.node_id,
            status["version"],
            node.total,
            node.available,
            node.labels,
            node.draining or status["draining"],
        )
        self._view.report(report)
        self._route(lease_events.ViewChanged())

    def drain(self) -> None:
        """This node is to take no new work."""
        self._drains = True
        self._lender.drain()
        self._report_due = True

    # ------------------------------------------------------------ what processes of this node want

    def wanted(
        self, client: int, class_key: int | str, scheduling: SchedulingClass, want: int, near: int = 0
    ) -> None:
        """A process says how many more workers it wants for one of its classes, and near which node."""
        job = job_of(scheduling.env)
        if isinstance(scheduling.placement, InBundle):
            self._member.groups.need(scheduling.placement.group)
        self._route(lease_events.Demand(client, class_key, scheduling, want, near, job))

    def actor_wanted(self, client: int, spec: actor_table.ActorSpec) -> None:
        """An actor of this node wants a place."""
        self._actors[spec.actor] = spec
        self.wanted(client, _ACTOR + spec.actor, spec.scheduling, 1)

    def actor_withdrawn(self, actor: str) -> None:
        """It wants none any more."""
        spec = self._actors.pop(actor, None)
        if spec is not None:
            self.wanted(self._node.actors.owner_of(actor), _ACTOR + actor, spec.scheduling, 0)

    def granted(self, node: int, client: int, class_key: int | str) -> None:
        """Another node has lent a worker to a process of this one."""
        self._route(lease_events.Granted(client, class_key, node))

    # ------------------------------------------------------------ what this node's scheduler says

    def local_grant(self, client: int, class_key: int | str) -> None:
        """The scheduler has lent a worker of this node."""
        self._worked_count += 1
        if self._lender.granted(client, class_key) == self._here:
            self._route(lease_events.Granted(client, class_key, self._here))

    def local_actor(self, actor: str) -> None:
        """The scheduler has placed an actor here."""
        wanted = self._wanted_here.pop(actor, None)
        if wanted is not None:
            self._actors.pop(actor, None)
            self.local_grant(wanted.client, _ACTOR + actor)

    def local_refusal(
        self, client: int, class_key: int | str, actor: str | None, verdict: str, cause: str
    ) -> bool:
        """The scheduler can never serve a demand. True if that is dealt with: another node may serve it."""
        key = class_key if actor is None else _ACTOR + actor
        wanted = self._wanted_here.pop(actor, None) if actor is not None else None
        client = wanted.client if wanted is not None else client
        asker = self._lender.failed(client, key)
        if asker is None:
            return False
        if verdict == events.ENVIRONMENT:
            cause += f" (on node {self._node.node_id})"
        if asker == self._here:
            self._route(lease_events.Failed(client, key, self._here, verdict, cause))
        else:
            news = {"op": "failed", "client": self._member.process_at(client).address, "class": key}
            self._member.tell(asker, news | {"verdict": verdict, "cause": cause})
        return True

    def group_changed(self, news: lease_events.GroupPlaced | lease_events.GroupGone) -> None:
        """The head has news of a placement group."""
        self._route(news)

    def scheduler_changed(self) -> None:
        """The scheduler has handled something: what is free here may be something else now."""
        self._report_due = True

    # ------------------------------------------------------------ what other nodes say

    def on_news(self, node: int, message: dict[str, Any]) -> bool:
        """Handle what another node says about leases; False if it is about something else."""
        match message.get("op"):
            case "ask":
                client = self._member.stand_ins.of(Process(node, message["client"])).address
                hold = ResourceSet.from_floats(message["hold"]) if "hold" in message else None
                ask = lease_events.AskNode(
                    self._here,
                    client,
                    message["class"],
                    _scheduling_of(message["scheduling"]),
                    message["want"],
                    message["seen"],
                    message["serial"],
                    message["patient"],
                    message["job"],
                    message["since"],
                )
                self._post(lambda: self._asked(node, ask, hold))
            case "answer":
                answer = lease_events.Refused(
                    message["client"], message["class"], node, message["serial"], message["left"]
                )
                self._route(answer)
                self._on_report(node, message["report"])
            case "report":
                self._on_report(node, message)
            case "actor_placed":
                actor = message["actor"]
                if self._actors.pop(actor, None) is not None:
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

    def _on_report(self, node: int, message: dict[str, Any]) -> None:
        if node in self._member.peers:
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

    # ------------------------------------------------------------ the lender

    def _asked(self, peer: int, ask: lease_events.AskNode, hold: ResourceSet | None) -> None:
        """A node, or this one, says what it wants here of one class."""
        key = ask.class_key
        self._member.environments.heard(environment_of(ask.scheduling.env), peer)
        if hold is not None and isinstance(key, str):
            self._wanted_here[key[len(_ACTOR) :]] = _WantedActor(ask.client, hold)
        wants = self._lender.asked(
            peer,
            ask.client,
            key,
            ask.scheduling,
            ask.want,
            seen=ask.seen,
            serial=ask.serial,
            since=ask.since,
            patient=ask.patient,
            job=ask.job,
        )
        for want in wants:
            self._want_here(want)
        self._settle()

    def _want_here(self, want: Want) -> None:
        key = want.class_key
        if not isinstance(key, str) or not key.startswith(_ACTOR):
            event = events.LeaseWanted(want.client, key, want.scheduling, want.want, want.job)
            self._node.tell_scheduler(event)
            return
        actor = key[len(_ACTOR) :]
        wanted = self._wanted_here.get(actor)
        if want.want and wanted is not None:
            self._node.tell_scheduler(
                events.ActorWanted(want.client, actor, want.scheduling, wanted.hold, want.job)
            )
        elif not want.want:
            self._wanted_here.pop(actor, None)
            self._node.tell_scheduler(events.ActorWithdrawn(actor))

    def _settle(self) -> None:
        for out in self._lender.settle(time.monotonic()):
            if isinstance(out, Want):
                self._want_here(out)
            else:
                self._answer(out)

    def _answer(self, answer: Answer) -> None:
        if answer.peer == self._here:
            self._route(
                lease_events.Refused(answer.client, answer.class_key, self._here, answer.serial, answer.left)
            )
            return
        message = {
            "op": "answer",
            "client": self._member.process_at(answer.client).address,
            "class": answer.class_key,
            "serial": answer.serial,
            "left": answer.left,
            "report": self._report_message(),
        }
        self._member.tell(answer.peer, message)

    # ------------------------------------------------------------ the router

    def _perform(self, event: lease_events.Event) -> None:
        for out in self._router.handle(event, time.monotonic()):
            match out:
                case lease_events.AskNode():
                    self._ask(out)
                case lease_events.Infeasible(client, class_key, verdict, cause):
                    self._infeasible(client, class_key, verdict, cause)
                case lease_events.Explain(client, class_key, text):
                    self._explain(client, class_key, text)
                case lease_events.Complain(text):
                    self._node.complain(text)

    def _ask(self, ask: lease_events.AskNode) -> None:
        hold: ResourceSet | None = None
        if isinstance(ask.class_key, str) and ask.class_key.startswith(_ACTOR):
            spec = self._actors.get(ask.class_key[len(_ACTOR) :])
            hold = spec.hold if spec is not None else None
        if ask.node == self._here:
            self._post(lambda: self._asked(self._here, ask, hold))
            return
        message = {
            "op": "ask",
            "client": ask.client,
            "class": ask.class_key,
            "scheduling": ask.scheduling.to_message(),
            "want": ask.want,
            "seen": ask.seen,
            "serial": ask.serial,
            "since": ask.since,
            "patient": ask.patient,
            "job": ask.job,
        }
        if hold is not None:
            message["hold"] = hold.to_floats()
        self._member.tell(ask.node, message)

    def _infeasible(self, client: int, class_key: int | str, verdict: str, cause: str) -> None:
        if isinstance(class_key, str) and class_key.startswith(_ACTOR):
            actor = class_key[len(_ACTOR) :]
            self._actors.pop(actor, None)
            self._node.perform_all(self._node.actors.infeasible(actor, verdict, cause))
            return
        news = {"op": "infeasible", "class": class_key, "verdict": verdict, "cause": cause}
        self._node.outbox.send(client, news)

    def _explain(self, client: int, class_key: int | str, text: str) -> None:
        if not isinstance(class_key, str) or not class_key.startswith(_ACTOR):
            self._node.outbox.send(client, {"op": "explain", "class": class_key, "text": text})
            return
        actor = class_key[len(_ACTOR) :]
        who = f"actor {self._node.actors.class_name(actor)}"
        client = client or self._node.jobs.driver_of(self._node.actors.job_of(actor))
        if client:
            self._node.outbox.send(client, {"op": "explain", "text": f"{who} {text}"})
        else:
            self._node.complain(f"{who} {text}")

    # ------------------------------------------------------------ time and reports

    def _available(self) -> ResourceSet:
        """Return what is free here. A CPU that was lent twice counts as none."""
        floats = self._node.scheduler.available.to_floats()
        return ResourceSet.from_floats({name: max(0.0, quantity) for name, quantity in floats.items()})

    def _report_message(self) -> dict[str, Any]:
        self._version += 1
        return {
            "op": "report",
            "node_id": self._node.node_id,
            "version": self._version,
            "total": self._node.scheduler.total.to_floats(),
            "available": self._available().to_floats(),
            "labels": dict(self._node.labels),
            "draining": self._drains,
        }

    def _report_here(self) -> None:
        self._version += 1
        self._view.report(
            NodeReport(
                self._here,
                self._node.node_id,
                self._version,
                self._node.scheduler.total,
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
            self._report_here()
        self._post(self._settle)
        # What is meant for a placement group is no demand of its own: the group's bundles are.
        waiting = [one for one in self._router.waiting() if not isinstance(one[0].placement, InBundle)]
        waiting = waiting[:PENDING_MAX]
        pending = [_pending(scheduling, count) for scheduling, count in waiting]
        scheduler = self._node.scheduler
        since_s = now_s - self._reported_s
        if since_s >= REPORT_S:
            self._is_kept = bool(self._member.leaving.keeps())
        state = (
            scheduler.available, scheduler.total, pending, self._drains, self._worked_count, self._is_kept
        )  # fmt: skip
        if (state != self._reported and since_s >= REPORT_S) or since_s >= REPORT_AGAIN_S:
            self._reported, self._reported_s = state, now_s
            self._version += 1
            status = {
                "version": self._version,
                "draining": self._drains,
                "busy": self._is_kept,
                "worked": self._worked_count,
            }
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


def _pending(scheduling: SchedulingClass, count: int) -> Pending:
    place = scheduling.placement
    where = "" if place is None else json.dumps(placement_to_message(place))
    return Pending(scheduling.resources, count, "", where)


def _scheduling_of(fields: dict[str, Any]) -> SchedulingClass:
    return SchedulingClass(
        ResourceSet.from_floats(fields["resources"]),
        fields.get("env", ""),
        placement_from_message(fields.get("placement")),
        fields.get("priority", 0),
        fields.get("retriable", True),
    )
