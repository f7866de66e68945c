"""Placement groups as a node sees them, with a head that is played: answers and news in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import messages, requests
from orchestrator.gcs.requests import Done, Group, Groups, GroupSpec, Refused
from orchestrator.node.groups_abroad import GroupsAbroad
from orchestrator.scheduling import events, placement_groups
from orchestrator.scheduling.cluster.lease_events import GroupGone, GroupPlaced

ONE = ResourceSet.from_floats({"CPU": 1})
CLIENT, DRIVER, REQUEST = 7, 3, 11


class Node:
    """Member, daemon, head, outbox, jobs and leases in one."""

    def __init__(self) -> None:
        self.head = self.jobs = self.leases = self.outbox = self
        self.asked: list[tuple[Any, Callable[[Any], None] | None]] = []
        self.sent: list[tuple[int, dict[str, Any]]] = []
        self.routed: list[Any] = []
        self.scheduled: list[Any] = []
        self.groups = GroupsAbroad(self, self)  # type: ignore[arg-type]

    def submit(self, request: Any, callback: Callable[[Any], None] | None = None) -> None:
        self.asked.append((request, callback))

    def answer(self, answer: Any, which: int = -1) -> None:
        callback = self.asked.pop(which)[1]
        assert callback is not None
        callback(answer)

    def send(self, client: int, message: dict[str, Any]) -> None:
        self.sent.append((client, message))

    def when_started(self, job: str, action: Callable[[], None]) -> None:
        action()

    def driver_of(self, job: str) -> int:
        return DRIVER

    def group_changed(self, news: Any) -> None:
        self.routed.append(news)

    def tell_scheduler(self, event: Any) -> None:
        self.scheduled.append(event)


@pytest.fixture
def node() -> Node:
    return Node()


def described(state: str, cause: str = "", nodes: tuple[int, ...] = ()) -> Groups:
    bundles = (ONE,) if state != "REMOVED" else ()
    return Groups((Group(GroupSpec("g", "", "", "PACK", bundles), state, cause, nodes),))


def create(node: Node) -> None:
    spec = placement_groups.GroupSpec("g", "", "", "PACK", (ONE,), job="j")
    node.groups.create(CLIENT, spec, ({"zone": "a"},), REQUEST)


def test_a_group_is_created_and_whoever_waits_hears_when_it_is_there(node: Node) -> None:
    create(node)
    (wanted, _), = node.asked  # fmt: skip
    assert wanted.spec.selectors == (requests.LabelSelector({"zone": "a"}),) and wanted.spec.job == "j"
    node.groups.wait(CLIENT, "g", 12)
    assert len(node.asked) == 1, "whoever creates a group watches it"
    node.answer(Done())
    assert node.sent == [(CLIENT, {"op": "reply", "req": REQUEST, "group": "g"})]
    assert node.groups.on_event(messages.GroupChanged("g", "CREATED", "", (4,)))
    assert node.routed == [GroupPlaced("g", (4,))]
    assert node.sent[-1] == (CLIENT, {"op": "reply", "req": 12, "state": "CREATED", "cause": ""})
    node.groups.wait(CLIENT, "g", 13)
    assert node.sent[-1][1]["req"] == 13


@pytest.mark.parametrize(("code", "error"), [("taken", "exists"), ("invalid", "no")])
def test_a_group_that_the_head_refuses(node: Node, code: str, error: str) -> None:
    create(node)
    node.groups.wait(CLIENT, "g", 12)
    node.answer(Refused(code, "no"))
    assert node.sent[0][1]["state"] == "REMOVED" and "never created" in node.sent[0][1]["cause"]
    assert node.sent[1][1]["error"] == error
    assert node.routed == [GroupGone("g")]


def test_an_answer_that_news_have_overtaken_is_not_believed(node: Node) -> None:
    node.groups.need("g")
    node.groups.on_event(messages.GroupChanged("g", "CREATED", "", (4,)))
    node.answer(described("PENDING"))
    node.groups.wait(CLIENT, "g", 12)
    assert node.sent[-1][1]["state"] == "CREATED" and node.routed == [GroupPlaced("g", (4,))]


def test_a_group_that_nobody_knows_is_gone(node: Node) -> None:
    node.groups.wait(CLIENT, "g", 12)
    node.answer(described("REMOVED", "the cluster does not know it"))
    assert node.sent == [
        (CLIENT, {"op": "reply", "req": 12, "state": "REMOVED", "cause": "the cluster does not know it"})
    ]
    assert node.routed == [GroupGone("g")]


def test_what_was_missed_while_the_head_was_away_is_asked_for(node: Node) -> None:
    create(node)
    node.groups.watch_again()
    node.answer(described("REMOVED"))
    assert node.routed == [], "the question has overtaken the creation"
    node.answer(Done())
    node.groups.on_event(messages.GroupChanged("g", "CREATED", "", (4,)))
    node.groups.watch_again()
    node.answer(described("REMOVED"))
    assert node.routed[-1] == GroupGone("g")


def test_bundles_of_a_dead_node_are_nowhere_and_whoever_waits_goes_on_waiting(node: Node) -> None:
    node.groups.need("g")
    node.answer(described("CREATED", "", (4, 5)))
    node.groups.on_event(messages.GroupChanged("g", "RESCHEDULING", "node 5 died", (4, 0)))
    node.groups.wait(CLIENT, "g", 12)
    assert node.sent == [] and node.routed[-1] == GroupPlaced("g", (4, 0))
    node.groups.client_gone(CLIENT)
    node.groups.on_event(messages.GroupChanged("g", "CREATED", "", (4, 6)))
    assert node.sent == []


def test_a_long_wait_is_explained_again_and_again_at_growing_intervals(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    create(node)
    node.groups.on_event(messages.GroupChanged("g", "PENDING", "no node has that"))
    told_at = [second for second in range(100, 200) if _explained(node, float(second))]
    assert told_at == [102, 108, 132]
    assert node.sent[0] == (
        DRIVER,
        {
            "op": "explain",
            "text": "PlacementGroup(g) has waited 2 s for nodes with room: no node has that",
        },
    )
    node.groups.on_event(messages.GroupChanged("g", "CREATED", "", (4,)))
    assert not _explained(node, 1e6)


def _explained(node: Node, now_s: float) -> bool:
    before = len(node.sent)
    node.groups.tick(now_s)
    return len(node.sent) > before


def test_what_the_head_says_of_bundles_goes_to_the_scheduler_and_back(node: Node) -> None:
    node.groups.on_event(messages.PrepareBundles("g", 1, (messages.Bundle(2, ONE),)))
    assert node.scheduled == [events.PartWanted("g", 1, {2: ONE})] and node.asked == []
    node.groups.part_reserved(events.PartReserved("g", 1, ""))
    node.groups.part_reserved(events.PartReserved("g", 1, "full"))
    node.groups.on_event(messages.CommitBundles("g", 1))
    node.groups.on_event(messages.ReleaseBundles("g", 1, "removed"))
    assert [request for request, _ in node.asked] == [
        requests.BundlesPrepared("g", 1),
        requests.BundlesRefused("g", 1, "full"),
        requests.BundlesCommitted("g", 1),
        requests.BundlesReleased("g", 1),
    ]
    assert node.scheduled[1:] == [events.PartCommitted("g", 1), events.PartReleased("g", 1)]
    assert not node.groups.on_event(messages.EndJob("j", ""))
