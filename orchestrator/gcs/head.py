"""The whole Global Control Store as one state machine: events in, what to store and to say out.

Pure: the server performs it with a storage and gRPC, the simulation with neither. All methods return effects;
of one batch, all writes are stored before anything else is done, so that nothing is ever said that could be
forgotten. The tables know nothing of each other: what the death of a node or the end of a job means to each
is said here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from orchestrator.gcs import (
    answered,
    jobs,
    kv,
    messages,
    names,
    nodes,
    placement_groups,
    requests,
)
from orchestrator.gcs.answered import AnsweredTable
from orchestrator.gcs.cluster_view import ViewPublisher
from orchestrator.gcs.effects import Close, Effect, Reply, Send, Tell, Write
from orchestrator.gcs.jobs import JobTable
from orchestrator.gcs.kv import KvTable
from orchestrator.gcs.names import NameTable
from orchestrator.gcs.nodes import Died, HealthPolicy, NodeState, NodeTable
from orchestrator.gcs.placement_groups import Choose, GroupTable
from orchestrator.gcs.requests import Answer, Call, Done, Refused

CLUSTER_KEY = "cluster_id"
#: Rows of a storage: table to key to value.
Rows = Mapping[str, Mapping[str, bytes]]


class Head:
    """All tables. Times are seconds of a clock that never goes back, `wall_s` seconds since 1970.

    Args:
        rows: what the storage holds.
        cluster_id: that of a new cluster; what the storage has goes before.
        epoch: a number that no other head of this cluster has had.
        now_s: the time.
        choose: chooses nodes for placement groups.
        policy: when a silent node is dead.
        refuse_after_s: see `GroupTable`.
        storage: what to call the storage in answers.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        cluster_id: str,
        epoch: int,
        now_s: float,
        choose: Choose,
        policy: HealthPolicy | None = None,
        refuse_after_s: float | None = 60.0,
        storage: str = "",
    ) -> None:
        policy = HealthPolicy() if policy is None else policy
        self._storage = storage
        self.nodes = NodeTable(policy)
        self.views = ViewPublisher(epoch)
        self.names = NameTable()
        self.jobs = JobTable()
        self.groups = GroupTable(choose, refuse_after_s=refuse_after_s)
        self.kv = KvTable()
        self.answered = AnsweredTable()
        #: What was counted, for people.
        self.counts: Counter[str] = Counter()
        #: Sessions to nodes, and the version of the view that each has been sent.
        self._sessions: dict[int, int] = {}
        self._sent: dict[int, tuple[int, int]] = {}

        meta = rows.get(nodes.META, {})
        self.cluster_id = meta.get(CLUSTER_KEY, cluster_id.encode()).decode()
        self._is_new = CLUSTER_KEY not in meta
        self.nodes.restore(
            rows.get(nodes.TABLE, {}).values(), int(meta.get(nodes.NEXT_INDEX_KEY, b"1")), now_s
        )
        self.names.restore(rows.get(names.TABLE, {}).values())
        self.jobs.restore(rows.get(jobs.TABLE, {}).values())
        self.groups.restore(rows.get(placement_groups.TABLE, {}).values(), now_s)
        self.kv.restore(rows.get(kv.TABLE, {}).items())
        self.answered.restore(rows.get(answered.TABLE, {}).values())
        self.views.publish(record.view() for record in self.nodes.all())

    def begin(self) -> list[Effect]:
        """Return what is to be stored before anything else."""
        return [Write(nodes.META, CLUSTER_KEY, self.cluster_id.encode())] if self._is_new else []

    # ------------------------------------------------------------ sessions

    def register(self, session: int, message: messages.Register, now_s: float, wall_s: float) -> list[Effect]:
        """A node begins a session."""
        if message.cluster_id not in ("", self.cluster_id):
            text = (
                f"it belongs to cluster {message.cluster_id[:40]}, and this is the head of {self.cluster_id}"
            )
            return self._turn_away(session, text)
        known = self.nodes.by_id(message.spec.node_id)
        former = known.session if known is not None else None
        record, writes, died = self.nodes.register(session, message, now_s)
        if isinstance(record, str):
            return self._turn_away(session, record)
        out: list[Effect] = [*writes]
        if former is not None and former != session:
            self._forget(former)
            out.append(Close(former))
        out += self._bury(died, wall_s)
        index, head = record.index, self.nodes.head_index
        self._sessions[session] = index
        out.append(Send(session, messages.Registered(index, self.cluster_id, head)))
        self._sent[session] = (message.seen_epoch, message.seen_version)
        self._publish()
        out += self._news_for(session)
        if record.drain is not None:
            out.append(Send(session, record.drain))
        return self._addressed([*out, *self.jobs.resume(index), *self.groups.resume(index)])

    def heartbeat(self, session: int, message: messages.Heartbeat, now_s: float) -> list[Effect]:
        """A node gives a sign of life."""
        record = self.nodes.get(self._sessions.get(session, 0))
        if record is None:
            return [Close(session)]
        self.nodes.heartbeat(record, message, now_s)
        return []

    def leaving(self, session: int, message: messages.Leaving, wall_s: float) -> list[Effect]:
        """A node ends by itself."""
        index = self._sessions.get(session, 0)
        writes, died = self.nodes.bury(index, f"it left: {message.reason[:1000]}")
        self._forget(session)
        return self._addressed([*writes, *self._bury(died, wall_s), Close(session), *self._all_news()])

    def disconnected(self, session: int, now_s: float) -> list[Effect]:
        """A session broke."""
        record = self.nodes.get(self._sessions.get(session, 0))
        self._forget(session)
        if record is None or record.session != session:
            return []
        self.nodes.session_lost(record, now_s)
        return self._addressed(self.groups.node_suspected(record.index))

    def nobody_listens(self, index: int, now_s: float, wall_s: float) -> list[Effect]:
        """Somebody has looked: the machine of a node refuses connections to where the node listens."""
        writes, died = self.nodes.nobody_listens(index, now_s)
        return self._addressed([*writes, *self._bury(died, wall_s)])

    def tick(self, now_s: float, wall_s: float) -> list[Effect]:
        """Look at the clock, and tell everybody what has changed. To be called about ten times a second."""
        writes, died = self.nodes.tick(now_s)
        out: list[Effect] = [*writes, *self._bury(died, wall_s)]
        for index in self.nodes.changed:
            record = self.nodes.get(index)
            if record is not None and record.state is NodeState.SUSPECT:
                out += self.groups.node_suspected(index)
        out += self._all_news()
        out += self._unnamed(self.groups.tick(now_s, self.views.version, self._usable))
        return self._addressed(out)

    def _usable(self) -> list[messages.NodeView]:
        """Return the nodes on which bundles may be reserved now."""
        return [
            record.view()
            for record in self.nodes.members()
            if record.state is NodeState.ALIVE and record.drain is None and record.session is not None
        ]

    def _turn_away(self, session: int, text: str) -> list[Effect]:
        self.counts["turned_away"] += 1
        return [Send(session, messages.MustLeave(text)), Close(session)]

    def _forget(self, session: int) -> None:
        self._sessions.pop(session, None)
        self._sent.pop(session, None)

    def _bury(self, died: Iterable[Died], wall_s: float) -> list[Effect]:
        """Say what the deaths of nodes mean to each table."""
        out: list[Effect] = []
        for index, cause in died:
            self.counts["nodes_died"] += 1
            for session in [one for one, node in self._sessions.items() if node == index]:
                out += [Send(session, messages.MustLeave(f"it was declared dead: {cause}")), Close(session)]
                self._forget(session)
            for job in self.jobs.running_on(index):
                out += self._finish_job(job, f"its node died: {cause}", wall_s)
            out += self.jobs.node_died(index, wall_s)
            out += self.names.home_died(index)
            out += self.groups.node_died(index)
            out += self.answered.node_died(index)
        return [*out, *self._all_news()] if out else out

    def _finish_job(self, job: str, reason: str, wall_s: float) -> list[Effect]:
        members = [record.index for record in self.nodes.members()]
        effects = self.jobs.finish(job, reason, members, wall_s)
        if not effects:
            return []
        return [*effects, *self.names.job_ended(job), *self._unnamed(self.groups.job_ended(job))]

    # ------------------------------------------------------------ views

    def _publish(self) -> None:
        changed = [record for index in self.nodes.changed if (record := self.nodes.get(index)) is not None]
        self.nodes.changed.clear()
        self.views.publish(record.view() for record in changed)

    def _all_news(self) -> list[Effect]:
        self._publish()
        return [effect for session in self._sessions for effect in self._news_for(session)]

    def _news_for(self, session: int) -> list[Effect]:
        views = self.views.since(*self._sent[session])
        self._sent[session] = (self.views.epoch, self.views.version)
        return [Send(session, view) for view in views]

    def _addressed(self, effects: Iterable[Effect]) -> list[Effect]:
        """Turn what is for a node into what is for its session; without one, it is said when it registers."""
        out: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Tell):
                record = self.nodes.get(effect.node)
                if record is not None and record.session is not None:
                    out.append(Send(record.session, effect.event))
            else:
                out.append(effect)
        return out

    # ------------------------------------------------------------ requests

    def call(self, call: Call, wall_s: float) -> list[Effect]:
        """A node asks for something."""
        if not self.nodes.is_member(call.node):
            record = self.nodes.get(call.node)
            cause = record.cause if record is not None else "it was never registered"
            return [self._reply(call, Refused("dead", f"node {call.node} is not of this cluster: {cause}"))]
        confirmed: list[Effect] = [*self.answered.confirm(call)]
        if isinstance(call.request, requests.READS):
            answer, effects = self._perform(call.node, call.request, wall_s)
            return [*confirmed, *self._addressed(effects), self._reply(call, answer)]
        if self.answered.is_stale(call):
            return confirmed
        known = self.answered.find(call)
        if known is not None:
            self.counts["repeated_requests"] += 1
            return [*confirmed, self._reply(call, known)]
        if self.answered.is_full(call.node):
            text = f"the node has {answered.ANSWERS_PER_NODE_MAX} requests under way"
            return [*confirmed, self._reply(call, Refused("too_large", text))]
        answer, effects = self._perform(call.node, call.request, wall_s)
        if not self.nodes.is_member(call.node):  # it declared itself dead: nobody waits there any more
            return [*confirmed, *self._addressed(effects), self._reply(call, answer)]
        kept = self.answered.keep(call, answer)
        return [*confirmed, *self._addressed(effects), kept, self._reply(call, answer)]

    def own_call(self, number: int, request: requests.Request, wall_s: float) -> list[Effect]:
        """Something in the head's own process asks: as node 0, which is none, and each question once."""
        answer, effects = self._perform(0, request, wall_s)
        return [*self._addressed(effects), Reply(0, number, answer)]

    @staticmethod
    def _reply(call: Call, answer: Answer) -> Effect:
        return Reply(call.node, call.number, answer)

    def _perform(
        self, node: int, request: requests.Request, wall_s: float
    ) -> tuple[Answer, Iterable[Effect]]:
        handler = _HANDLERS.get(type(request))
        if handler is None:
            return Refused("unsupported", f"this head does not know {type(request).__name__}"), []
        return handler(self, node, request, wall_s)

    def _drain(self, request: requests.RequestDrain) -> tuple[Answer, Iterable[Effect]]:
        wish = messages.DrainNode(request.reason[:1000] or "it was asked to", max(0.0, request.grace_s))
        writes = self.nodes.drain(request.node, wish)
        if writes is None:
            return Refused("unknown", f"there is no living node {request.node}"), []
        return Done(), [*writes, Tell(request.node, wish), *self._all_news()]

    def _declare_dead(self, request: requests.DeclareDead, wall_s: float) -> tuple[Answer, Iterable[Effect]]:
        writes, died = self.nodes.bury(request.node, request.reason[:1000])
        return Done(len(died)), [*writes, *self._bury(died, wall_s)]

    def _claim(self, request: requests.ClaimName) -> tuple[Answer, Iterable[Effect]]:
        claim = request.claim
        if not claim.detached and not self.nodes.is_member(claim.home):
            return Refused("invalid", f"node {claim.home}, which is to answer for the name, is dead"), []
        if claim.job and not claim.detached and not self.jobs.is_running(claim.job):
            return Refused("invalid", f"job {claim.job}, which is to have the name, has ended"), []
        return self.names.claim(request)

    def _create_group(self, node: int, request: requests.CreateGroup) -> tuple[Answer, Iterable[Effect]]:
        spec = request.spec
        if spec.job and not spec.detached and not self.jobs.is_running(spec.job):
            return Refused("invalid", f"job {spec.job}, which is to have the group, has ended"), []
        named: Iterable[Effect] = ()
        if spec.name:
            # Detached as far as names go: it ends with the group, and not by itself.
            name = requests.Name("group", spec.namespace, spec.name, spec.group, node, b"", spec.job, True)
            answer, named = self.names.claim(requests.ClaimName(name))
            if not isinstance(answer, Done):
                return answer, []
        answer, effects = self.groups.create(node, spec)
        if not isinstance(answer, Done) and spec.name:
            self.names.free(requests.FreeName("group", id=spec.group))
            return answer, []
        return answer, [*named, *effects]

    def _remove_group(self, request: requests.RemoveGroup) -> tuple[Answer, Iterable[Effect]]:
        answer, effects = self.groups.remove(request.group, "it was removed")
        return answer, self._unnamed(effects)

    def _unnamed(self, effects: list[Effect]) -> list[Effect]:
        """Give up the names of groups that are told to be gone."""
        out = list(effects)
        for group in self.groups.take_ended():
            out += self.names.free(requests.FreeName("group", id=group))[1]
        return out

    def _info(self) -> Answer:
        alive = len(self.nodes.members())
        return requests.Info(self.cluster_id, self.nodes.head_index, alive, self._storage, dict(self.counts))

    def _nodes(self, request: requests.ListNodes) -> Answer:
        return requests.Nodes(tuple(r.view() for r in self.nodes.all() if request.dead_too or r.is_member))

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for table in (
            self.nodes,
            self.views,
            self.names,
            self.jobs,
            self.kv,
            self.answered,
            self.groups,
        ):
            table.validate()  # type: ignore[attr-defined]
        for session, index in self._sessions.items():
            record = self.nodes.get(index)
            assert record is not None and record.session == session, session
        assert self._sent.keys() == self._sessions.keys()
        members = {record.index for record in self.nodes.members()}
        assert all(name.home in members or name.detached for name in self.names._names.values())


Handler = Callable[["Head", int, Any, float], "tuple[Answer, Iterable[Effect]]"]

#: What answers which request: (head, asking node, request, time of day).
_HANDLERS: dict[type, Handler] = {
    requests.ListNodes: lambda head, node, r, _: (head._nodes(r), ()),
    requests.RequestDrain: lambda head, node, r, _: head._drain(r),
    requests.DeclareDead: lambda head, node, r, wall_s: head._declare_dead(r, wall_s),
    requests.StartJob: lambda head, node, r, wall_s: head.jobs.start(node, r, wall_s),
    requests.FinishJob: lambda head, node, r, wall_s: (Done(), head._finish_job(r.job, r.reason, wall_s)),
    requests.JobEnded: lambda head, node, r, wall_s: head.jobs.confirmed(node, r.job, wall_s),
    requests.ListJobs: lambda head, node, r, _: (head.jobs.jobs(), ()),
    requests.ClaimName: lambda head, node, r, _: head._claim(r),
    requests.FindName: lambda head, node, r, _: (head.names.find(r), ()),
    requests.FreeName: lambda head, node, r, _: head.names.free(r),
    requests.ListNames: lambda head, node, r, _: (head.names.names(r), ()),
    requests.CreateGroup: lambda head, node, r, _: head._create_group(node, r),
    requests.RemoveGroup: lambda head, node, r, _: head._remove_group(r),
    requests.WatchGroup: lambda head, node, r, _: head.groups.watch(node, r.group),
    requests.ListGroups: lambda head, node, r, _: (head.groups.groups(), ()),
    requests.BundlesPrepared: lambda head, node, r, _: head.groups.prepared(node, *r),
    requests.BundlesRefused: lambda head, node, r, _: head.groups.refused(node, *r),
    requests.BundlesCommitted: lambda head, node, r, _: head.groups.committed(node, *r),
    requests.BundlesReleased: lambda head, node, r, _: head.groups.released(node, *r),
    requests.PutValue: lambda head, node, r, _: head.kv.put(r),
    requests.GetValue: lambda head, node, r, _: (head.kv.get(r), ()),
    requests.DeleteValue: lambda head, node, r, _: head.kv.delete(r),
    requests.ListKeys: lambda head, node, r, _: (head.kv.keys(r), ()),
    requests.ClusterInfo: lambda head, node, r, _: (head._info(), ()),
}
