"""The life of a worker, as its table says."""

from __future__ import annotations

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.scheduling.worker_slots import (
    TRANSITIONS,
    InvalidTransition,
    WorkerChange,
    WorkerSlots,
    WorkerState,
)

ONE_CPU_AND_GPU = ResourceSet.from_floats({"CPU": 1, "GPU": 1})


def idle_slots(count: int) -> WorkerSlots:
    slots = WorkerSlots()
    for token in range(1, count + 1):
        slot = slots.add(token, "", 0.0)
        slots.set_address(slot, 100 + token)
        slots.change(slot, WorkerChange.READY, float(token))
    slots.validate()
    return slots


def test_every_state_can_be_reached_and_left() -> None:
    reached = {WorkerState.STARTING} | set(TRANSITIONS.values())
    assert reached == set(WorkerState)
    assert {start for start, _ in TRANSITIONS} == set(WorkerState) - {WorkerState.DEAD}


def test_work_goes_to_the_worker_that_was_busy_last() -> None:
    slots = idle_slots(3)
    newest = slots.newest_idle("")
    assert newest is not None and newest.token == 3
    assert [slot.token for slot in slots.in_state(WorkerState.IDLE)] == [1, 2, 3]


def test_a_blocked_worker_lends_its_cpu_and_nothing_else() -> None:
    slots = idle_slots(1)
    slot = slots.in_state(WorkerState.IDLE)[0]
    slots.change(slot, WorkerChange.LEASE, 2.0)
    slot.holder, slot.held = 7, ONE_CPU_AND_GPU
    slots.change(slot, WorkerChange.BLOCK, 3.0)
    slots.validate()
    assert slot.occupied == ResourceSet.from_floats({"GPU": 1})
    slots.change(slot, WorkerChange.UNBLOCK, 4.0)
    assert slot.occupied == ONE_CPU_AND_GPU
    slots.change(slot, WorkerChange.RETURN, 5.0)
    slots.validate()
    assert not slot.occupied and slot.since_s == 5.0


def test_an_impossible_change_leaves_everything_as_it_was() -> None:
    slots = idle_slots(1)
    slot = slots.in_state(WorkerState.IDLE)[0]
    with pytest.raises(InvalidTransition, match="unblock is not possible for <worker 1 idle"):
        slots.change(slot, WorkerChange.UNBLOCK, 2.0)
    assert slot.state is WorkerState.IDLE and slot.since_s == 1.0
    slots.validate()


def test_the_dead_are_forgotten() -> None:
    slots = idle_slots(2)
    first = slots.in_state(WorkerState.IDLE)[0]
    slots.change(first, WorkerChange.DIE, 9.0)
    slots.validate()
    assert first.state is WorkerState.DEAD
    assert slots.get(1) is None and slots.at(101) is None and len(slots) == 1
