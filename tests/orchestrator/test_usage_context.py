"""`get_runtime_context()`: what code can ask about the place it runs in."""

from __future__ import annotations

import os

import pytest

import orchestrator as ray
from orchestrator.runtime_env import RuntimeEnv

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


def test_ids_as_objects():
    def ids():
        context = ray.get_runtime_context()
        found = context.get()
        assert found["namespace"] == context.namespace
        assert found.get("task_id") == context.task_id and found.get("actor_id") == context.actor_id
        texts = (context.get_job_id(), context.get_node_id(), context.get_task_id(), context.get_actor_id())
        objects = (context.job_id, context.node_id, context.task_id, context.actor_id)
        assert [one and one.hex() for one in objects] == list(texts)
        return objects

    @ray.remote
    class Asked:
        def ids(self):
            return ids()

    job, node, *rest = ids()
    assert rest == [None, None] and isinstance(job, ray.JobID) and isinstance(node, ray.NodeID)
    ref = ray.remote(ids).remote()
    assert ray.get(ref) == (job, node, ref.task_id(), None)
    assert isinstance(ref.task_id(), ray.TaskID) and ref.job_id() == job
    actor = Asked.remote()
    assert ray.get(actor.ids.remote())[3] == actor._actor_id == actor._ray_actor_id
    assert ray.util.state.get_actor(actor._actor_id.hex()).class_name.endswith("Asked")
    assert len(actor._actor_id.binary()) == 16 and isinstance(actor._actor_id, ray.ActorID)


def test_the_placement_group_as_an_object():
    @ray.remote
    def asked():
        context = ray.get_runtime_context()
        return context.current_placement_group_id, context.should_capture_child_tasks_in_placement_group

    group = ray.util.placement_group([{"CPU": 1}])
    inside = asked.options(placement_group=group)
    assert ray.get(inside.remote()) == (group.id, False)
    assert ray.get(inside.options(placement_group_capture_child_tasks=True).remote()) == (group.id, True)
    outside, captures = ray.get(asked.remote())
    assert outside.is_nil() and captures is False and isinstance(group.id, ray.PlacementGroupID)
    ray.util.remove_placement_group(group)


def test_the_environment_is_an_environment():
    @ray.remote(runtime_env={"env_vars": {"A": "1"}})
    def asked():
        return ray.get_runtime_context().runtime_env

    env = ray.get(asked.remote())
    assert isinstance(env, RuntimeEnv) and env.env_vars() == env["env_vars"] == {"A": "1"}
    assert RuntimeEnv.deserialize(env.serialize()) == env


def test_the_address_of_the_node():
    assert ray.util.get_node_ip_address() == ray.nodes()[0]["NodeManagerAddress"]


def test_submitting_with_options_in_one_call():
    @ray.remote
    def add(a, b=0):
        return a + b, ray.get_runtime_context().get_assigned_resources()

    @ray.remote
    class Adder:
        def __init__(self, start=0):
            self.start = start

        def add(self, number):
            return self.start + number, number

    assert ray.get(add._remote((1,), {"b": 2})) == (3, {"CPU": 1})
    assert ray.get(add._remote(args=[1], kwargs=None, num_cpus=0.5)) == (1, {"CPU": 0.5})
    adder = Adder._remote(args=[3], num_cpus=0)
    assert ray.get(Adder.options(num_cpus=0)._remote(kwargs={"start": 4}).add.remote(1)) == (5, 1)
    assert ray.get(adder.add._remote((4,))) == (7, 4)
    assert ray.get(adder.add._remote(args=(4,), num_returns=2)) == [7, 4]
    with pytest.raises(ValueError, match="'cpus' is not an option"):
        add._remote((1,), cpus=2)
    assert add._function_name == f"{__name__}.add"


def test_a_class_keeps_a_method_that_libraries_call():
    @ray.remote
    class Own:
        def _remote(self):
            return "its own"

    assert ray.get(Own.remote()._remote.remote()) == "its own"
