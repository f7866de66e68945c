"""Whoever waits for long is told why."""

from __future__ import annotations

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import InBundle, SchedulingClass
from orchestrator.scheduling.events import ActorWanted, BundlesWanted, Explain, Instruction, LeaseWanted, Tick
from orchestrator.scheduling.explaining import EXPLAIN_AFTER_S

from .test_local_scheduler import DRIVER, OTHER, Node, cpus, plain


def told(instructions: list[Instruction]) -> list[tuple[int, str | None, str]]:
    return [tuple(i) for i in instructions if isinstance(i, Explain)]


def busy() -> Node:
    """Two CPUs: one is a task's, the other an actor's."""
    node = Node(cpus(2))
    node.tell(Tick())
    node.start_all()
    node.tell(ActorWanted(DRIVER, "a", plain(cpus(1)), cpus(1)))
    node.tell(LeaseWanted(DRIVER, "f", plain(cpus(1)), 1))
    node.start_all()
    return node


def test_an_actor_that_waits_for_what_others_hold() -> None:
    node = busy()
    node.tell(ActorWanted(OTHER, "b", plain(cpus(2)), ResourceSet()))
    assert told(node.pass_time(EXPLAIN_AFTER_S / 2)) == []
    text = "has waited 10 s for {CPU: 2}: {} is free, tasks hold {CPU: 1}, actors hold {CPU: 1}"
    assert told(node.pass_time(EXPLAIN_AFTER_S)) == [(OTHER, "b", text, None)]
    assert told(node.pass_time(EXPLAIN_AFTER_S)) == [], "said once"


def test_a_placement_group_that_waits() -> None:
    node = busy()
    node.tell(BundlesWanted("g", (cpus(1), cpus(1))))
    ((client, actor, text, group),) = told(node.pass_time(EXPLAIN_AFTER_S))
    assert (client, actor, group) == (0, None, "g") and "for {CPU: 2}" in text


def test_an_actor_that_waits_for_its_group() -> None:
    node = busy()
    node.tell(BundlesWanted("g", (cpus(2),)))
    node.tell(ActorWanted(OTHER, "b", SchedulingClass(cpus(1), placement=InBundle("g")), ResourceSet()))
    texts = [text for client, _, text, _ in told(node.pass_time(EXPLAIN_AFTER_S)) if client == OTHER]
    assert texts == ["has waited 10 s for {CPU: 1} in a placement group that is not created yet"]


def test_what_groups_hold_is_said_too() -> None:
    node = Node(cpus(2))
    node.tell(BundlesWanted("g", (cpus(2),)))
    node.tell(ActorWanted(OTHER, "b", plain(cpus(1)), ResourceSet()))
    ((_, _, text, _),) = told(node.pass_time(EXPLAIN_AFTER_S))
    assert text.endswith("{} is free, placement groups hold {CPU: 2}")
