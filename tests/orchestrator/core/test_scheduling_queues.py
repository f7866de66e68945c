"""Queues of one class that differ in the node which their tasks should run near."""

from __future__ import annotations

from typing import Any, cast

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.core.leases import Lease, SchedulingQueue

ONE = SchedulingClass(ResourceSet.from_floats({"CPU": 1}))


def family(*nodes: int) -> list[SchedulingQueue]:
    plain = SchedulingQueue(ONE, "one")
    queues = [plain]
    for node in nodes:
        queues.append(SchedulingQueue(ONE, f"one|near={node}", node))
        queues[-1].join(plain)
    return queues


def lend(queue: SchedulingQueue, node: int) -> Lease:
    lease = Lease(queue, 100 * node, 1, cast(Any, None), node)
    queue.leases.append(lease)
    return lease


def test_an_idle_worker_of_the_node_is_taken_over() -> None:
    plain, near_two, near_three = family(2, 3)
    there, elsewhere = lend(plain, 2), lend(plain, 1)
    assert near_three.adopt() is None
    assert near_two.adopt() is there
    assert there.queue is near_two and near_two.leases == [there] and plain.leases == [elsewhere]


def test_whoever_does_not_mind_takes_any() -> None:
    plain, near_two = family(2)
    there = lend(near_two, 2)
    assert plain.adopt() is there
    assert plain.adopt() is None and not near_two.leases


def test_a_worker_that_is_not_idle_stays() -> None:
    plain, near_two = family(2)
    busy, paused = lend(plain, 2), lend(plain, 2)
    busy.inflight[1], paused.paused = cast(Any, object()), True
    assert near_two.adopt() is None


def test_a_queue_that_has_work_keeps_its_workers() -> None:
    plain, near_two = family(2)
    lend(plain, 2)
    plain.pending.append(cast(Any, object()))
    assert near_two.adopt() is None


def test_of_a_class_that_is_alone_there_is_nothing_to_take() -> None:
    assert SchedulingQueue(ONE, "one").adopt() is None
