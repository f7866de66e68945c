"""`get_runtime_context()`: what code can ask about the place it runs in."""

from __future__ import annotations

import os

import pytest

import orchestrator as ray

IDS = ("get_job_id", "get_node_id", "get_worker_id", "get_session_name")


def facts():
    context = ray.get_runtime_context()
    names = [
        *IDS,
        *("get_task_id", "get_task_name", "get_task_function_name", "get_actor_id", "get_actor_name"),
        *("get_assigned_resources", "get_node_labels", "get_temp_dir", "get_pid", "is_canceled"),
    ]
    found = {name: getattr(context, name)() for name in names}
    return {**found, "namespace": context.namespace, "gcs_address": context.gcs_address}


@ray.remote
def task():
    return facts()


@ray.remote
class Actor:
    def method(self):
        return facts()

    def myself(self):
        return ray.get_runtime_context().current_actor

    def was_reconstructed(self):
        return ray.get_runtime_context().was_current_actor_reconstructed


@pytest.fixture(scope="module", autouse=True)
def one_session():
    with ray.init(num_cpus=2, namespace="here", object_store_memory=1 << 30):
        yield


def test_in_the_driver():
    found = facts()
    assert all(int(found[name], 16) for name in IDS), "ids are hexadecimal"
    for name in ("get_task_id", "get_task_name", "get_task_function_name", "get_actor_id", "get_actor_name"):
        assert found[name] is None
    assert found["get_assigned_resources"] == {} and found["is_canceled"] is False
    assert (found["namespace"], found["get_pid"]) == ("here", os.getpid())


def test_in_a_task():
    here = facts()
    ref = task.options(name="work", num_cpus=0.5).remote()
    found = ray.get(ref)
    for name in ("get_job_id", "get_node_id", "get_session_name", "namespace", "get_temp_dir"):
        assert found[name] == here[name]
    assert found["get_worker_id"] != here["get_worker_id"]
    assert found["get_task_id"] == ref.hex(), "a task has the id of its first result"
    assert (found["get_task_name"], found["get_task_function_name"]) == ("work", "task")
    assert found["get_assigned_resources"] == {"CPU": 0.5}
    assert found["get_actor_id"] is None and found["get_pid"] != os.getpid()


def test_in_an_actor():
    actor = Actor.options(name="anton", num_cpus=1).remote()
    found = ray.get(actor.method.remote())
    assert found["get_actor_name"] == "anton" and len(found["get_actor_id"]) == 32
    assert found["get_task_function_name"] == "Actor.method"
    assert found["get_assigned_resources"] == {"CPU": 1}
    assert ray.get(ray.get(actor.myself.remote()).method.remote())["get_actor_id"] == found["get_actor_id"]
    assert ray.get(actor.was_reconstructed.remote()) is False
    assert ray.get(Actor.remote().method.remote())["get_assigned_resources"] == {}


def test_in_a_placement_group():
    @ray.remote
    def group_here():
        return ray.get_runtime_context().get_placement_group_id()

    group = ray.util.placement_group([{"CPU": 1}])
    inside = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group)
    assert ray.get(group_here.options(scheduling_strategy=inside).remote()) == group.id.hex()
    assert ray.get(group_here.remote()) is ray.get_runtime_context().get_placement_group_id() is None
    ray.util.remove_placement_group(group)


def test_outside_an_actor_there_is_none():
    for name in ("current_actor", "was_current_actor_reconstructed"):
        with pytest.raises(RuntimeError, match="does not run in an actor"):
            getattr(ray.get_runtime_context(), name)
