"""Where tasks and actors run in a cluster, and what becomes of those that no node can run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import orchestrator as ray
from orchestrator.cluster_utils import Cluster
from orchestrator.exceptions import ActorUnschedulableError, InfeasibleError, TaskUnschedulableError
from orchestrator.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tests.waiting import until


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes with two CPUs each."""
    with Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 2}) as made:
        made.add_node(num_cpus=2, labels={"zone": "b"})
        made.add_node(num_cpus=2, labels={"zone": "c"})
        made.wait_for_nodes()
        for node in made.list_all_nodes():  # each has heard what the others have
            ray.get(where.options(scheduling_strategy=on(node, soft=False)).remote(), timeout=30)
        until(lambda: ray.available_resources() == ray.cluster_resources())
        yield made


@pytest.fixture
def said(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Waits until the driver has been told something; returns all that it has been told."""
    text = ""

    def wait_for(word: str) -> str:
        def look() -> bool:
            nonlocal text
            text += capfd.readouterr().err
            return word in text

        until(look)
        return text

    return wait_for


@ray.remote
def where() -> str:
    return ray.get_runtime_context().get_node_id()


@ray.remote
class Resident:
    def where(self) -> str:
        return ray.get_runtime_context().get_node_id()


def on(node: Any, *, soft: bool) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node.node_id, soft)


def ids(cluster: Cluster) -> set[str]:
    return {node.node_id for node in cluster.list_all_nodes()}


class TestSpread:
    def test_tasks_go_to_one_node_after_the_other(self, cluster: Cluster) -> None:
        # Tasks of one kind would share a worker, as they come one after the other.
        kinds = [where.options(scheduling_strategy="SPREAD", priority=number) for number in range(3)]
        assert {ray.get(kind.remote(), timeout=30) for kind in kinds} == ids(cluster)

    def test_actors_go_to_one_node_after_the_other(self, cluster: Cluster) -> None:
        until(lambda: ray.available_resources() == ray.cluster_resources())
        actors = [Resident.options(scheduling_strategy="SPREAD", num_cpus=1).remote() for _ in range(3)]
        assert set(ray.get([actor.where.remote() for actor in actors], timeout=60)) == ids(cluster)


class TestAffinity:
    @pytest.mark.parametrize("soft", [False, True])
    def test_tasks_and_actors_run_on_the_node_that_is_named(self, cluster: Cluster, soft: bool) -> None:
        for node in cluster.list_all_nodes():
            strategy = on(node, soft=soft)
            tasks = [where.options(scheduling_strategy=strategy).remote() for _ in range(5)]
            assert set(ray.get(tasks, timeout=30)) == {node.node_id}
            actor = Resident.options(scheduling_strategy=strategy).remote()
            assert ray.get(actor.where.remote(), timeout=30) == node.node_id

    def test_a_node_that_is_not_there_is_an_error_or_another_one(self, cluster: Cluster) -> None:
        hard, soft = (NodeAffinitySchedulingStrategy("0123456789abcdef", soft) for soft in (False, True))
        with pytest.raises(TaskUnschedulableError, match="0123456789abcdef, which is not in the cluster"):
            ray.get(where.options(scheduling_strategy=hard).remote(), timeout=30)
        with pytest.raises(ActorUnschedulableError, match="not in the cluster"):
            ray.get(Resident.options(scheduling_strategy=hard).remote().where.remote(), timeout=30)
        assert ray.get(where.options(scheduling_strategy=soft).remote(), timeout=30) in ids(cluster)

    def test_what_the_node_does_not_have_is_an_error_or_another_one(self, cluster: Cluster) -> None:
        node = cluster.worker_nodes[0]
        with pytest.raises(TaskUnschedulableError, match=r"CPU: 9.*on node .*has \{CPU: 2"):
            ray.get(where.options(scheduling_strategy=on(node, soft=False), num_cpus=9).remote(), timeout=30)

    def test_a_node_that_died_is_an_error_or_another_one(self, cluster: Cluster) -> None:
        victim = cluster.add_node()
        cluster.wait_for_nodes()
        assert ray.get(where.options(scheduling_strategy=on(victim, soft=False)).remote(), timeout=30)
        cluster.remove_node(victim, allow_graceful=False)
        with pytest.raises(TaskUnschedulableError, match="has left, or never was"):
            ray.get(where.options(scheduling_strategy=on(victim, soft=False)).remote(), timeout=60)
        found = ray.get(where.options(scheduling_strategy=on(victim, soft=True)).remote(), timeout=60)
        assert found in ids(cluster)


# So small that idle workers of other kinds leave room for them.
@ray.remote(num_cpus=0.1)
def megabytes(count: int) -> bytes:
    return bytes(count << 20)


@ray.remote(num_cpus=0.1)
def where_with(*args: Any, **named: Any) -> str:
    return ray.get_runtime_context().get_node_id()


class TestLocality:
    def made_on(self, node: Any, count: int = 2) -> Any:
        made = megabytes.options(scheduling_strategy=on(node, soft=False)).remote(count)
        assert ray.wait([made], timeout=30, fetch_local=False)[0]
        return made

    def test_a_task_goes_where_its_large_argument_lies(self, cluster: Cluster) -> None:
        until(lambda: ray.available_resources() == ray.cluster_resources())
        for node in cluster.list_all_nodes():
            made = self.made_on(node)
            assert ray.get(where_with.remote(made), timeout=30) == node.node_id
            assert ray.get(where_with.remote(named=made), timeout=30) == node.node_id

    def test_what_is_not_there_yet_is_waited_for_and_counts(self, cluster: Cluster) -> None:
        node = cluster.worker_nodes[1]
        made = megabytes.options(scheduling_strategy=on(node, soft=False)).remote(2)
        assert ray.get(where_with.remote(made), timeout=30) == node.node_id

    def test_most_bytes_decide(self, cluster: Cluster) -> None:
        until(lambda: ray.available_resources() == ray.cluster_resources())
        head, second, third = cluster.list_all_nodes()
        few, more, small = self.made_on(second), self.made_on(third, 5), self.made_on(second)
        assert ray.get(where_with.remote(few, more, small), timeout=30) == third.node_id
        assert ray.get(where_with.remote(few, ray.put(bytes(9 << 20))), timeout=30) == head.node_id
        assert ray.get(where_with.remote(bytes(9 << 20), few), timeout=30) == head.node_id

    def test_another_strategy_comes_before(self, cluster: Cluster) -> None:
        second, third = cluster.worker_nodes
        task = where_with.options(scheduling_strategy=on(third, soft=False))
        assert ray.get(task.remote(self.made_on(second)), timeout=30) == third.node_id

    def test_a_node_without_room_is_not_waited_for(self, cluster: Cluster) -> None:
        until(lambda: ray.available_resources() == ray.cluster_resources())
        node = cluster.worker_nodes[0]
        made = self.made_on(node)
        strategy = on(node, soft=False)
        holder = Resident.options(scheduling_strategy=strategy, num_cpus=2).remote()
        assert ray.get(holder.where.remote(), timeout=30) == node.node_id
        assert ray.get(where_with.remote(made), timeout=30) in ids(cluster) - {node.node_id}

    def test_a_node_that_died_is_forgotten_and_its_results_are_made_again(self, cluster: Cluster) -> None:
        victim = cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        ray.get(where.options(scheduling_strategy=on(victim, soft=False)).remote(), timeout=30)
        made = megabytes.options(scheduling_strategy=on(victim, soft=True)).remote(2)
        until(lambda: ray.get(where_with.remote(made), timeout=30) == victim.node_id)
        cluster.remove_node(victim, allow_graceful=False)
        assert ray.get(where_with.remote(made), timeout=60) in ids(cluster)


class TestLabels:
    def test_selectors_choose_nodes(self, cluster: Cluster) -> None:
        for node, zone in zip(cluster.worker_nodes, "bc", strict=True):
            tasks = [where.options(label_selector={"zone": zone}).remote() for _ in range(3)]
            assert set(ray.get(tasks, timeout=30)) == {node.node_id}
        actor = Resident.options(label_selector={"zone": "in(a,c)"}).remote()
        assert ray.get(actor.where.remote(), timeout=30) == cluster.worker_nodes[1].node_id

    def test_fallbacks_are_tried_in_order(self, cluster: Cluster) -> None:
        options = {"label_selector": {"zone": "z"}, "fallback_strategy": [{"label_selector": {"zone": "b"}}]}
        found = ray.get(where.options(**options).remote(), timeout=30)
        assert found == cluster.worker_nodes[0].node_id

    def test_selectors_that_are_none_are_errors_at_once(self, cluster: Cluster) -> None:
        with pytest.raises(ValueError, match="label_selector"):
            where.options(label_selector={"zone": "in(a"}).remote()


class TestInfeasible:
    def test_what_no_node_has_waits_for_a_node_and_says_so(
        self, cluster: Cluster, said: Callable[[str], str]
    ) -> None:
        task = where.options(resources={"late": 1}).remote()
        actor = Resident.options(resources={"late": 1}).remote()
        called = actor.where.remote()
        text = said("actor Resident waits for a node to join")
        assert "1 tasks (where, ...): each waits for a node to join: it needs {CPU: 1, late: 1}" in text
        assert "none of the 3 nodes has that" in text
        assert ray.wait([task, called], timeout=0)[0] == []
        node = cluster.add_node(num_cpus=2, resources={"late": 2})
        assert ray.get([task, called], timeout=60) == [node.node_id] * 2

    def test_labels_that_no_node_has_wait_too(self, cluster: Cluster, said: Callable[[str], str]) -> None:
        task = where.options(label_selector={"zone": "y"}).remote()
        assert "labels that nodes have:" in said("waits for a node to join")
        node = cluster.add_node(num_cpus=1, labels={"zone": "y"})
        assert ray.get(task, timeout=60) == node.node_id

    def test_a_wait_can_be_cancelled(self, cluster: Cluster, said: Callable[[str], str]) -> None:
        task = where.options(resources={"never": 1}).remote()
        said("never")
        ray.cancel(task)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(task, timeout=30)


def test_a_limit_to_the_wait_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    ray.shutdown()
    monkeypatch.setenv("ORCHESTRATOR_INFEASIBLE_AFTER_S", "0.7")
    with Cluster(initialize_head=True, connect=True):
        text = r"it needs \{CPU: 1, late: 1\}.*\(no such node joined within 0.7 s\)"
        with pytest.raises(InfeasibleError, match=text):
            ray.get(where.options(resources={"late": 1}).remote(), timeout=30)
        with pytest.raises(InfeasibleError, match="no node has that"):
            ray.get(ray.util.placement_group([{"late": 1}]).ready(), timeout=30)
