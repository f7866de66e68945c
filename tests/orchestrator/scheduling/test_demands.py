"""Turns."""

from __future__ import annotations

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.scheduling.demands import Demand, DemandQueue

NOTHING = ResourceSet()


def queue(*wants: tuple[int, str, int]) -> DemandQueue:
    demands = DemandQueue()
    for client, key, want in wants:
        demands.put(Demand(client, key, SchedulingClass(NOTHING), NOTHING, None, 0.0), want)
        demands.validate()
    return demands


def drain(demands: DemandQueue) -> list[tuple[int, object]]:
    turns = []
    while (demand := demands.next(lambda _: True, 0.0)) is not None:
        turns.append((demand.client, demand.class_key))
        demands.served(demand, 0.0)
        demands.validate()
    return turns


def test_turns_go_round_clients_and_then_classes() -> None:
    demands = queue((1, "f", 2), (1, "g", 1), (2, "h", 3))
    assert drain(demands) == [(1, "f"), (2, "h"), (1, "g"), (2, "h"), (1, "f"), (2, "h")]
    assert not demands and len(demands) == 0


def test_turns_go_round_jobs_before_they_go_round_clients() -> None:
    demands = DemandQueue()
    for client, job in ((1, "many"), (2, "many"), (3, "many"), (4, "single")):
        demand = Demand(client, "f", SchedulingClass(NOTHING), NOTHING, None, 0.0, job=job)
        demands.put(demand, 2)
    assert [client for client, _ in drain(demands)] == [1, 4, 2, 4, 3, 1, 2, 3]


def test_a_job_that_comes_anew_queues_up() -> None:
    demands = DemandQueue()
    for client, job, want in ((1, "a", 2), (2, "b", 1)):
        demands.put(Demand(client, "f", SchedulingClass(NOTHING), NOTHING, None, 0.0, job=job), want)
    for _ in range(2):
        demand = demands.next(lambda _: True, 0.0)
        assert demand is not None
        demands.served(demand, 0.0)
    assert demand.job == "b"
    demands.put(Demand(3, "f", SchedulingClass(NOTHING), NOTHING, None, 0.0, job="b"), 1)
    assert drain(demands) == [(1, "f"), (3, "f")]


def test_a_changed_number_keeps_its_place() -> None:
    demands = queue((1, "f", 5), (2, "h", 1), (1, "f", 1))
    assert drain(demands) == [(1, "f"), (2, "h")]


def test_zero_takes_a_demand_out() -> None:
    demands = queue((1, "f", 5), (1, "f", 0), (1, "g", 0))
    assert not demands and not demands.has_client(1)


def test_a_client_can_be_forgotten() -> None:
    demands = queue((1, "f", 5), (1, "g", 5), (2, "f", 1))
    demands.remove_client(1)
    demands.remove_client(3)
    assert drain(demands) == [(2, "f")]


def test_those_who_are_not_accepted_keep_their_turn() -> None:
    demands = queue((1, "f", 1), (2, "f", 1))
    second = demands.next(lambda demand: demand.client == 2, 0.0)
    assert second is not None
    demands.served(second, 0.0)
    assert drain(demands) == [(1, "f")]
