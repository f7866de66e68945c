from __future__ import annotations

import pytest

from orchestrator.autoscaler import reconciler as module
from orchestrator.autoscaler.config import AutoscalerConfig, NodeType
from orchestrator.autoscaler.demand import Demand, Shape
from orchestrator.autoscaler.instances import State
from orchestrator.autoscaler.reconciler import (
    ClusterNode,
    Drain,
    Launch,
    Observation,
    Persist,
    ProviderInstance,
    Reconciler,
    Say,
    Terminate,
)
from orchestrator.common.resources import ResourceSet

CPU = ResourceSet.from_floats({"CPU": 1})
FOUR = ResourceSet.from_floats({"CPU": 4})


def config(maximum: int = 5, least: int = 0, idle_timeout_s: float = 60.0) -> AutoscalerConfig:
    kinds = {
        "small": NodeType("small", FOUR, min_workers=least),
        "gpu": NodeType("gpu", ResourceSet.from_floats({"CPU": 4, "GPU": 1}), max_workers=2),
    }
    return AutoscalerConfig(kinds, max_workers=maximum, idle_timeout_s=idle_timeout_s)


class One:
    """An autoscaler, whose provider and cluster are what the test says."""

    def __init__(self, **limits: float) -> None:
        self.now_s = 0.0
        self.count = 0
        self.machines: list[ProviderInstance] = []
        self.nodes: list[ClusterNode] = []
        self.demand = Demand()
        self.reconciler = Reconciler(config(**limits), self._new)  # type: ignore[arg-type]

    def _new(self) -> str:
        self.count += 1
        return f"r{self.count}"

    def step(self, seconds: float = 1.0) -> list[module.Instruction]:
        self.now_s += seconds
        out = self.reconciler.step(Observation(self.machines, self.nodes, self.demand), self.now_s)
        self.reconciler.validate()
        return [one for one in out if not isinstance(one, Persist)]

    def machine(self, request: str, kind: str = "small", runs: bool = True) -> None:
        self.machines.append(ProviderInstance(f"m-{request}", request, "default", kind, runs))

    def node(self, request: str, idle_s: float = 0.0, **more: bool) -> None:
        self.nodes = [one for one in self.nodes if one.request != request]
        self.nodes.append(ClusterNode(f"n-{request}", request, FOUR, FOUR, {}, idle_s, **more))

    def state(self, request: str) -> State:
        one = self.reconciler.instances.get(request)
        assert one is not None
        return one.state


def up(count: int, **limits: float) -> One:
    """A cluster with nodes that were started for demand that is gone."""
    one = One(**limits)
    one.demand = Demand(pending=((Shape(FOUR), count),))
    assert one.step() == [Launch(f"r{n}", "small") for n in range(1, count + 1)]
    one.demand = Demand()
    for n in range(1, count + 1):
        one.machine(f"r{n}")
        one.node(f"r{n}")
    assert one.step() == []
    return one


def test_the_life_of_an_instance() -> None:
    one = One()
    one.demand = Demand(pending=((Shape(CPU), 1),))
    assert one.step() == [Launch("r1", "small")]
    assert one.step() == [] and one.state("r1") is State.REQUESTED
    one.machine("r1", runs=False)
    assert one.step() == [] and one.state("r1") is State.ALLOCATED
    one.machines.clear()
    one.machine("r1")
    assert one.step() == [] and one.state("r1") is State.JOINING
    one.demand = Demand()
    one.node("r1")
    assert one.step() == [] and one.state("r1") is State.RUNNING
    one.node("r1", idle_s=61)
    assert one.step() == [Drain("n-r1", "idle for 61 s")] and one.state("r1") is State.DRAINING
    one.node("r1", idle_s=62, is_draining=True)
    assert one.step() == []
    one.node("r1", idle_s=63, is_draining=True, is_drained=True)
    assert one.step() == [Terminate("m-r1", "idle for 61 s")] and one.state("r1") is State.TERMINATING
    one.machines.clear()
    one.nodes.clear()
    assert one.step() == [] and one.state("r1") is State.TERMINATED


def test_it_is_written_down_before_it_is_done() -> None:
    one = One()
    one.demand = Demand(pending=((Shape(CPU), 1),))
    out = one.reconciler.step(Observation([], [], one.demand), 1.0)
    assert isinstance(out[0], Persist) and out[0].records[0]["request"] == "r1" and isinstance(out[1], Launch)


def test_a_minimum_is_kept_and_so_is_what_was_requested() -> None:
    one = up(3, least=1)
    one.demand = Demand(requested=((Shape(CPU), 5),))
    for n in (1, 2, 3):
        one.node(f"r{n}", idle_s=1000)
    (drain,) = one.step()
    assert isinstance(drain, Drain)
    one.demand = Demand()
    left = {f"n-r{n}" for n in (1, 2, 3)} - {drain.node}
    (second,) = one.step()
    assert isinstance(second, Drain) and second.node in left
    assert one.step() == []


def test_a_node_that_work_waits_for_is_not_drained() -> None:
    one = up(1)
    one.node("r1", idle_s=1000)
    one.demand = Demand(pending=((Shape(CPU), 1),))
    assert one.step() == []


def test_fewer_are_allowed_than_there_are() -> None:
    one = up(3)
    one.reconciler.config = one.reconciler.config.within(0, 1)
    assert [type(i) for i in one.step()] == [Drain, Drain]


def test_after_a_failed_launch_there_is_a_pause_that_doubles() -> None:
    one = One()
    one.demand = Demand(pending=((Shape(FOUR), 3),))
    assert len(one.step()) == 3
    for n in (1, 2, 3):
        one.reconciler.launch_failed(f"r{n}", "no capacity", one.now_s)
    assert one.step(10) == []
    assert one.step(11) == [Launch("r4", "small")], "one at a time until one has come"
    one.reconciler.launch_failed("r4", "no capacity", one.now_s)
    assert one.step(21) == []
    assert one.step(20) == [Launch("r5", "small")]
    one.machine("r5")
    assert [type(i) for i in one.step()] == [Launch, Launch]


def test_one_that_never_joins_is_taken_back_and_another_one_started() -> None:
    one = One()
    one.demand = Demand(pending=((Shape(CPU), 1),))
    one.step()
    one.machine("r1")
    one.step()
    out = one.step(module.JOIN_TIMEOUT_S)
    assert out == [Terminate("m-r1", "it did not join the cluster in 300 s"), Launch("r2", "small")]
    assert one.step(module.REPEAT_S)[0] == Terminate("m-r1", "it did not join the cluster in 300 s")


def test_a_request_that_is_never_heard_of_is_given_up_and_recognized_when_it_comes_late() -> None:
    one = One()
    one.demand = Demand(pending=((Shape(CPU), 1),))
    one.step()
    assert one.step(module.REQUEST_TIMEOUT_S) == []
    assert one.state("r1") is State.FAILED
    assert one.step(module.PAUSE_FIRST_S) == [Launch("r2", "small")]
    one.machine("r1")
    assert one.step() == [Terminate("m-r1", "it came after it was given up")]


def test_a_node_that_has_died_is_replaced() -> None:
    one = up(1)
    one.nodes.clear()
    assert one.step() == []
    assert one.step(module.GONE_GRACE_S) == [Terminate("m-r1", "it has left the cluster")]


def test_of_a_drain_that_does_not_end_the_operator_is_told_and_nothing_is_cut_short() -> None:
    one = up(1)
    one.node("r1", idle_s=100)
    one.step()
    one.node("r1", is_draining=True)
    (said,) = one.step(module.DRAIN_SAY_S)
    assert isinstance(said, module.Say) and "node n-r1 is not empty" in said.text
    assert one.state("r1") is State.DRAINING
    assert one.step(module.SAY_AGAIN_S / 2) == []


def test_strangers_are_left_alone() -> None:
    one = One(maximum=1)
    one.machines = [
        ProviderInstance("x", "", "", "", True),
        ProviderInstance("y", "r9", "elsewhere", "small", True),
    ]
    one.nodes = [ClusterNode("head", "", FOUR, FOUR, {}, 10_000.0)]
    assert one.step() == [] and len(one.reconciler.instances) == 0
    one.demand = Demand(pending=((Shape(FOUR), 2),))
    assert one.step() == [Launch("r1", "small")]


def test_nothing_is_decided_while_the_provider_is_silent() -> None:
    one = One()
    one.demand = Demand(pending=((Shape(CPU), 1),))
    assert one.reconciler.step(Observation(None, [], one.demand), 1.0) == []
    assert one.reconciler.step(Observation([], None, one.demand), 2.0) == []
    assert one.step(3.0) == [Launch("r1", "small")]


def test_a_new_autoscaler_goes_on_where_the_old_one_was() -> None:
    one = up(2)
    records = one.reconciler.instances.to_records()
    one.reconciler = Reconciler(config(), one._new, records, 1e6)
    one.now_s = 1e6
    assert one.step() == [] and one.state("r1") is State.RUNNING
    # ... and without the records takes over what is there.
    one.reconciler = Reconciler(config(), one._new, [], 1e6)
    assert one.step() == [] and one.state("r2") is State.RUNNING


def test_a_new_autoscaler_asks_once_more_for_what_may_not_have_been_heard() -> None:
    """The one before was killed between writing down and asking; or after it, and nothing is shown yet."""
    one = One()
    one.demand = Demand(pending=((Shape(FOUR), 3),))
    assert one.step() == [Launch(f"r{n}", "small") for n in (1, 2, 3)]
    one.machine("r2")
    records = one.reconciler.instances.to_records()
    records[2]["type"] = "a type that is no more"
    one.reconciler = Reconciler(config(), one._new, records, 1e6)
    one.now_s = 1e6
    assert one.reconciler.step(Observation(None, [], one.demand), 1e6) == []
    one.demand = Demand(pending=((Shape(FOUR), 2),))
    assert [out for out in one.step() if isinstance(out, Launch)] == [Launch("r1", "small")]
    assert (one.state("r1"), one.state("r2")) == (State.REQUESTED, State.JOINING)
    assert one.step() == []


def test_records_that_are_none() -> None:
    with pytest.raises(ValueError, match="is no record of an instance"):
        Reconciler(config(), lambda: "", [{"request": "r1"}])


def test_what_can_never_be_is_said_now_and_then() -> None:
    one = One()
    one.demand = Demand(pending=((Shape(ResourceSet.from_floats({"CPU": 99})), 1),))
    (said,) = one.step()
    assert isinstance(said, Say) and said.text.startswith("demand that no node can ever serve: {CPU: 99}")
    assert one.step() == []
    assert len(one.step(module.SAY_AGAIN_S)) == 1
