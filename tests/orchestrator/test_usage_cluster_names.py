"""Names of actors and objects are the cluster's, whichever node gives and asks for them."""

from __future__ import annotations

import os

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.cluster_utils import Cluster
from orchestrator.util import list_named_actors, list_named_objects
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

TIMEOUT_S = 30


@pytest.fixture(scope="module")
def cluster():
    with Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 4}) as made:
        made.add_node(num_cpus=4, resources={"b": 100})
        made.add_node(num_cpus=4, resources={"c": 100})
        made.wait_for_nodes()
        yield made


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self, start=0):
        self.count = start

    def add(self):
        self.count += 1
        return self.count

    def pid(self):
        return os.getpid()

    def node(self):
        return os.getppid()


@ray.remote(num_cpus=0)
def add_by_name(name, namespace=None):
    return ray.get(ray.get_actor(name, namespace).add.remote())


@ray.remote(num_cpus=0)
def is_known(name):
    try:
        ray.get_actor(name)
    except ValueError:
        return False
    return True


@ray.remote(num_cpus=0)
class Maker:
    """Makes actors on the node it runs on: their home is there."""

    def make(self, name, **options):
        self.made = Counter.options(name=name, **options).remote(10)
        return ray.get(self.made.add.remote())

    def try_to_make(self, name, **options):
        try:
            self.tried = Counter.options(name=name, **options).remote()
        except ray.exceptions.ActorAlreadyExistsError:
            return None
        return ray.get(self.tried.pid.remote())

    def kill_and_make(self, name):
        ray.kill(ray.get_actor(name))
        self.made = Counter.options(name=name).remote(100)
        return ray.get(self.made.add.remote())

    def names(self):
        return list_named_actors()

    def pid(self):
        return os.getpid()


def on(where):
    return {"resources": {where: 0.01}}


def get(ref):
    return ray.get(ref, timeout=TIMEOUT_S)


@pytest.fixture
def makers(cluster):
    made = [Maker.options(**on(where)).remote() for where in "bc"]
    yield made
    for maker in made:
        ray.kill(maker)


def test_an_actor_is_found_by_name_from_every_node(cluster):
    counter = Counter.options(name="everywhere", **on("b")).remote()
    assert [get(add_by_name.options(**on(where)).remote("everywhere")) for where in "bc"] == [1, 2]
    assert get(ray.get_actor("everywhere").add.remote()) == 3
    with pytest.raises(ValueError, match="nowhere"):
        ray.get_actor("nowhere")
    del counter
    until(lambda: not get(is_known.options(**on("c")).remote("everywhere")))


def test_an_actor_whose_home_is_another_node_is_found_here(cluster, makers):
    assert get(makers[0].make.remote("of b")) == 11
    assert get(ray.get_actor("of b").add.remote()) == 12
    assert get(add_by_name.options(**on("c")).remote("of b")) == 13
    assert "of b" in list_named_actors()
    assert "of b" in get(makers[1].names.remote())


def test_a_name_is_given_once(cluster, makers):
    get(makers[0].make.remote("taken"))
    with pytest.raises(ray.exceptions.ActorAlreadyExistsError, match="taken"):
        Counter.options(name="taken").remote()
    again = Counter.options(name="taken", get_if_exists=True).remote()
    assert get(again.add.remote()) == 12
    # Another namespace is another name.
    other = Counter.options(name="taken", namespace="elsewhere").remote()
    assert get(other.add.remote()) == 1
    assert get(add_by_name.options(**on("c")).remote("taken", "elsewhere")) == 2
    both = [row for row in list_named_actors(all_namespaces=True) if row["name"] == "taken"]
    assert len(both) == 2


def test_of_those_who_want_a_name_at_once_one_has_it(cluster, makers):
    for number in range(4):
        name = f"race {number}"
        refs = [maker.try_to_make.remote(name) for maker in makers]
        try:
            mine = Counter.options(name=name).remote()
        except ray.exceptions.ActorAlreadyExistsError:
            mine = None
        pids = [get(ref) for ref in refs] + [get(mine.pid.remote()) if mine else None]
        assert sum(pid is not None for pid in pids) == 1, pids


def test_get_if_exists_at_once_leads_all_to_one_actor(cluster, makers):
    for number in range(4):
        name = f"shared {number}"
        refs = [maker.try_to_make.remote(name, get_if_exists=True) for maker in makers]
        mine = Counter.options(name=name, get_if_exists=True).remote()
        assert len({*map(get, refs), get(mine.pid.remote())}) == 1


def test_a_name_is_free_at_once_when_its_actor_was_killed(cluster, makers):
    get(makers[0].make.remote("again"))
    assert get(makers[1].kill_and_make.remote("again")) == 101
    assert get(ray.get_actor("again").add.remote()) == 102
    ray.kill(ray.get_actor("again"))
    with pytest.raises(ValueError, match="again"):
        ray.get_actor("again")
    assert get(makers[0].make.remote("again")) == 11


def test_a_name_is_free_when_its_actor_has_died_by_itself(cluster, makers):
    get(makers[0].make.remote("mortal"))
    os.kill(get(ray.get_actor("mortal").pid.remote()), 9)
    until(lambda: not get(is_known.options(**on("c")).remote("mortal")))
    assert get(makers[1].make.remote("mortal")) == 11


@ray.remote(num_cpus=0)
def put_named(name, value):
    ray.put(value, name=name)


@ray.remote(num_cpus=0)
def get_named(name):
    return ray.get(ray.get_object(name)).sum()


@ray.remote(num_cpus=0)
def forget(name):
    ray.forget_object(name)


@pytest.mark.parametrize("count", [3, 500_000])
def test_an_object_is_found_by_name_from_every_node(cluster, count):
    name = f"ones {count}"
    get(put_named.options(**on("b")).remote(name, np.ones(count)))
    assert get(get_named.remote(name)) == count
    assert get(get_named.options(**on("c")).remote(name)) == count
    assert name in list_named_objects()
    with pytest.raises(ValueError, match="exists already"):
        ray.put(1, name=name)
    ref = ray.get_object(name)
    get(forget.options(**on("c")).remote(name))
    with pytest.raises(ValueError, match=name):
        ray.get_object(name)
    with pytest.raises(ValueError, match=name):
        ray.forget_object(name)
    assert get(ref).sum() == count  # the reference holds it
    ray.put(2, name=name)
    assert get(ray.get_object(name)) == 2
    ray.forget_object(name)


def test_an_object_of_another_node_can_be_named_here(cluster):
    @ray.remote(num_cpus=0)
    def make():
        return [ray.put(np.ones(200_000))]

    [ref] = get(make.options(**on("b")).remote())
    from orchestrator.api.objects import name_object
    from orchestrator.core.runtime import require

    name_object(require(), ref, "borrowed", None)
    del ref
    assert get(get_named.options(**on("c")).remote("borrowed")) == 200_000
    ray.forget_object("borrowed")
