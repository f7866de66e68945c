from __future__ import annotations

from orchestrator.autoscaler.demand import Demand, Shape, demand_of
from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import InBundle, OnNode, SchedulingClass, Spread, WithLabels

CPU = ResourceSet.from_floats({"CPU": 1})


def test_tasks_alike_are_one_line() -> None:
    waiting = [(SchedulingClass(CPU), 5), (SchedulingClass(CPU, priority=1), 2), (SchedulingClass(CPU), 0)]
    assert demand_of(waiting) == Demand(pending=((Shape(CPU), 7),))


def test_what_no_new_node_could_serve_is_left_out() -> None:
    waiting = [
        (SchedulingClass(CPU, placement=InBundle("g")), 1),
        (SchedulingClass(CPU, placement=OnNode("ab")), 1),
        (SchedulingClass(ResourceSet()), 9),
    ]
    assert demand_of(waiting) == Demand()


def test_places_that_a_new_node_may_be() -> None:
    zone = (("zone", "a"),)
    waiting = [
        (SchedulingClass(CPU, placement=OnNode("ab", soft=True)), 1),
        (SchedulingClass(CPU, placement=Spread()), 1),
        (SchedulingClass(CPU, placement=WithLabels((zone,))), 1),
    ]
    assert demand_of(waiting).pending == ((Shape(CPU), 2), (Shape(CPU, (zone,)), 1))
    assert Shape(CPU, (zone,)).admits({"zone": "a"}) and not Shape(CPU, (zone,)).admits({})


def test_requests_are_counted() -> None:
    assert demand_of([], requested=[Shape(CPU), Shape(CPU)]).requested == ((Shape(CPU), 2),)
