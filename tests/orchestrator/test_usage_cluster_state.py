"""What the state API, the timeline and the command line say of a cluster: all of its nodes, seen from any."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.cluster_utils import Cluster
from orchestrator.experimental import get_local_object_locations, get_object_locations
from orchestrator.util import state
from tests.stopping import stopped
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

TIMEOUT_S = 30


@pytest.fixture(scope="module")
def cluster():
    with Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 2}) as made:
        made.add_node(num_cpus=2, resources={"b": 100})
        made.wait_for_nodes()
        yield made


@pytest.fixture(scope="module")
def ids(cluster):
    return [node.node_id for node in cluster.list_all_nodes()]


@ray.remote(num_cpus=0)
class Keeper:
    def __init__(self):
        self.kept = ray.put(np.ones(300_000))

    def who(self):
        context = ray.get_runtime_context()
        return os.getpid(), context.get_node_id(), context.get_worker_id(), context.get_actor_id()

    def list(self, kind):
        return [row.asdict() for row in getattr(state, f"list_{kind}")(detail=True)]


@ray.remote
def traced():
    context = ray.get_runtime_context()
    return os.getpid(), context.get_node_id(), context.get_task_id()


@pytest.fixture(scope="module")
def keeper(cluster):
    made = Keeper.options(name="keeper", resources={"b": 0.01}).remote()
    ray.get(made.who.remote(), timeout=TIMEOUT_S)
    return made


def get(ref):
    return ray.get(ref, timeout=TIMEOUT_S)


def test_node_ids_are_the_clusters(cluster, ids, keeper):
    assert ray.get_runtime_context().get_node_id() == ids[0]
    assert get(keeper.who.remote())[1] == ids[1]
    assert [node["NodeID"] for node in ray.nodes()] == ids
    rows = state.list_nodes()
    assert {row.node_id for row in rows} == set(ids)
    assert [row.node_id for row in rows if row.is_head_node] == ids[:1]
    assert {row["node_id"] for row in get(keeper.list.remote("nodes"))} == set(ids)


def test_actors_of_all_nodes_are_listed_from_every_node(cluster, ids, keeper):
    pid, node, _, identity = get(keeper.who.remote())
    for rows in (
        [row.asdict() for row in state.list_actors(detail=True)],
        get(keeper.list.remote("actors")),
    ):
        row = next(row for row in rows if row["actor_id"] == identity)
        assert (row["pid"], row["node_id"], row["state"], row["name"]) == (pid, node, "ALIVE", "keeper")


def test_workers_of_all_nodes_are_listed_under_ids_of_their_own(cluster, ids, keeper):
    pid, node, worker, _ = get(keeper.who.remote())
    rows = state.list_workers()
    assert len({row.worker_id for row in rows}) == len(rows)
    assert (pid, node) in {(row.pid, row.node_id) for row in rows if row.worker_id == worker}
    assert os.getpid() in {row.pid for row in rows if row.node_id == ids[0] and row.worker_type == "DRIVER"}
    assert {row["worker_id"] for row in get(keeper.list.remote("workers"))} >= {worker}
    assert state.list_jobs()[0].status == "RUNNING"


def test_tasks_that_ran_elsewhere_are_listed_once_and_are_in_the_timeline(cluster, ids):
    here = get(traced.remote())
    there = get(traced.options(resources={"b": 1}, name="there").remote())
    for pid, node, task in (here, there):
        found = [row for row in state.list_tasks(limit=10_000) if row.task_id == task]
        assert [(row.worker_pid, row.node_id, row.state) for row in found] == [(pid, node, "FINISHED")]
    assert there[1] == ids[1]
    assert {here[0], there[0]} <= {event["pid"] for event in ray.timeline() if event["ph"] == "X"}


def test_objects_of_all_nodes_are_listed(cluster, keeper):
    rows = state.list_objects(limit=10_000)
    pid = get(keeper.who.remote())[0]
    mine = ray.put(np.ones(400_000))
    large = {(row.pid, row.object_size // 1_000_000) for row in state.list_objects(limit=10_000)}
    assert (pid, 2) in large and (os.getpid(), 3) in large
    assert rows
    assert str(pid) in state.memory_summary()
    del mine


def test_a_process_of_another_node_that_does_not_answer_is_named(cluster, keeper):
    pid = get(keeper.who.remote())[0]
    with stopped(pid), pytest.raises(state.StateApiError, match=rf"\(pids \[{pid}\]\)"):
        state.list_workers(timeout=1)


def test_a_node_that_does_not_answer_is_named(cluster, ids):
    refused = pytest.raises(state.StateApiError, match=f"no answer came within 1 s from node {ids[1]}")
    with stopped(cluster.list_all_nodes()[1].pid), refused:
        state.list_workers(timeout=1)
    until(lambda: state.list_workers(timeout=1, raise_on_missing_output=False))


def test_the_command_line_shows_all_nodes(cluster, ids, keeper):
    pid = get(keeper.who.remote())[0]

    def run(*words):
        command = [sys.executable, "-m", "orchestrator", *words, "--address", cluster.address]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    shown = run("status")
    assert all(one in shown for one in ids), shown
    assert all(one in run("list", "nodes") for one in ids)
    assert str(pid) in run("list", "actors")
    assert str(pid) in run("memory")


@ray.remote(num_cpus=0)
def ones(count):
    return np.ones(count)


def locations(ref):
    return get_object_locations([ref])[ref]


def test_where_objects_are_is_known_on_every_node(cluster, ids):
    ref = ones.options(resources={"b": 0.01}).remote(300_000)
    ray.wait([ref], fetch_local=False, timeout=TIMEOUT_S)
    found = locations(ref)
    assert (found["node_ids"], found["object_size"]) == (ids[1:], pytest.approx(2_400_000, rel=0.01))
    assert get(ref).size == 300_000
    until(lambda: locations(ref)["node_ids"] == ids)
    mine = ray.put(np.ones(300_000))
    assert locations(mine)["node_ids"] == ids[:1]
    small = ones.options(resources={"b": 0.01}).remote(3)
    get(small)
    assert locations(small)["node_ids"] == []


def test_wait_brings_what_is_elsewhere_unless_told_not_to(cluster, ids):
    refs = [ones.options(resources={"b": 0.01}).remote(300_000) for _ in range(3)]
    ready, rest = ray.wait(refs, num_returns=3, fetch_local=False, timeout=TIMEOUT_S)
    assert (ready, rest) == (refs, [])
    assert not any(row["node_ids"] for row in get_local_object_locations(refs).values())
    ready, rest = ray.wait(refs, num_returns=3, timeout=TIMEOUT_S)
    assert (ready, rest) == (refs, [])
    assert all(row["node_ids"] == ids[:1] for row in get_local_object_locations(refs).values())


def test_wait_takes_what_is_here_rather_than_what_does_not_come(cluster):
    refs = [ones.options(resources={"b": 0.01}).remote(300_000), ray.put(1)]
    ray.wait(refs, num_returns=2, fetch_local=False, timeout=TIMEOUT_S)
    with stopped(cluster.list_all_nodes()[1].pid):
        assert ray.wait(refs, timeout=TIMEOUT_S) == (refs[1:], refs[:1])
        assert ray.wait(refs, num_returns=2, timeout=0) == (refs[1:], refs[:1])
    assert ray.wait(refs, num_returns=2, timeout=TIMEOUT_S) == (refs, [])
