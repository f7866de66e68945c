"""Placement groups over the nodes of a cluster, as a program uses them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import orchestrator as ray
from orchestrator.cluster_utils import Cluster
from orchestrator.exceptions import (
    ActorDiedError,
    GetTimeoutError,
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
from tests.waiting import until

Group = Callable[..., PlacementGroup]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes with two CPUs each."""
    with Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 2}) as made:
        made.add_node(num_cpus=2, labels={"zone": "b"})
        made.add_node(num_cpus=2, labels={"zone": "c"}, resources={"disk": 2})
        made.wait_for_nodes()
        yield made


@pytest.fixture
def group(cluster: Cluster) -> Iterator[Group]:
    """Makes groups that are removed after the test; then everything is free again."""
    made: list[PlacementGroup] = []

    def make(*args: Any, **options: Any) -> PlacementGroup:
        made.append(placement_group(*args, **options))
        return made[-1]

    yield make
    for one in made:
        remove_placement_group(one)
    until(lambda: ray.available_resources() == ray.cluster_resources())


def inside(
    group: PlacementGroup | None, bundle: int = -1, **options: Any
) -> PlacementGroupSchedulingStrategy:
    return PlacementGroupSchedulingStrategy(group, bundle, **options)


def nodes_of(group: PlacementGroup) -> list[str]:
    return list(placement_group_table(group)["bundles_to_node_id"].values())


@ray.remote
def where() -> str:
    return ray.get_runtime_context().get_node_id()


@ray.remote
def where_is_a_child() -> tuple[str, str | None]:
    group = get_current_placement_group()
    return ray.get(where.options(num_cpus=0).remote()), group and group.id.hex()


@ray.remote
class Resident:
    def where(self) -> str:
        return ray.get_runtime_context().get_node_id()


class TestReserving:
    def test_strict_spread_has_a_node_for_each_bundle(self, group: Group) -> None:
        made = group([{"CPU": 1}] * 3, strategy="STRICT_SPREAD")
        assert made.wait(20) and ray.get(made.ready()) == made
        nodes = nodes_of(made)
        assert len(set(nodes)) == 3
        tasks = [where.options(scheduling_strategy=inside(made, index)).remote() for index in range(3)]
        assert ray.get(tasks, timeout=30) == nodes
        actors = [Resident.options(scheduling_strategy=inside(made, index)).remote() for index in range(3)]
        assert ray.get([actor.where.remote() for actor in actors], timeout=30) == nodes

    def test_strict_pack_and_pack_take_one_node_if_there_is_one(self, group: Group) -> None:
        packed = group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_PACK")
        assert packed.wait(20) and len(set(nodes_of(packed))) == 1
        loose = group([{"CPU": 1}, {"CPU": 1}])
        assert loose.wait(20) and len(set(nodes_of(loose))) == 1
        assert set(nodes_of(loose)) != set(nodes_of(packed))

    def test_pack_and_spread_do_what_they_can(self, group: Group) -> None:
        assert group([{"CPU": 1}] * 5).wait(20)
        made = group([{"CPU": 1}], strategy="SPREAD")
        assert made.wait(20)

    def test_resources_are_reserved_and_given_back(self, group: Group) -> None:
        made = group([{"CPU": 2}, {"CPU": 2}], strategy="STRICT_SPREAD")
        assert made.wait(20)
        until(lambda: ray.available_resources()["CPU"] == 2)
        second = group([{"CPU": 2}, {"CPU": 1}], strategy="STRICT_SPREAD")
        assert not second.wait(0.3)
        with pytest.raises(GetTimeoutError):
            ray.get(second.ready(), timeout=0.01)
        remove_placement_group(made)
        assert second.wait(20)

    def test_labels_choose_nodes(self, cluster: Cluster, group: Group) -> None:
        made = group([{"CPU": 1}, {"CPU": 1}], bundle_label_selector=[{"zone": "c"}, {"zone": "b"}])
        assert made.wait(20)
        assert nodes_of(made) == [node.node_id for node in reversed(cluster.worker_nodes)]

    def test_what_no_nodes_have_waits_with_an_explanation(
        self, group: Group, capfd: pytest.CaptureFixture[str]
    ) -> None:
        made = group([{"CPU": 1, "nowhere": 1}])
        said = ""

        def heard() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return "nowhere" in said

        until(heard)
        assert "has waited 2 s for nodes with room: its bundle 0 needs {CPU: 1, nowhere: 1}, and" in said
        assert placement_group_table(made)["state"] == "PENDING"
        assert "no node has that" in placement_group_table(made)["cause"]

    def test_tasks_without_end_make_room(self, group: Group) -> None:
        @ray.remote(num_cpus=1)
        def work() -> None:
            time.sleep(0.05)

        running = {work.remote() for _ in range(30)}
        made = group([{"CPU": 2}, {"CPU": 2}], strategy="STRICT_SPREAD")

        def is_made() -> bool:
            done, _ = ray.wait(list(running), num_returns=1)
            running.difference_update(done)
            running.update(work.remote() for _ in done)
            return made.wait(0)

        until(is_made)
        ray.get(list(running), timeout=60)


class TestNames:
    def test_a_named_group_is_found_from_every_node(self, group: Group) -> None:
        made = group([{"CPU": 1}], name="here")
        assert made.wait(20) and get_placement_group("here") == made

        @ray.remote(resources={"disk": 1}, num_cpus=0)
        def look() -> PlacementGroup:
            return get_placement_group("here")

        assert ray.get(look.remote(), timeout=30) == made
        with pytest.raises(ValueError, match="named 'here' exists"):
            placement_group([{"CPU": 1}], name="here")
        remove_placement_group(made)

        def is_free() -> bool:
            try:
                get_placement_group("here")
            except ValueError:
                return True
            return False

        until(is_free)

    def test_a_group_is_made_on_any_node_and_used_on_any_other(self, group: Group) -> None:
        @ray.remote(resources={"disk": 1}, num_cpus=0)
        def make() -> PlacementGroup:
            return placement_group([{"CPU": 2}, {"CPU": 2}], strategy="STRICT_SPREAD")

        made = ray.get(make.remote(), timeout=30)
        found = ray.get(where.options(scheduling_strategy=inside(made, 1)).remote(), timeout=30)
        assert found == nodes_of(made)[1]
        remove_placement_group(made)

    def test_all_groups_are_listed(self, group: Group) -> None:
        made = group([{"CPU": 1}])
        assert made.wait(20)
        row = placement_group_table()[made.id.hex()]
        assert (row["state"], row["strategy"], row["bundles"]) == ("CREATED", "PACK", {0: {"CPU": 1.0}})


class TestRunningInside:
    def test_any_bundle_will_do(self, group: Group) -> None:
        made = group([{"CPU": 1}] * 2, strategy="STRICT_SPREAD")
        tasks = [where.options(scheduling_strategy=inside(made)).remote() for _ in range(20)]
        assert set(ray.get(tasks, timeout=30)) <= set(nodes_of(made))

    def test_a_task_waits_for_a_group_that_is_not_there_yet(self, group: Group) -> None:
        first = group([{"CPU": 2}] * 3, strategy="STRICT_SPREAD")
        assert first.wait(20)
        second = group([{"CPU": 1}])
        waits = where.options(scheduling_strategy=inside(second)).remote()
        assert ray.wait([waits], timeout=0.3)[0] == []
        remove_placement_group(first)
        assert ray.get(waits, timeout=30) == nodes_of(second)[0]

    def test_children_are_captured(self, group: Group) -> None:
        made = group([{"CPU": 1, "disk": 1}])
        strategy = inside(made, placement_group_capture_child_tasks=True)
        child, identity = ray.get(where_is_a_child.options(scheduling_strategy=strategy).remote(), timeout=30)
        assert (child, identity) == (nodes_of(made)[0], made.id.hex())

    def test_removal_ends_what_runs_inside_everywhere(self, group: Group, tmp_path: Path) -> None:
        made = group([{"CPU": 1}] * 3, strategy="STRICT_SPREAD")
        assert made.wait(20)

        @ray.remote(max_retries=3)
        def sleep(mark: Path) -> None:
            mark.touch()
            time.sleep(3600)

        marks = [tmp_path / "a", tmp_path / "b"]
        tasks = [
            sleep.options(scheduling_strategy=inside(made, index)).remote(mark)
            for index, mark in enumerate(marks)
        ]
        actor = Resident.options(scheduling_strategy=inside(made, 2), max_restarts=2).remote()
        ray.get(actor.where.remote(), timeout=30)
        until(lambda: all(mark.exists() for mark in marks))
        waits = where.options(scheduling_strategy=inside(made, 0)).remote()
        remove_placement_group(made)
        for task in [*tasks, waits]:
            with pytest.raises(TaskPlacementGroupRemoved):
                ray.get(task, timeout=30)
        with pytest.raises(ActorDiedError):
            until(lambda: _where(actor) == "nowhere any more")
        with pytest.raises(TaskPlacementGroupRemoved):
            ray.get(made.ready(), timeout=30)
        assert placement_group_table(made)["state"] == "REMOVED"
        with pytest.raises(TaskPlacementGroupRemoved):
            ray.get(where.options(scheduling_strategy=inside(made)).remote(), timeout=30)


class TestEnds:
    def test_a_job_takes_its_groups_along_unless_they_are_detached(
        self, cluster: Cluster, group: Group
    ) -> None:
        program = (
            "import sys, orchestrator as ray\n"
            "from orchestrator.util.placement_group import placement_group\n"
            "ray.init(sys.argv[1], namespace='kept')\n"
            "made = [placement_group([{'CPU': 1}], name='a'),\n"
            "        placement_group([{'CPU': 1}], name='b', lifetime='detached')]\n"
            "print(*(one.id.hex() for one in made if one.wait(20)))\n"
        )
        node = cluster.worker_nodes[0]
        done = subprocess.run(
            [sys.executable, "-c", program, node.address], capture_output=True, text=True, check=True
        )
        own, detached = done.stdout.split()
        until(lambda: own not in placement_group_table())
        assert placement_group_table()[detached]["state"] == "CREATED"
        until(lambda: ray.available_resources()["CPU"] == 5)
        remove_placement_group(PlacementGroup(detached, [{"CPU": 1}]))

    def test_bundles_of_a_dead_node_are_placed_anew(self, cluster: Cluster, group: Group) -> None:
        victim = cluster.add_node(num_cpus=3, resources={"weak": 1})
        cluster.wait_for_nodes()
        made = group([{"CPU": 1, "weak": 1}, {"CPU": 2}, {"CPU": 2}], strategy="STRICT_SPREAD")
        assert made.wait(20)

        @ray.remote(max_retries=1)
        def outlive(first_run_on: str) -> str:
            here = ray.get_runtime_context().get_node_id()
            while here == first_run_on:
                time.sleep(0.01)
            return here

        before = nodes_of(made)
        assert before[0] == victim.node_id
        task = outlive.options(scheduling_strategy=inside(made, 0)).remote(victim.node_id)
        actor = Resident.options(scheduling_strategy=inside(made, 0), num_cpus=0, max_restarts=1).remote()
        assert ray.get(actor.where.remote(), timeout=30) == victim.node_id
        cluster.remove_node(victim, allow_graceful=False)
        until(lambda: placement_group_table(made)["state"] == "RESCHEDULING")
        heir = cluster.add_node(num_cpus=3, resources={"weak": 1})
        assert made.wait(30)
        assert nodes_of(made) == [heir.node_id, *before[1:]]
        assert ray.get(task, timeout=30) == heir.node_id
        until(lambda: _where(actor) == heir.node_id)


def _where(actor: Any) -> str:
    try:
        return str(ray.get(actor.where.remote(), timeout=30))
    except ray.exceptions.ActorUnavailableError:
        return ""
