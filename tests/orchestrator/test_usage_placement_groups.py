"""Placement groups, as a program uses them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import orchestrator as ray
from orchestrator.exceptions import (
    ActorPlacementGroupRemoved,
    GetTimeoutError,
    InfeasibleError,
    TaskPlacementGroupRemoved,
)
from orchestrator.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from orchestrator.util.scheduling_strategies import PlacementGroupSchedulingStrategy

Group = Callable[..., PlacementGroup]


@pytest.fixture(scope="module")
def machine() -> Iterator[None]:
    ray.init(num_cpus=4, num_gpus=2, resources={"disk": 10}, object_store_memory=256 << 20)
    yield
    ray.shutdown()


@pytest.fixture
def group(machine: None) -> Iterator[Group]:
    """Makes groups that are removed after the test; then everything is free again."""
    made: list[PlacementGroup] = []

    def make(*args: Any, **options: Any) -> PlacementGroup:
        made.append(placement_group(*args, **options))
        return made[-1]

    yield make
    for one in made:
        remove_placement_group(one)
    total = ray.cluster_resources()
    while ray.available_resources() != total:
        pass


def inside(group: PlacementGroup | None, **options: Any) -> PlacementGroupSchedulingStrategy:
    return PlacementGroupSchedulingStrategy(group, **options)


@ray.remote
def where() -> PlacementGroup | None:
    return get_current_placement_group()


@ray.remote
class Resident:
    def where(self) -> PlacementGroup | None:
        return get_current_placement_group()

    def where_is_a_child(self) -> PlacementGroup | None:
        return ray.get(where.remote())


class TestReserving:
    def test_resources_are_reserved_together_and_given_back(self, group: Group) -> None:
        before = ray.available_resources()
        made = group([{"CPU": 1, "disk": 2}, {"CPU": 2}])
        assert made.wait(10) and ray.get(made.ready()) == made
        left = ray.available_resources()
        assert (before["CPU"] - left["CPU"], before["disk"] - left["disk"]) == (3, 2)
        remove_placement_group(made)
        assert ray.available_resources() == before

    @pytest.mark.parametrize("strategy", ["PACK", "SPREAD", "STRICT_PACK", None])
    def test_one_node_can_pack_and_spread_softly(self, group: Group, strategy: str | None) -> None:
        assert group([{"CPU": 1}, {"CPU": 1}], strategy=strategy).wait(10)

    def test_a_group_waits_until_there_is_room(self, group: Group) -> None:
        first = group([{"CPU": 4}])
        second = group([{"CPU": 3}])
        assert first.wait(10) and not second.wait(0.05)
        with pytest.raises(GetTimeoutError):
            ray.get(second.ready(), timeout=0.01)
        remove_placement_group(first)
        assert second.wait(10)

    def test_strict_spread_of_several_bundles_cannot_be_on_one_node(self, group: Group) -> None:
        assert group([{"CPU": 1}], strategy="STRICT_SPREAD").wait(10)
        made = group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD")
        with pytest.raises(InfeasibleError, match="a node for each of its 2 bundles: there is 1 node"):
            ray.get(made.ready(), timeout=10)

    def test_what_the_node_does_not_have_is_an_error_at_once(self, group: Group) -> None:
        with pytest.raises(InfeasibleError, match=r"CPU: 3}.*at the same time.*CPU: 4"):
            group([{"CPU": 3}, {"CPU": 3}]).wait(10)

    def test_a_group_can_be_passed_on(self, group: Group) -> None:
        @ray.remote(num_cpus=0)
        def look(given: PlacementGroup) -> tuple[int, list[dict[str, float]]]:
            assert given.wait(10)
            return given.bundle_count, given.bundle_specs

        assert ray.get(look.remote(group([{"CPU": 1}]))) == (1, [{"CPU": 1.0}])

    @pytest.mark.parametrize(
        ("bundles", "error"),
        [
            ([], ValueError),
            ([{}], ValueError),
            ([{"CPU": 0}], ValueError),
            ([{"CPU": -1}], ValueError),
            ([{"CPU": 1}, {"disk": 0}], ValueError),
            ({"CPU": 1}, TypeError),
            ([("CPU", 1)], TypeError),
            ([{"CPU": "1"}], TypeError),
            ([{1: 1}], TypeError),
            ({"CPU": 1}, ValueError),
            ([1], ValueError),
            (None, ValueError),
            ([{"CPU": "a"}], ValueError),
        ],
    )
    def test_bundles_that_are_none(self, machine: None, bundles: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match=r"bundle|resource"):
            placement_group(bundles)

    def test_other_bad_arguments(self, machine: None) -> None:
        with pytest.raises(ValueError, match="STRICT_PACK, STRICT_SPREAD, not 'pack'"):
            placement_group([{"CPU": 1}], strategy="pack")
        with pytest.raises(ValueError, match="lifetime"):
            placement_group([{"CPU": 1}], lifetime="long")
        with pytest.raises(TypeError, match="PlacementGroup is wanted"):
            remove_placement_group("group")  # type: ignore[arg-type]


class TestRunningInside:
    def test_tasks_and_actors_take_from_the_bundles(self, group: Group) -> None:
        made = group([{"CPU": 4}])
        assert ray.get(where.options(scheduling_strategy=inside(made)).remote()) == made
        actor = Resident.options(num_cpus=1, scheduling_strategy=inside(made)).remote()
        assert ray.get(actor.where.remote()) == made
        assert ray.get(where.options(num_cpus=0).remote()) is None

    def test_one_outside_waits_while_the_group_has_it_all(self, group: Group) -> None:
        made = group([{"CPU": 4}])
        assert made.wait(10)
        ref = where.remote()
        assert ray.wait([ref], timeout=0.05) == ([], [ref])
        remove_placement_group(made)
        assert ray.get(ref) is None

    def test_a_bundle_by_its_index(self, group: Group) -> None:
        @ray.remote
        class Holder:
            def pid(self) -> int:
                return os.getpid()

        made = group([{"CPU": 1}, {"CPU": 1, "disk": 1}])
        one = {"num_cpus": 1, "scheduling_strategy": inside(made, placement_group_bundle_index=1)}
        first = Holder.options(**one).remote()
        ray.get(first.pid.remote())
        second = Holder.options(**one).remote()
        ref = second.pid.remote()
        assert ray.wait([ref], timeout=0.05)[0] == [], "the bundle is taken, though the other one is free"
        ray.kill(first)
        assert ray.get(ref, timeout=10)

    def test_any_bundle_that_has_room(self, group: Group) -> None:
        @ray.remote(num_cpus=1)
        class Holder:
            def pid(self) -> int:
                return os.getpid()

        made = group([{"CPU": 1}] * 3)
        holders = [Holder.options(scheduling_strategy=inside(made)).remote() for _ in range(3)]
        assert len(set(ray.get([holder.pid.remote() for holder in holders]))) == 3

    def test_what_fits_no_bundle_is_refused_when_it_is_submitted(self, group: Group) -> None:
        made = group([{"CPU": 1}, {"disk": 1}])
        with pytest.raises(ValueError, match=r"where needs {CPU: 2}.*no bundle of its placement group"):
            where.options(num_cpus=2, scheduling_strategy=inside(made)).remote()
        with pytest.raises(ValueError, match="Resident needs"):
            Resident.options(
                scheduling_strategy=inside(made, placement_group_bundle_index=1)
            ).remote()  # a default actor needs a CPU to be placed
        with pytest.raises(ValueError, match="the group has 2 bundles"):
            inside(made, placement_group_bundle_index=2)

    def test_gpus_of_a_bundle_are_its_own(self, group: Group) -> None:
        @ray.remote(num_gpus=1, num_cpus=0, max_calls=1)
        def gpu() -> list[int] | list[str]:
            return ray.get_gpu_ids()

        made = group([{"GPU": 1}])
        assert made.wait(10)
        (inner,) = ray.get(gpu.options(scheduling_strategy=inside(made)).remote())
        (outer,) = ray.get(gpu.remote())
        assert {inner, outer} == {0, 1}


class TestCapture:
    def test_children_stay_outside_unless_they_are_captured(self, group: Group) -> None:
        @ray.remote
        def parent() -> PlacementGroup | None:
            return ray.get(where.remote())

        made = group([{"CPU": 2}])
        assert ray.get(parent.options(scheduling_strategy=inside(made)).remote()) is None
        capturing = inside(made, placement_group_capture_child_tasks=True)
        assert ray.get(parent.options(scheduling_strategy=capturing).remote()) == made
        assert ray.get(parent.options(scheduling_strategy=inside(made)).remote()) is None, "that is over"

    def test_what_an_actor_submits_is_captured_too(self, group: Group) -> None:
        made = group([{"CPU": 2}])
        capturing = inside(made, placement_group_capture_child_tasks=True)
        actor = Resident.options(num_cpus=1, scheduling_strategy=capturing).remote()
        assert ray.get(actor.where_is_a_child.remote()) == made

    def test_a_child_can_leave(self, group: Group) -> None:
        @ray.remote
        def parent() -> PlacementGroup | None:
            return ray.get(where.options(scheduling_strategy=inside(None)).remote())

        made = group([{"CPU": 2}])
        capturing = inside(made, placement_group_capture_child_tasks=True)
        assert ray.get(parent.options(scheduling_strategy=capturing).remote()) is None


class TestAsOptions:
    """The group as options of its own, as programs of Ray's earlier days have it."""

    def test_of_tasks_and_actors(self, group: Group) -> None:
        made = group([{"CPU": 1}, {"CPU": 2}])
        assert ray.get(where.options(placement_group=made).remote()) == made
        assert ray.get(where.options(placement_group=made, placement_group_bundle_index=1).remote()) == made
        resident = Resident.options(num_cpus=1, placement_group=made, placement_group_bundle_index=0).remote()
        assert ray.get(resident.where.remote()) == made
        decorated = ray.remote(placement_group=made)(get_current_placement_group)
        assert ray.get(decorated.remote()) == made

    @pytest.mark.parametrize("none", [None, "default"])
    def test_none(self, machine: None, none: str | None) -> None:
        assert ray.get(where.options(placement_group=none).remote()) is None
        assert ray.get(where.options(placement_group=none, scheduling_strategy="SPREAD").remote()) is None

    def test_children_are_captured_and_can_leave_and_come_back(self, group: Group) -> None:
        @ray.remote
        def parent(options: dict[str, Any]) -> PlacementGroup | None:
            return ray.get(where.options(**options).remote())

        made = group([{"CPU": 2}])
        outside = parent.options(placement_group=made)
        captures = parent.options(placement_group=made, placement_group_capture_child_tasks=True)
        assert ray.get(outside.remote({})) is None
        assert ray.get(captures.remote({})) == made
        assert ray.get(captures.remote({"placement_group": "default"})) == made
        assert ray.get(captures.remote({"placement_group": None})) is None
        assert ray.get(captures.remote({"placement_group_capture_child_tasks": False})) is None
        assert ray.get(outside.remote({"placement_group_capture_child_tasks": True})) == made
        assert ray.get(captures.remote({"placement_group_bundle_index": 0})) == made

    def test_what_is_refused(self, group: Group) -> None:
        made = group([{"CPU": 1}])
        inside_it = where.options(placement_group=made)
        for target in (where, Resident):
            with pytest.raises(ValueError, match="both say where to run"):
                target.options(placement_group=made, scheduling_strategy="SPREAD")
        with pytest.raises(ValueError, match="both say where to run"):
            inside_it.options(scheduling_strategy=inside(made))
        with pytest.raises(ValueError, match="both say where to run"):
            inside_it.options(label_selector={"disk": "ssd"})
        with pytest.raises(ValueError, match="the group has 1 bundles"):
            inside_it.options(placement_group_bundle_index=1)
        with pytest.raises(ValueError, match="without a placement group"):
            where.options(placement_group=None, placement_group_bundle_index=0)
        with pytest.raises(ValueError, match="hands on no placement group"):
            where.options(placement_group_bundle_index=0).remote()
        with pytest.raises(ValueError, match="not 'mine'"):
            where.options(placement_group="mine")
        for option, value in (
            ("placement_group", 1),
            ("placement_group_bundle_index", None),
            ("placement_group_capture_child_tasks", 1),
        ):
            with pytest.raises(TypeError, match=option):
                where.options(**{option: value})


class TestRemoval:
    def test_what_runs_inside_ends(self, group: Group) -> None:
        @ray.remote(max_retries=3)
        def stay() -> None:
            import time

            time.sleep(1000)

        made = group([{"CPU": 3}])
        running = stay.options(scheduling_strategy=inside(made)).remote()
        actor = Resident.options(num_cpus=1, scheduling_strategy=inside(made)).remote()
        ray.get(actor.where.remote())
        remove_placement_group(made)
        with pytest.raises(TaskPlacementGroupRemoved):
            ray.get(running, timeout=10)
        with pytest.raises(ActorPlacementGroupRemoved):
            ray.get(actor.where.remote(), timeout=10)

    def test_what_waits_for_it_and_what_comes_later_fails(self, group: Group) -> None:
        everything = group([{"CPU": 4}])
        made = group([{"CPU": 1}])
        waiting = where.options(scheduling_strategy=inside(made)).remote()
        assert not made.wait(0.05)
        remove_placement_group(made)
        for ref in (waiting, where.options(scheduling_strategy=inside(made)).remote(), made.ready()):
            with pytest.raises(TaskPlacementGroupRemoved):
                ray.get(ref, timeout=10)
        assert everything.wait(10)

    def test_removing_twice_is_harmless(self, group: Group) -> None:
        made = group([{"CPU": 1}])
        remove_placement_group(made)
        remove_placement_group(made)


class TestFinding:
    def test_by_name(self, group: Group) -> None:
        made = group([{"CPU": 1}], name="mine")
        assert get_placement_group("mine") == made
        with pytest.raises(ValueError, match="'mine' exists"):
            placement_group([{"CPU": 1}], name="mine")
        remove_placement_group(made)
        with pytest.raises(ValueError, match="no placement group 'mine'"):
            get_placement_group("mine")
        group([{"CPU": 1}], name="mine")

    def test_the_table(self, group: Group) -> None:
        made = group([{"CPU": 1}, {"disk": 2}], strategy="SPREAD", name="listed")
        assert made.wait(10)
        row = placement_group_table(made)
        assert (row["name"], row["strategy"], row["state"]) == ("listed", "SPREAD", "CREATED")
        assert row["bundles"] == {0: {"CPU": 1.0}, 1: {"disk": 2.0}}
        assert row["bundles_to_node_id"][1] == ray.get_runtime_context().get_node_id()
        assert row["stats"] == {"scheduling_state": "FINISHED"}
        assert placement_group_table()[made.id.hex()] == row
        remove_placement_group(made)
        assert placement_group_table(made)["state"] == "REMOVED"

    def test_the_module_can_be_called(self, group: Group) -> None:
        made = ray.util.placement_group(bundles=[{"CPU": 1}])
        assert made.wait(10)
        ray.util.remove_placement_group(made)
