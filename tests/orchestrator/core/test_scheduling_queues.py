"""Tasks of one class, some of which should run near a node."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.core import leases
from orchestrator.core.leases import LAPSE_S, NEAR_KEPT_S, PATIENCE_S, Lease, SchedulingQueue, queue_of
from orchestrator.core.task import Task, Template

ONE = SchedulingClass(ResourceSet.from_floats({"CPU": 1}))
COST_US = 50_000


class World:
    """A class, its workers, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(leases, "monotonic", lambda: self.now_s)
        self.queue = SchedulingQueue(ONE, "one")
        self.template = Template(b"f", "f", queue=self.queue)
        self.count = 0

    def lend(self, node: int) -> Lease:
        lease = Lease(self.queue, 100 * node, 1, None, node)  # type: ignore[arg-type]
        self.queue.leases.append(lease)
        return lease

    def task(self, near: int = 0) -> Task:
        self.count += 1
        task = Task(self.count, self.template, None)
        task.near = near
        return task

    def wait(self, near: int = 0) -> Task:
        """A task that finds no worker, and waits."""
        task = self.task(near)
        assert queue_of(task).pick(COST_US) is None
        queue_of(task).push(task)
        return task


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_each_node_has_a_queue_and_the_class_its_workers(world: World) -> None:
    two, three = queue_of(world.task(2)), queue_of(world.task(3))
    assert two is queue_of(world.task(2)) and two is not three
    assert queue_of(world.task()) is world.queue
    assert two.leases is three.leases is world.queue.leases
    assert len({two.key, three.key, world.queue.key}) == 3


def test_a_task_goes_to_a_worker_of_its_node_and_to_no_other(world: World) -> None:
    elsewhere = world.lend(1)
    assert queue_of(world.task(2)).pick(COST_US) is None
    there = world.lend(2)
    assert queue_of(world.task(2)).pick(COST_US) is there
    assert queue_of(world.task()).pick(COST_US) is elsewhere


def test_it_does_not_wait_for_long(world: World) -> None:
    elsewhere = world.lend(1)
    near = queue_of(world.wait(2))
    assert not near.takes(elsewhere)
    world.now_s += PATIENCE_S
    assert near.takes(elsewhere) and near.pick(COST_US) is elsewhere


def test_the_next_ones_do_not_wait_at_all_for_a_while(world: World) -> None:
    elsewhere = world.lend(1)
    near = queue_of(world.wait(2))
    world.now_s += PATIENCE_S
    assert near.pick(COST_US) is elsewhere
    near.pending.clear()
    assert near.pick(COST_US) is elsewhere
    there = world.lend(2)
    assert near.pick(COST_US) is there, "their node is still the first choice"
    there.paused = True
    world.now_s += LAPSE_S
    assert near.pick(COST_US) is None


def test_a_worker_that_comes_is_a_reason_for_patience(world: World) -> None:
    elsewhere = world.lend(1)
    near = queue_of(world.wait(2))
    world.now_s += 0.9 * PATIENCE_S
    near.waiting_since = world.now_s  # as when a worker is granted
    world.now_s += 0.9 * PATIENCE_S
    assert not near.takes(elsewhere)


def test_a_worker_of_another_node_that_was_lent_for_it_will_do(world: World) -> None:
    near = queue_of(world.wait(2))
    elsewhere = Lease(world.queue, 1, 1, None, 1)  # type: ignore[arg-type]
    near.granted(elsewhere)
    assert near.pick(COST_US) is elsewhere and world.queue.leases == [elsewhere]
    there = Lease(world.queue, 2, 1, None, 2)  # type: ignore[arg-type]
    near.granted(there)
    assert near.pick(COST_US) is there


def test_who_has_room_takes_the_oldest_that_may_go_there(world: World) -> None:
    here, there = Lease(world.queue, 1, 1, None, 1), Lease(world.queue, 2, 1, None, 2)  # type: ignore[arg-type]
    near, plain = world.wait(2), world.wait()
    assert world.queue.oldest_for(there) is queue_of(near)
    assert world.queue.oldest_for(here) is queue_of(plain)
    world.now_s += PATIENCE_S
    assert world.queue.oldest_for(here) is queue_of(near), "nobody is overtaken for ever"


def test_a_class_has_work_while_any_of_its_tasks_waits(world: World) -> None:
    assert not world.queue.has_work
    task = world.wait(2)
    assert world.queue.has_work
    queue_of(task).pending.clear()
    assert not world.queue.has_work


def test_queues_near_nodes_are_forgotten(world: World) -> None:
    waits, done = world.wait(2), queue_of(world.task(3))
    world.now_s += NEAR_KEPT_S + 1
    assert world.queue.tend(world.now_s) == PATIENCE_S
    assert list(world.queue.near_queues.values()) == [queue_of(waits)] and done.near == 3
    queue_of(waits).pending.clear()
    assert world.queue.tend(world.now_s) > PATIENCE_S
    assert world.queue.all() == [world.queue]


def test_why_a_task_waits_is_said_once(world: World) -> None:
    queue_of(world.wait(2))
    near: Any = world.queue.near_queues[2]
    world.now_s += 1000
    assert "each needs {CPU: 1}" in near.why_it_waits(world.now_s)
    assert near.why_it_waits(world.now_s) is None


def test_of_many_nodes_a_few_are_looked_at_and_all_in_turn(world: World) -> None:
    waiting = [world.wait(near) for near in range(2, 50)]
    here = Lease(world.queue, 1, 1, None, 1)  # type: ignore[arg-type]
    assert world.queue.oldest_for(here) is None
    world.now_s += PATIENCE_S
    served = []
    while (one := world.queue.oldest_for(here)) is not None:
        served.append(one.pending.popleft())
    assert sorted(task.seq for task in served) == [task.seq for task in waiting]
    assert not world.queue.busy and not world.queue.has_work
