"""Placement groups of a cluster, as one of its nodes sees them.

The head has the groups (`gcs.placement_groups`). A node does three things:

*Asks on behalf of its processes*: creates, removes, finds, lists; and answers those who wait for a group.

*Watches* the groups that its processes wait for, or want workers in: the first such question has the head
tell what becomes of the group from then on, and the router of leases hears where the bundles lie. Answers and
news come on different ways; an answer that news have overtaken is not believed.

*Reserves*: what the head says of bundles on this node goes to the scheduler (`scheduling.group_parts`), and
what that says goes to the head.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from orchestrator.gcs import messages, requests
from orchestrator.gcs.requests import Answer, Group, Groups, LabelSelector, Refused
from orchestrator.scheduling import events
from orchestrator.scheduling.cluster import lease_events
from orchestrator.scheduling.placement_groups import GroupSpec

if TYPE_CHECKING:
    from orchestrator.node.cluster_member import ClusterMember
    from orchestrator.node.daemon import Daemon

#: When the creator's driver first hears why a group waits, and by what factor each further time is later, up
#: to a most.
EXPLAINED_S = (2.0, 4.0, 3600.0)
#: Of an answer that lists groups: it has to fit into a message of 128 KiB.
LISTED_BYTES_MAX = 100_000

_GONE = ("REMOVED", "INFEASIBLE")


class _Watched:
    """A group that the head tells this node of."""

    def __init__(self, now_s: float) -> None:
        self.state = ""
        self.cause = ""
        self.nodes: tuple[int, ...] = ()
        #: News that have come.
        self.heard_count = 0
        #: (client, number of the request) of those who wait until it is there.
        self.waiters: list[tuple[int, int]] = []
        #: Whose driver is told why it waits; "" if that is another node's to tell.
        self.job = ""
        self.since_s = now_s
        self.explain_after_s = EXPLAINED_S[0]


class GroupsAbroad:
    """See the module's text."""

    def __init__(self, member: ClusterMember, node: Daemon) -> None:
        self._member = member
        self._node = node
        self._watched: dict[str, _Watched] = {}

    # ------------------------------------------------------------ what processes of this node ask

    def create(
        self, client: int, spec: GroupSpec, selectors: tuple[dict[str, str], ...], request: int
    ) -> None:
        """A process wants a group; it is answered when the head knows it."""
        watched = self._watched[spec.group] = _Watched(time.monotonic())
        watched.job = spec.job
        wanted = requests.GroupSpec(**spec._asdict(), selectors=tuple(map(LabelSelector, selectors)))

        def answered(answer: Answer) -> None:
            reply: dict[str, Any] = {"op": "reply", "req": request, "group": spec.group}
            if isinstance(answer, Refused):
                reply["error"] = "exists" if answer.code == "taken" else answer.text
                self._heard(spec.group, "REMOVED", f"it was never created: {answer.text}", ())
            self._node.outbox.send(client, reply)

        self._member.jobs.when_started(
            spec.job, lambda: self._member.head.submit(requests.CreateGroup(wanted), answered)
        )

    def remove(self, group: str) -> None:
        """A process wants a group no more."""
        self._member.head.submit(requests.RemoveGroup(group))

    def wait(self, client: int, group: str, request: int) -> None:
        """A process asks to hear when a group is there, or will never be."""
        self.need(group)
        watched = self._watched[group]
        watched.waiters.append((client, request))
        self._answer_waiters(watched)

    def find(self, client: int, name: str, namespace: str, request: int) -> None:
        """A process asks for a group by name."""
        reply: dict[str, Any] = {"op": "reply", "req": request, "found": False}

        def found(answer: Answer) -> None:
            if isinstance(answer, requests.Name):
                self._member.head.submit(requests.WatchGroup(answer.id), described)
            else:
                self._node.outbox.send(client, reply)

        def described(answer: Answer) -> None:
            group = answer.groups[0] if isinstance(answer, Groups) and answer.groups else None
            if group is not None and group.state not in _GONE:
                reply.update(self._describe(group), found=True)
            self._node.outbox.send(client, reply)

        self._member.head.submit(requests.FindName("group", namespace, name), found)

    def list(self, client: int, group: str | None, request: int) -> None:
        """A process asks for one group, or for all: as many as fit into an answer, the living first."""

        def listed(answer: Answer) -> None:
            found = answer.groups if isinstance(answer, Groups) else ()
            rows, left_bytes = [], LISTED_BYTES_MAX
            for one in sorted(found, key=lambda one: one.state in _GONE):
                rows.append(self._describe(one))
                left_bytes -= len(json.dumps(rows[-1]))
                if left_bytes < 0:
                    rows.pop()
                    break
            reply = {"op": "reply", "req": request, "groups": rows, "count": len(found)}
            self._node.outbox.send(client, {**reply, "node": self._node.node_id})

        question = requests.ListGroups() if group is None else requests.WatchGroup(group)
        self._member.head.submit(question, listed)

    def _describe(self, group: Group) -> dict[str, Any]:
        spec = group.spec
        ids = {node.node: node.node_id for node in self._member.head.nodes()}
        return {
            "group": spec.group,
            "name": spec.name,
            "namespace": spec.namespace,
            "strategy": spec.strategy,
            "bundles": [bundle.to_floats() for bundle in spec.bundles],
            "nodes": [ids.get(node, "") for node in group.nodes],
            "state": group.state,
            "cause": group.cause[:1000],
            "detached": spec.detached,
            "job": spec.job,
        }

    def client_gone(self, client: int) -> None:
        """A process that may have waited is gone."""
        for watched in self._watched.values():
            watched.waiters = [waiter for waiter in watched.waiters if waiter[0] != client]

    # ------------------------------------------------------------ watching

    def need(self, group: str) -> None:
        """Have the head tell what becomes of a group, from now on."""
        if group not in self._watched:
            self._watched[group] = _Watched(time.monotonic())
            self._watch(group)

    def watch_again(self) -> None:
        """The session with the head stands again: what has ended meanwhile it does not say by itself."""
        for group in self._watched:
            self._watch(group)

    def _watch(self, group: str) -> None:
        heard_count = self._watched[group].heard_count

        def answered(answer: Answer) -> None:
            watched = self._watched.get(group)
            if watched is None or watched.heard_count != heard_count or not isinstance(answer, Groups):
                return
            for one in answer.groups:
                if watched.job and one.state == "REMOVED" and not one.spec.bundles and not watched.state:
                    return  # it is being created, and the question has overtaken that
                self._heard(group, one.state, one.cause, one.nodes)

        self._member.head.submit(requests.WatchGroup(group), answered)

    def _heard(self, group: str, state: str, cause: str, nodes: tuple[int, ...]) -> None:
        watched = self._watched.get(group)
        if watched is None:
            return
        watched.heard_count += 1
        if watched.state == "CREATED" != state:
            watched.since_s, watched.explain_after_s = time.monotonic(), EXPLAINED_S[0]
        watched.state, watched.cause, watched.nodes = state, cause, nodes
        if state in _GONE:
            del self._watched[group]
            self._member.leases.group_changed(lease_events.GroupGone(group))
        elif state in ("CREATED", "RESCHEDULING"):
            self._member.leases.group_changed(lease_events.GroupPlaced(group, nodes))
        self._answer_waiters(watched)

    def _answer_waiters(self, watched: _Watched) -> None:
        if watched.state not in ("CREATED", *_GONE):
            return
        waiters, watched.waiters = watched.waiters, []
        for client, request in waiters:
            reply = {"op": "reply", "req": request, "state": watched.state, "cause": watched.cause[:1000]}
            self._node.outbox.send(client, reply)

    # ------------------------------------------------------------ what the head says

    def on_event(self, event: Any) -> bool:
        """Handle what the head says of groups; False if it is about something else."""
        match event:
            case messages.GroupChanged(group, state, cause, nodes):
                self._heard(group, state, cause, nodes)
            case messages.PrepareBundles(group, attempt, bundles):
                wanted = {one.bundle: one.resources for one in bundles}
                self._node.tell_scheduler(events.PartWanted(group, attempt, wanted))
            case messages.CommitBundles(group, attempt):
                self._node.tell_scheduler(events.PartCommitted(group, attempt))
                self._member.head.submit(requests.BundlesCommitted(group, attempt))
            case messages.ReleaseBundles(group, attempt):
                self._node.tell_scheduler(events.PartReleased(group, attempt))
                self._member.head.submit(requests.BundlesReleased(group, attempt))
            case _:
                return False
        return True

    def part_reserved(self, news: events.PartReserved) -> None:
        """The scheduler has reserved bundles, or, if there is a cause, not."""
        group, attempt, cause = news
        if cause:
            self._member.head.submit(requests.BundlesRefused(group, attempt, cause))
        else:
            self._member.head.submit(requests.BundlesPrepared(group, attempt))

    # ------------------------------------------------------------ time

    def tick(self, now_s: float) -> float:
        """Say of groups that were created here why they still wait; return the seconds until that is due."""
        due_s = EXPLAINED_S[2]
        for group, watched in self._watched.items():
            if not watched.job or watched.state == "CREATED":
                continue
            waited_s = now_s - watched.since_s
            if waited_s >= watched.explain_after_s:
                _, factor, most_s = EXPLAINED_S
                watched.explain_after_s += min(watched.explain_after_s * (factor - 1), most_s)
                self._explain(group, watched, waited_s)
            due_s = min(due_s, watched.explain_after_s - waited_s)
        return max(due_s, 0.0)

    def _explain(self, group: str, watched: _Watched, waited_s: float) -> None:
        why = watched.cause or "the head has not said anything about it"
        text = f"PlacementGroup({group}) has waited {waited_s:.0f} s for nodes with room: {why}"
        driver = self._node.jobs.driver_of(watched.job)
        if driver:
            self._node.outbox.send(driver, {"op": "explain", "text": text})
        else:
            self._node.complain(text)
