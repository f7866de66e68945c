"""A node leaves a cluster in good order: what runs ends, what others need is elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.api.state import drain_node
from orchestrator.cluster_utils import Cluster, ClusterNode
from orchestrator.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tests.waiting import until

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(initialize_head=True, connect=True) as made:
        yield made


@pytest.fixture
def leaver(cluster: Cluster) -> ClusterNode:
    """A node with a slot of its own, which each test has drained."""
    node = cluster.add_node(num_cpus=2, resources={"slot": 2})
    until(lambda: takes_work(node))
    return node


def takes_work(node: ClusterNode) -> bool:
    """Tell whether a node has said what is free there: before, it is not known to those who choose."""
    try:
        ray.get(ready.options(**on(node, soft=False)).remote(), timeout=PATIENCE_S)
    except ray.exceptions.TaskUnschedulableError:
        return False
    return True


def ids() -> set[str]:
    return {node["NodeID"] for node in ray.nodes()}


def forget(cluster: Cluster, node: ClusterNode) -> None:
    """Wait until the node has left, and its supervisor with it."""
    until(lambda: node.node_id not in ids())
    assert node._supervisor.wait(PATIENCE_S) == 0
    cluster.worker_nodes.remove(node)


def on(node: ClusterNode, *, soft: bool = True) -> dict[str, object]:
    """Options of what is to be on a node; elsewhere only if that takes nothing."""
    strategy = NodeAffinitySchedulingStrategy(node.node_id, soft=soft)
    return {"scheduling_strategy": strategy, "num_cpus": 1}


@ray.remote
def ready() -> None:
    pass


@ray.remote
def ones(n: int) -> np.ndarray:
    return np.ones(n)


@ray.remote
def puts(n: int) -> list[ray.ObjectRef]:
    return [ray.put(np.ones(n))]


@ray.remote
def waits_for(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.01)
    return ray.get_runtime_context().get_node_id()


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count

    def where(self) -> str:
        return ray.get_runtime_context().get_node_id()


def test_results_and_what_was_put_there_are_elsewhere(cluster: Cluster, leaver: ClusterNode) -> None:
    large, small = ones.options(**on(leaver)).remote(300_000), ones.options(**on(leaver)).remote(30_000)
    ray.wait([large, small], num_returns=2, timeout=PATIENCE_S, fetch_local=False)
    inner = ray.get(puts.options(**on(leaver)).remote(200_000), timeout=PATIENCE_S)[0]
    assert drain_node(leaver.node_id, PATIENCE_S) == ""
    forget(cluster, leaver)
    assert ray.get([large, small], timeout=PATIENCE_S)[0].sum() == 300_000
    assert ray.get(inner, timeout=PATIENCE_S).sum() == 200_000


def test_what_runs_ends_and_nothing_new_begins(cluster: Cluster, leaver: ClusterNode, tmp_path: Path) -> None:
    path = str(tmp_path / "go")
    runs = waits_for.options(resources={"slot": 1}).remote(path)
    until(lambda: ray.available_resources().get("slot") == 1)
    assert drain_node(leaver.node_id, PATIENCE_S) == ""
    # The same class again and again, as from a lease that is kept.
    later = [waits_for.options(**on(leaver)).remote(path) for _ in range(3)]
    Path(path).touch()
    assert ray.get(runs, timeout=PATIENCE_S) == leaver.node_id
    assert set(ray.get(later, timeout=PATIENCE_S)) == {cluster.head_node.node_id}
    forget(cluster, leaver)


def test_actors_that_may_be_restarted_move_and_no_restart_is_counted(
    cluster: Cluster, leaver: ClusterNode
) -> None:
    actor = Counter.options(**on(leaver) | {"num_cpus": 0}, max_restarts=1).remote()
    assert ray.get(actor.where.remote(), timeout=PATIENCE_S) == leaver.node_id
    assert drain_node(leaver.node_id, PATIENCE_S) == ""
    forget(cluster, leaver)
    assert ray.get(actor.where.remote(), timeout=PATIENCE_S) == cluster.head_node.node_id
    assert ray.get(actor.add.remote(), timeout=PATIENCE_S) == 1
    # The one restart is still to be had.
    ray.kill(actor, no_restart=False)

    def answers() -> bool:
        try:
            return ray.get(actor.add.remote(), timeout=PATIENCE_S) == 1
        except ray.exceptions.ActorUnavailableError:
            return False

    until(answers)


def test_an_actor_that_may_not_keeps_its_node(cluster: Cluster, leaver: ClusterNode) -> None:
    actor = Counter.options(**on(leaver) | {"num_cpus": 0}).remote()
    assert ray.get(actor.add.remote(), timeout=PATIENCE_S) == 1
    assert drain_node(leaver.node_id, 10 * PATIENCE_S) == ""
    assert ray.get(actor.add.remote(), timeout=PATIENCE_S) == 2
    assert leaver.node_id in ids()
    ray.kill(actor)
    forget(cluster, leaver)


def test_the_grace_is_the_end_in_any_case(cluster: Cluster, leaver: ClusterNode) -> None:
    actor = Counter.options(**on(leaver) | {"num_cpus": 0}).remote()
    assert ray.get(actor.add.remote(), timeout=PATIENCE_S) == 1
    assert drain_node(leaver.node_id, 0.1) == ""
    forget(cluster, leaver)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.add.remote(), timeout=PATIENCE_S)


def test_what_cannot_be_drained_is_said(cluster: Cluster) -> None:
    assert "there is no node 'nobody'" in drain_node("nobody", 1)
    assert "is the head's" in drain_node(cluster.head_node.node_id, 1)
