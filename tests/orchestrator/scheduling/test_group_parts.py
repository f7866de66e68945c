"""What a node reserves for placement groups that lie on several nodes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import InBundle, SchedulingClass
from orchestrator.scheduling import events
from orchestrator.scheduling.accounts import Account
from orchestrator.scheduling.group_parts import GroupParts
from orchestrator.scheduling.local_scheduler import LocalScheduler

ONE = ResourceSet.from_floats({"CPU": 1})


def cpus(count: float) -> ResourceSet:
    return ResourceSet.from_floats({"CPU": count})


def test_what_is_prepared_is_taken_and_cannot_be_used_before_the_commit() -> None:
    root = Account(cpus(4))
    parts = GroupParts(root)
    assert parts.prepare("g", 1, {0: ONE, 2: cpus(2)}) == ""
    assert root.available == ONE and parts.accounts_of("g", -1) == []
    parts.commit("g", 1)
    assert [account.total for account in parts.accounts_of("g", -1)] == [ONE, cpus(2)]
    assert [account.total for account in parts.accounts_of("g", 2)] == [cpus(2)]
    assert parts.accounts_of("g", 1) == [], "that bundle is another node's"


def test_without_room_nothing_is_taken() -> None:
    root = Account(cpus(2))
    parts = GroupParts(root)
    assert parts.prepare("g", 1, {0: ONE, 1: cpus(2)}) == (
        "its bundles need {CPU: 1}, {CPU: 2}, and {CPU: 2} is free"
    )
    assert root.available == cpus(2) and list(parts) == []


def test_everything_may_be_said_again_and_a_released_attempt_is_refused_for_good() -> None:
    root = Account(cpus(2))
    parts = GroupParts(root)
    assert parts.prepare("g", 1, {0: ONE}) == parts.prepare("g", 1, {0: ONE}) == ""
    parts.commit("g", 1)
    parts.commit("g", 1)
    assert root.available == ONE
    assert len(parts.release("g", 1)) == 1 and parts.release("g", 1) == []
    assert root.available == cpus(2)
    assert parts.prepare("g", 1, {0: ONE}) == "this attempt was given up before"
    assert parts.release("g", 2) == [] and parts.prepare("g", 2, {0: ONE}) != "", "overtaken by its release"
    assert parts.prepare("g", 3, {0: ONE}) == ""


def test_the_scheduler_serves_a_bundle_when_it_is_committed_and_ends_what_runs_there_on_release() -> None:
    node = LocalScheduler(cpus(2), pool_size=1)
    started = [out for out in node.handle(events.Tick(), 0.0) if isinstance(out, events.StartWorker)]
    node.handle(events.WorkerReady(started[0].token, 100), 0.0)
    (reserved,) = node.handle(events.PartWanted("g", 1, {1: ONE}), 0.0)
    assert reserved == events.PartReserved("g", 1, "")
    inside = SchedulingClass(ONE, placement=InBundle("g", 1))
    assert not node.places.room(inside)
    out = node.handle(events.LeaseWanted(7, "a", inside, 1), 0.0)
    assert not any(isinstance(one, events.Grant | events.Infeasible) for one in out)
    granted = node.handle(events.PartCommitted("g", 1), 0.0)
    (grant,) = [one for one in granted if isinstance(one, events.Grant)]
    node.validate()
    (ended,) = [
        one for one in node.handle(events.PartReleased("g", 1), 0.0) if isinstance(one, events.EndWorker)
    ]
    assert (ended.token, ended.verdict) == (grant.token, events.GROUP_REMOVED)
    assert node.available == ONE, "the rest comes back with the worker's end"
    node.handle(events.WorkerDied(grant.token), 0.0)
    assert node.available == cpus(2)
    node.validate()


def test_a_part_waits_for_room_and_is_refused_when_that_takes_too_long() -> None:
    node = LocalScheduler(cpus(2), pool_size=2)
    for out in node.handle(events.Tick(), 0.0):
        if isinstance(out, events.StartWorker):
            node.handle(events.WorkerReady(out.token, 100 + out.token), 0.0)
    leased = node.handle(events.LeaseWanted(7, "a", SchedulingClass(ONE), 2), 0.0)
    tokens = [one.token for one in leased if isinstance(one, events.Grant)]

    def reserved(event: events.Event, now_s: float) -> list[events.PartReserved]:
        return [one for one in node.handle(event, now_s) if isinstance(one, events.PartReserved)]

    assert reserved(events.PartWanted("g", 1, {0: ONE}), 1.0) == []
    assert reserved(events.PartWanted("h", 1, {0: cpus(2)}), 1.0) == []
    assert reserved(events.PartWanted("i", 1, {0: ONE}), 1.0) == []
    (refused,) = reserved(events.PartWanted("j", 1, {0: cpus(3)}), 1.0)
    assert "{CPU: 3}, and {} is free" in refused.cause, "at once: it never can"
    node.handle(events.PartReleased("i", 1), 1.0)
    assert reserved(events.LeaseReturned(7, tokens[0]), 2.0) == [events.PartReserved("g", 1, "")]
    assert reserved(events.Tick(), 6.5) == []
    assert reserved(events.Tick(), 7.5) == [
        events.PartReserved("h", 1, "it has not had room for {CPU: 2} within 6 s")
    ]
    node.validate()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["prepare", "commit", "release"]),
        st.sampled_from("ab"),
        st.integers(1, 3),
        st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True),
    ),
    max_size=30,
)


@given(STEPS)
def test_in_whatever_order_it_is_said_nothing_is_lost(steps: list[tuple[str, str, int, list[int]]]) -> None:
    root = Account(cpus(5))
    parts = GroupParts(root)
    for step, group, attempt, bundles in steps:
        if step == "prepare":
            # As the head does: an attempt always names the same bundles, other than those of other attempts.
            parts.prepare(group, attempt, {4 * attempt + bundle: ONE for bundle in bundles})
        elif step == "commit":
            parts.commit(group, attempt)
        else:
            parts.release(group, attempt)
        parts.validate()
        assert root.available.add(cpus(len(list(parts)))) == cpus(5)
