from __future__ import annotations

from typing import Any

from orchestrator.autoscaler.config import AutoscalerConfig, NodeType
from orchestrator.autoscaler.demand import Demand, Group, Shape
from orchestrator.autoscaler.planner import Existing, Plan, plan
from orchestrator.common.resources import ResourceSet


def amounts(**quantities: float) -> ResourceSet:
    return ResourceSet.from_floats(quantities)


def kind(name: str, resources: ResourceSet, **more: Any) -> NodeType:
    return NodeType(name, resources, **more)


SMALL = kind("small", amounts(CPU=4))
LARGE = kind("large", amounts(CPU=16))
GPU = kind("gpu", amounts(CPU=8, GPU=2))


def config(*kinds: NodeType, **more: Any) -> AutoscalerConfig:
    return AutoscalerConfig({one.name: one for one in kinds}, **{"max_workers": 100, **more})


def shape(count: int = 1, **quantities: float) -> tuple[Shape, int]:
    return Shape(amounts(**quantities)), count


def waiting(*shapes: tuple[Shape, int]) -> Demand:
    return Demand(pending=shapes)


def node(kind: NodeType, key: str = "n", free: ResourceSet | None = None, **more: Any) -> Existing:
    return Existing(key, kind.name, kind.resources, kind.resources if free is None else free, **more)


class TestTasks:
    def test_nothing_is_wanted(self) -> None:
        assert plan(config(SMALL), [node(SMALL)], Demand()) == Plan({}, frozenset(), (), ())

    def test_what_fits_on_what_is_there_starts_nothing(self) -> None:
        nodes = [node(SMALL, "a"), node(SMALL, "b", amounts(CPU=2))]
        assert plan(config(SMALL), nodes, waiting(shape(6, CPU=1))).launch == {}
        assert plan(config(SMALL), nodes, waiting(shape(7, CPU=1))).launch == {"small": 1}

    def test_what_is_coming_counts_as_there(self) -> None:
        nodes = [node(SMALL, "a", is_coming=True), node(SMALL, "b", is_leaving=True)]
        assert plan(config(SMALL), nodes, waiting(shape(4, CPU=1))).launch == {}
        assert plan(config(SMALL), nodes, waiting(shape(5, CPU=1))).launch == {"small": 1}

    def test_large_and_small_share_nodes(self) -> None:
        assert plan(config(SMALL), [], waiting(shape(8, CPU=1), shape(2, CPU=3))).launch == {"small": 4}
        assert plan(config(SMALL), [], waiting(shape(2, CPU=1), shape(2, CPU=3))).launch == {"small": 2}

    def test_the_type_that_would_be_used_most(self) -> None:
        assert plan(config(SMALL, LARGE, GPU), [], waiting(shape(2, CPU=1))).launch == {"small": 1}
        assert plan(config(SMALL, LARGE, GPU), [], waiting(shape(2, CPU=8))).launch == {"large": 1}
        assert plan(config(SMALL, LARGE, GPU), [], waiting(shape(1, CPU=1, GPU=1))).launch == {"gpu": 1}

    def test_devices_are_not_wasted_on_tasks_without(self) -> None:
        nodes = [node(GPU, "a"), node(SMALL, "b")]
        demand = waiting(shape(4, CPU=1), shape(2, CPU=4, GPU=1))
        assert plan(config(SMALL, GPU), nodes, demand).launch == {}

    def test_priority_decides_between_equals(self) -> None:
        spot = kind("spot", amounts(CPU=4), priority=1)
        assert plan(config(SMALL, spot), [], waiting(shape(4, CPU=1))).launch == {"spot": 1}

    def test_labels(self) -> None:
        here = kind("here", amounts(CPU=4), labels={"zone": "a"})
        demand = Demand(pending=((Shape(amounts(CPU=1), ((("zone", "a"),),)), 1),))
        assert plan(config(SMALL, here), [node(SMALL)], demand).launch == {"here": 1}


class TestLimits:
    def test_the_most_of_a_type_and_of_all(self) -> None:
        few = kind("few", amounts(CPU=4), max_workers=2, priority=9)
        found = plan(config(few, SMALL, max_workers=5), [], waiting(shape(1000, CPU=4)))
        assert found.launch == {"few": 2, "small": 3}
        assert found.limited == ("995 x {CPU: 4}: at most 5 nodes are allowed (few 2, small 60000)",)

    def test_those_that_leave_still_count(self) -> None:
        nodes = [node(SMALL, str(n), is_leaving=True) for n in range(4)]
        found = plan(config(SMALL, max_workers=5), nodes, waiting(shape(1000, CPU=4)))
        assert found.launch == {"small": 1}

    def test_nodes_of_others_do_not_count_but_serve(self) -> None:
        others = [node(LARGE, "", is_ours=False)]
        assert plan(config(SMALL, max_workers=1), others, waiting(shape(20, CPU=1))).launch == {"small": 1}

    def test_speed(self) -> None:
        assert plan(config(SMALL), [], waiting(shape(1000, CPU=4))).launch == {"small": 5}
        running = [node(SMALL, str(n), amounts()) for n in range(20)]
        assert plan(config(SMALL), running, waiting(shape(1000, CPU=4))).launch == {"small": 20}
        coming = [node(SMALL, f"c{n}", is_coming=True) for n in range(18)]
        assert plan(config(SMALL), running + coming, waiting(shape(1000, CPU=4))).launch == {"small": 2}

    def test_the_least(self) -> None:
        two = kind("two", amounts(CPU=1), min_workers=2)
        assert plan(config(two), [], Demand()).launch == {"two": 2}
        assert plan(config(two), [node(two), node(two, is_leaving=True)], Demand()).launch == {"two": 1}
        assert plan(config(two, SMALL, min_workers=7), [], Demand()).launch == {"two": 7}

    def test_what_no_node_can_ever_serve_is_said(self) -> None:
        found = plan(config(SMALL, GPU), [], waiting(shape(3, CPU=64), shape(1, TPU=1)))
        assert found.launch == {}
        assert sorted(found.impossible) == [
            "{CPU: 64}: no type of node has that (small has {CPU: 4}; gpu has {CPU: 8})",
            "{TPU: 1}: no type of node has that (small has {}; gpu has {})",
        ]


class TestRequests:
    def test_they_say_what_there_is_to_be_and_not_what_is_free(self) -> None:
        busy = [node(SMALL, str(n), amounts()) for n in range(2)]
        demand = Demand(requested=(shape(12, CPU=1),))
        found = plan(config(SMALL), busy, demand)
        assert (found.launch, found.kept) == ({"small": 1}, {"0", "1"})

    def test_they_do_not_wait_for_the_speed(self) -> None:
        demand = Demand(requested=(shape(80, CPU=4),))
        assert plan(config(SMALL), [], demand).launch == {"small": 80}

    def test_what_they_do_not_need_is_not_kept(self) -> None:
        found = plan(
            config(SMALL), [node(SMALL, "a"), node(SMALL, "b")], Demand(requested=(shape(3, CPU=1),))
        )
        assert len(found.kept) == 1 and not found.launch


class TestGroups:
    def group(self, strategy: str, *bundles: dict[str, float]) -> Demand:
        return Demand(groups=(Group(strategy, tuple(Shape(amounts(**one)) for one in bundles)),))

    def test_strict_pack(self) -> None:
        demand = self.group("STRICT_PACK", {"CPU": 3}, {"CPU": 3})
        assert plan(config(SMALL, LARGE), [node(SMALL, "a"), node(SMALL, "b")], demand).launch == {"large": 1}
        assert plan(config(SMALL), [], demand).impossible

    def test_strict_spread(self) -> None:
        demand = self.group("STRICT_SPREAD", *[{"CPU": 1}] * 3)
        assert plan(config(LARGE), [node(LARGE)], demand).launch == {"large": 2}

    def test_pack(self) -> None:
        assert plan(config(SMALL), [], self.group("PACK", *[{"CPU": 1}] * 6)).launch == {"small": 2}

    def test_all_or_nothing(self) -> None:
        demand = self.group("STRICT_SPREAD", *[{"CPU": 1}] * 3)
        assert plan(config(SMALL, max_workers=2), [], demand).launch == {}
        both = Demand(pending=(shape(4, CPU=1),), groups=demand.groups)
        assert plan(config(SMALL, max_workers=2), [], both).launch == {"small": 1}
        assert plan(config(SMALL, max_workers=2), [node(SMALL)], both).launch == {}
