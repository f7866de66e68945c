"""Nodes with a network between them that fails: cut off for a moment or for good, slow, losing packets; and
processes of the cluster that are killed while tasks, actors, generators and large objects are under way.

Each node is in a network namespace of its own. Skipped where the kernel allows none.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest

import orchestrator as ray
from orchestrator import exceptions
from tests.faults.namespaces import Network, NetworkedCluster, why_not
from tests.faults.remote_work import array, items, total
from tests.faults.standing_nodes import assert_nothing_more, head_process, held_by, until
from tests.orchestrator.gcs.conftest import redis_server

__all__ = ["redis_server"]

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there are namespaces"),
]

PATIENCE_S = 120
#: Length of arrays of 4 MB: carried by the object service.
MUCH = 500_000
#: Needs the second node, whichever task it is.
THERE = {"node2": 0.001}


@ray.remote
class Counter:
    """What is lost or repeated shows in what it counts."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


def get(refs):
    return ray.get(refs, timeout=PATIENCE_S)


def work() -> None:
    """A little of everything, on all nodes."""
    there = array.options(resources=THERE)
    refs = [there.remote(x) for x in range(10)] + [array.remote(x) for x in range(10)]
    assert [int(value[0]) for value in get(refs)] == [*range(10), *range(10)]
    assert get(total.options(resources=THERE).remote(refs)) == 90
    large = [there.remote(x, MUCH) for x in range(4)]
    assert get(total.remote(large)) == 6
    put = ray.put(np.full(MUCH, 7))
    assert get(total.options(resources=THERE).remote([put])) == 7
    got = [int(get(ref)[0]) for ref in items.options(resources=THERE).remote(8)]
    assert got == list(range(8))


@pytest.fixture
def cluster() -> Iterator[NetworkedCluster]:
    with Network(2) as network, network.inside(1), NetworkedCluster(network, [2, 2]) as made:
        held = [(node, held_by(node)) for node in made.nodes]
        ray.init(made.nodes[0].path, log_to_driver=False)
        until(lambda: len(ray.nodes()) == 2, "both nodes are there")
        yield made
        ray.shutdown()
        assert_nothing_more((node, before) for node, before in held if node.node_pid)


def meanwhile(count: int, harm: Callable[[], None]) -> None:
    """Call an actor on the second node often, do harm in the middle; no call is lost or done twice."""
    counter = Counter.options(resources=THERE).remote()
    assert get(counter.add.remote()) == 1
    before = [counter.add.remote() for _ in range(count)]
    harm()
    after = [counter.add.remote() for _ in range(count)]
    assert get([*before, *after]) == list(range(2, 2 * count + 2))
    work()


def test_links_resume_after_a_short_partition_and_nothing_is_lost_or_repeated(cluster):
    def harm() -> None:
        cluster.network.cut(2)
        with pytest.raises(exceptions.GetTimeoutError):
            ray.get(array.options(resources=THERE).remote(1), timeout=1.5)
        cluster.network.heal(2)

    meanwhile(200, harm)
    assert len(ray.nodes()) == 2


def test_packets_are_lost_repeated_and_late(cluster):
    how = ("netem", "delay", "5ms", "5ms", "loss", "3%", "duplicate", "2%")
    try:
        cluster.network.spoil(2, *how)
    except OSError as error:
        pytest.skip(f"the kernel has no netem: {error}")
    meanwhile(100, lambda: None)


def test_a_slow_link(cluster):
    meanwhile(
        100, lambda: cluster.network.spoil(2, "tbf", "rate", "40mbit", "burst", "32kb", "latency", "50ms")
    )


def test_a_link_that_drops_whatever_comes_in_bursts(cluster):
    meanwhile(100, lambda: cluster.network.spoil(2, "tbf", "rate", "20mbit", "burst", "3kb", "limit", "12kb"))


def test_a_node_that_is_cut_off_for_long_is_declared_dead_and_leaves_when_it_hears_of_it(cluster):
    counter = Counter.options(resources=THERE).remote()
    restarted = Counter.options(resources={"node2": 0}, max_restarts=-1, max_task_retries=-1).remote()
    assert get([counter.add.remote(), restarted.add.remote()]) == [1, 1]
    kept = array.remote(3)
    lost = array.options(resources=THERE, max_retries=0).remote(4, MUCH)
    get(total.options(resources=THERE).remote([kept, lost]))
    cluster.network.cut(2)
    until(lambda: len(ray.nodes()) == 1, "the head declares it dead")
    with pytest.raises(exceptions.ActorDiedError):
        get(counter.add.remote())
    with pytest.raises(exceptions.ObjectLostError):
        get(lost)
    assert int(get(kept)[0]) == 3
    assert get(restarted.add.remote()) >= 1
    cluster.network.heal(2)
    until(lambda: cluster.ended(2), "the node leaves")
    assert get(total.remote([array.remote(x) for x in range(5)])) == 10


def test_the_head_s_process_is_killed_again_and_again(cluster):
    supervisor = cluster.supervisor_pids[0]

    def harm() -> None:
        for _ in range(3):
            head = until(lambda: head_process(supervisor), "the head is started again")
            head.kill()
            until(lambda head=head: not head.is_running(), "it is gone")
            work()

    meanwhile(50, harm)
    assert len(ray.nodes()) == 2


def test_the_head_s_process_is_killed_with_its_tables_in_redis(redis_server):
    with (
        Network(2) as network,
        network.inside(1),
        NetworkedCluster(network, [1, 2], storage=redis_server.url) as cluster,
    ):
        ray.init(cluster.nodes[0].path, log_to_driver=False)
        until(lambda: len(ray.nodes()) == 2, "both nodes are there")
        head = head_process(cluster.supervisor_pids[0])
        assert head is not None
        meanwhile(50, head.kill)
        ray.shutdown()


@pytest.mark.parametrize("victim", ["node", "supervisor", "everything"])
def test_a_node_is_killed(cluster, victim):
    counter = Counter.options(resources=THERE).remote()
    assert get(counter.add.remote()) == 1
    made = [array.remote(x) for x in range(40)]
    large = array.remote(5, MUCH)
    streamed = items.remote(30)
    node, supervisor = cluster.nodes[1].node_pid, cluster.supervisor_pids[1]
    family = psutil.Process(supervisor).children(recursive=True)
    if victim != "node":
        os.kill(supervisor, signal.SIGKILL)
    if victim != "supervisor":
        os.kill(node, signal.SIGKILL)
    if victim == "everything":
        for process in family:
            if process.is_running():
                process.kill()
    until(lambda: not psutil.pid_exists(node), "it is dead, or has ended because its supervisor is")
    with pytest.raises(exceptions.ActorDiedError):
        get(counter.add.remote())
    assert [int(value[0]) for value in get(made)] == list(range(40))
    assert int(get(large)[0]) == 5
    assert [int(get(ref)[0]) for ref in streamed] == list(range(30))
    until(lambda: len(ray.nodes()) == 1, "all know that it is dead")
    until(lambda: not any(map(psutil.Process.is_running, family)), "nothing of it runs on")


def test_a_node_is_killed_together_with_the_head_s_process(cluster):
    """The head's next process has never had a session with it, and finds out all the same."""
    counter = Counter.options(resources=THERE).remote()
    assert get(counter.add.remote()) == 1
    made = [array.remote(x) for x in range(40)]
    streamed = items.remote(30)
    head = head_process(cluster.supervisor_pids[0])
    assert head is not None
    head.kill()
    os.kill(cluster.nodes[1].node_pid, signal.SIGKILL)
    with pytest.raises(exceptions.ActorDiedError):
        get(counter.add.remote())
    assert [int(value[0]) for value in get(made)] == list(range(40))
    assert [int(get(ref)[0]) for ref in streamed] == list(range(30))
    until(lambda: len(ray.nodes()) == 1, "all know that it is dead")
