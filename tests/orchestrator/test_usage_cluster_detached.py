"""Detached actors outlive their drivers, the nodes of these, and the nodes they run on."""

from __future__ import annotations

import subprocess
import sys

import pytest

import orchestrator as ray
from orchestrator.cluster_utils import Cluster
from orchestrator.util import list_named_actors, state
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

TIMEOUT_S = 30
NAMESPACE = "detached"

#: Creates an actor where it is told to, and ends.
PROGRAM = """
import os, sys, orchestrator as ray
address, name, where, max_restarts = sys.argv[1:5]
ray.init(address, namespace="detached")

class Base:  # travels with the class
    def who(self):
        context = ray.get_runtime_context()
        return os.getpid(), context.get_node_id(), self.words

@ray.remote(num_cpus=0)
class Kept(Base):
    def __init__(self, *words):
        self.words = words

options = dict(name=name, lifetime="detached", resources={where: 0.01}, max_restarts=int(max_restarts))
if len(sys.argv) == 5:
    actor = Kept.options(**options).remote("some", "words")
    print(*ray.get(actor.who.remote())[:2])
else:
    @ray.remote(num_cpus=0)
    def never():
        import threading
        threading.Event().wait()
    Kept.options(**options).remote(never.remote())
"""


def run(cluster_node, name, where, max_restarts, *more):
    """Create an actor in a driver of that node; return its pid and node when the driver has ended."""
    words = [sys.executable, "-c", PROGRAM, cluster_node.address, name, where, str(max_restarts), *more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def ask(actor):
    """Ask an actor who it is, as soon as it can be reached."""

    def answer():
        try:
            return ray.get(actor.who.remote(), timeout=TIMEOUT_S)
        except ray.exceptions.ActorUnavailableError:
            return None

    return until(answer)


@pytest.fixture(scope="module")
def cluster():
    with Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "resources": {"a": 1}}) as made:
        made.add_node(num_cpus=2, resources={"b": 1})
        made.connect(NAMESPACE)
        yield made


@pytest.mark.parametrize(("creator", "where"), [(0, "b"), (1, "a"), (1, "b")])
def test_it_lives_on_when_its_driver_has_ended_wherever_both_were(cluster, creator, where):
    nodes = cluster.list_all_nodes()
    pid, node_id = run(nodes[creator], "kept", where, 0)
    assert node_id == nodes["ab".index(where)].node_id
    actor = ray.get_actor("kept")
    assert ask(actor) == (int(pid), node_id, ("some", "words"))
    [row] = [row for row in state.list_actors(detail=True) if row.name == "kept" and row.state == "ALIVE"]
    assert (row.pid, row.node_id, row.is_detached) == (int(pid), node_id, True)
    ray.kill(actor)
    with pytest.raises(ValueError, match="kept"):
        ray.get_actor("kept")


def test_a_name_is_taken_for_drivers_of_other_nodes(cluster):
    head, other = cluster.list_all_nodes()
    run(other, "once", "b", 0)
    with pytest.raises(AssertionError, match="ActorAlreadyExistsError"):
        run(head, "once", "a", 0)
    with pytest.raises(AssertionError, match="ActorAlreadyExistsError"):
        run(other, "once", "a", 0)
    ray.kill(ray.get_actor("once"))
    until(lambda: "once" not in list_named_actors())


def test_a_driver_that_ends_before_the_arguments_are_there_leaves_no_name(cluster):
    run(cluster.list_all_nodes()[1], "unborn", "a", 0, "never")
    until(lambda: "unborn" not in list_named_actors())


def test_it_restarts_elsewhere_when_its_creators_node_and_its_own_die(cluster):
    first = cluster.add_node(num_cpus=1, resources={"c": 1, "first": 1})
    second = cluster.add_node(num_cpus=1, resources={"c": 1, "second": 1})
    cluster.wait_for_nodes()
    # Its creator was on one of the two nodes on which it can run.
    pid, node_id = run(first, "wanders", "c", -1)
    doomed, left = (first, second) if node_id == first.node_id else (second, first)
    _, where = run(first, "mortal", "first" if doomed is first else "second", 0)
    assert where == doomed.node_id
    actor, mortal = ray.get_actor("wanders"), ray.get_actor("mortal")
    cluster.remove_node(doomed, allow_graceful=False)
    again, where, words = ask(actor)
    assert again != int(pid) and where == left.node_id and words == ("some", "words")
    assert ask(ray.get_actor("wanders"))[0] == again
    # One that may not restart is dead, and its name is free.
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(mortal.who.remote(), timeout=TIMEOUT_S)
    until(lambda: "mortal" not in list_named_actors())
    # No creator's node is needed any more, and nodes that have joined since will do.
    third = cluster.add_node(num_cpus=1, resources={"c": 1})
    cluster.remove_node(left, allow_graceful=False)
    assert ask(actor)[1:] == (third.node_id, ("some", "words"))
    ray.kill(actor)
