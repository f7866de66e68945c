"""Who gives way, on a clock that is turned by hand."""

from __future__ import annotations

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.scheduling.demands import PATIENCE_S
from orchestrator.scheduling.events import (
    ActorWanted,
    Instruction,
    LeaseReturned,
    LeaseWanted,
    PlaceActor,
    Reclaim,
    Tick,
)
from orchestrator.scheduling.sharing import REPEAT_S, SLICE_S

from .test_local_scheduler import DRIVER, OTHER, Node, cpus, granted


def asked(instructions: list[Instruction]) -> list[tuple[int, int]]:
    """Return (client, worker) of the leases that are asked for although there is work for them."""
    return [(i.client, i.token) for i in instructions if isinstance(i, Reclaim) and i.token is not None]


def want(
    node: Node, count: int, client: int, key: str, priority: int = 0, cpu: float = 1
) -> list[Instruction]:
    return node.tell(LeaseWanted(client, key, SchedulingClass(cpus(cpu), priority=priority), count))


@pytest.fixture
def node() -> Node:
    """Two CPUs, both on lease to a driver that has work for a hundred."""
    node = Node(cpus(2))
    node.tell(Tick())
    node.start_all()
    assert len(granted(want(node, 100, DRIVER, "f"))) == 2
    return node


def test_a_lease_with_work_is_asked_for_after_its_time(node: Node) -> None:
    assert asked(want(node, 1, OTHER, "g")) == []
    assert asked(node.pass_time(SLICE_S / 2)) == []
    ((client, worker),) = asked(node.pass_time(SLICE_S))
    assert client == DRIVER
    assert asked(node.pass_time(REPEAT_S)) == [], "asked once"
    out = node.tell(LeaseReturned(DRIVER, worker))
    assert granted(out) == [worker] and node.scheduler.slots.get(worker).holder in (DRIVER, OTHER)  # type: ignore[union-attr]


def test_jobs_share_before_their_clients_do() -> None:
    node = Node(cpus(4), pool_size=4)
    node.tell(Tick())
    node.start_all()
    for client in (1, 2, 3):
        node.tell(LeaseWanted(client, "f", SchedulingClass(cpus(1)), 100, job="many"))
    for _ in range(60):
        node.tell(LeaseWanted(4, "g", SchedulingClass(cpus(1)), 100, job="single"))
        for client, worker in asked(node.pass_time(SLICE_S)):
            node.tell(LeaseReturned(client, worker))
    jobs = [slot.job for slot in node.scheduler.slots if slot.holder]
    assert sorted(jobs) == ["many", "many", "single", "single"]


def test_it_goes_round_until_both_have_the_same(node: Node) -> None:
    want(node, 100, OTHER, "g")
    turns = {DRIVER: 0, OTHER: 0}
    for _ in range(100):
        for client, worker in asked(node.pass_time(SLICE_S)):
            node.tell(LeaseReturned(client, worker))
        for slot in node.scheduler.slots:
            if slot.holder:
                turns[slot.holder] += 1
    assert 0.8 <= turns[DRIVER] / turns[OTHER] <= 1.25


def test_nobody_is_asked_who_has_no_more_than_the_other(node: Node) -> None:
    want(node, 100, OTHER, "g")
    while not any(slot.holder == OTHER for slot in node.scheduler.slots):
        for client, worker in asked(node.pass_time(SLICE_S)):
            node.tell(LeaseReturned(client, worker))
    assert [asked(node.pass_time(SLICE_S)) for _ in range(200)] == [[]] * 200


def test_classes_of_one_client_share_too(node: Node) -> None:
    want(node, 1, DRIVER, "g")
    assert [client for client, _ in asked(node.pass_time(2 * SLICE_S))] == [DRIVER]


def test_an_actor_gets_its_turn(node: Node) -> None:
    node.tell(ActorWanted(DRIVER, "a", SchedulingClass(cpus(1)), ResourceSet()))
    placed = False
    for _ in range(3):
        for client, worker in asked(node.pass_time(2 * SLICE_S)):
            out = node.tell(LeaseReturned(client, worker))
            placed = placed or any(isinstance(i, PlaceActor) for i in out)
    assert placed


def test_the_more_urgent_need_not_wait(node: Node) -> None:
    ((client, worker),) = asked(want(node, 1, OTHER, "g", priority=1))
    out = node.tell(LeaseReturned(client, worker))
    assert granted(out) == [worker] and node.scheduler.slots.get(worker).holder == OTHER  # type: ignore[union-attr]


def test_the_less_urgent_waits_until_it_is_overdue() -> None:
    node = Node(cpus(1), pool_size=1)
    node.tell(Tick())
    node.start_all()
    want(node, 100, DRIVER, "f", priority=5)
    want(node, 1, OTHER, "g", priority=-5)
    assert asked(node.pass_time(PATIENCE_S / 2)) == []
    ((client, worker),) = asked(node.pass_time(PATIENCE_S))
    node.tell(LeaseReturned(client, worker))
    assert node.scheduler.slots.get(worker).holder == OTHER  # type: ignore[union-attr]


def test_a_large_demand_gets_what_small_ones_would_take_again_and_again(node: Node) -> None:
    want(node, 1, OTHER, "large", cpu=2)
    for _ in range(200):
        for slot in list(node.scheduler.slots):
            if slot.holder == DRIVER:
                node.tell(LeaseReturned(DRIVER, slot.token))
                break
        if any(slot.holder == OTHER for slot in node.scheduler.slots):
            break
        node.pass_time(0.1)
    assert any(slot.holder == OTHER for slot in node.scheduler.slots)
    assert node.now_s - 100.0 <= 2 * PATIENCE_S


def test_but_nothing_is_kept_for_what_an_actor_holds_for_life(node: Node) -> None:
    first = next(slot for slot in node.scheduler.slots if slot.holder)
    node.tell(ActorWanted(DRIVER, "a", SchedulingClass(cpus(1)), cpus(1)))
    for _ in range(2):
        node.pass_time(SLICE_S)
        node.tell(LeaseReturned(DRIVER, first.token)) if first.holder else None
    node.start_all()
    want(node, 1, OTHER, "large", cpu=2)
    node.pass_time(1.5 * PATIENCE_S)
    for slot in node.scheduler.slots:
        if slot.holder == DRIVER:
            assert granted(node.tell(LeaseReturned(DRIVER, slot.token))), "the others go on"
