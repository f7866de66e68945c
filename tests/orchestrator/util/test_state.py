"""What the state API says about tasks, actors, objects and processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

import orchestrator as ray
from orchestrator import exceptions
from orchestrator.core.runtime import require
from orchestrator.util import state
from tests.stopping import stopped
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
def echo(x):
    return x


@ray.remote
class Gate:
    """Holds up who asks until it is opened."""

    def __init__(self):
        self.is_open = False

    def open(self):
        self.is_open = True

    def passable(self):
        return self.is_open


@ray.remote(num_cpus=0)
def wait_at(gate):
    while not ray.get(gate.passable.remote()):
        time.sleep(0.005)
    return os.getpid()


@ray.remote(num_cpus=0)
class Idle:
    """Does nothing."""


@pytest.fixture
def gate():
    gate = Gate.options(max_concurrency=8).remote()
    ray.get(gate.passable.remote())
    yield gate
    ray.get(gate.open.remote())


def states_of(ref):
    return [task.state for task in state.list_tasks(filters=[("task_id", "=", ref.task_id().hex())])]


# -- tasks


def test_a_finished_task():
    ref = echo.remote(1)
    ray.get(ref)
    task = state.get_task(ref.task_id().hex())
    assert (task.name, task.state, task.type) == ("echo", "FINISHED", "NORMAL_TASK")
    assert task["worker_pid"] > 0 and task.get("no such field", 3) == 3
    assert task.end_time_ms >= task.start_time_ms > 0
    assert task.asdict()["name"] == "echo"
    # Details are left out of a listing unless they are asked for.
    (listed,) = state.list_tasks(filters=[("task_id", "=", task.task_id)])
    assert listed.start_time_ms is None


def test_a_task_on_its_way(gate):
    running = wait_at.remote(gate)
    waiting = echo.remote(running)
    until(lambda: states_of(running)[0].startswith("RUNNING"))
    assert states_of(waiting) == ["PENDING_ARGS_AVAIL"]
    assert state.get_task(waiting.task_id().hex()).required_resources == {"CPU": 1.0}
    ray.get(gate.open.remote())
    pid = ray.get(running)
    assert ray.get(waiting) == pid
    assert states_of(running) == ["FINISHED"] == states_of(waiting)
    assert state.get_task(running.task_id().hex()).worker_pid == pid


def test_a_task_that_waits_for_a_worker():
    @ray.remote
    class Busy:
        pass

    holders = [Busy.options(num_cpus=1).remote() for _ in range(2)]
    ray.get([holder.__ray_ready__.remote() for holder in holders])
    queued = echo.remote(1)
    assert states_of(queued) == ["PENDING_NODE_ASSIGNMENT"]
    del holders
    assert ray.get(queued) == 1


def test_the_kinds_of_failure():
    @ray.remote(max_retries=0)
    def crash():
        os._exit(3)

    @ray.remote
    def fail():
        raise ValueError("no")

    for function, kind, text in (
        (fail, "TASK_EXECUTION_EXCEPTION", "ValueError: no"),
        (crash, "WORKER_DIED", "exited with code 3"),
    ):
        ref = function.remote()
        with pytest.raises((ValueError, exceptions.WorkerCrashedError)):
            ray.get(ref)
        task = state.get_task(ref.task_id().hex())
        assert (task.state, task.error_type) == ("FAILED", kind)
        assert text in task.error_message


def test_each_attempt_is_a_row():
    @ray.remote(retry_exceptions=True, max_retries=2)
    def flaky():
        raise ValueError("again")

    ref = flaky.remote()
    with pytest.raises(ValueError, match="again"):
        ray.get(ref)
    attempts = state.get_task(ref.task_id().hex())
    assert [(one.attempt_number, one.state) for one in attempts] == [
        (0, "FAILED"),
        (1, "FAILED"),
        (2, "FAILED"),
    ]


def test_what_a_task_submits_names_its_parent(gate):
    @ray.remote
    def parent(gate):
        return ray.get(wait_at.remote(gate))

    ref = parent.remote(gate)
    children = [("name", "=", "wait_at"), ("parent_task_id", "=", ref.task_id().hex())]
    until(lambda: state.list_tasks(filters=children))
    ray.get(gate.open.remote())
    ray.get(ref)


def test_what_a_process_that_has_ended_remembered():
    @ray.remote(max_calls=1)
    def last():
        return os.getpid()

    ref = last.remote()
    pid = ray.get(ref)
    until(lambda: states_of(ref) == ["FINISHED"])
    until(lambda: pid not in [worker.pid for worker in state.list_workers() if worker.is_alive])
    assert states_of(ref) == ["FINISHED"]
    assert state.get_task(ref.task_id().hex()).worker_pid == pid


def test_filters_and_limits():
    ray.get([echo.remote(i) for i in range(10)])
    mine = [("name", "=", "echo"), ("state", "!=", "FAILED")]
    assert len(state.list_tasks(filters=mine, limit=3)) == 3
    assert {task.name for task in state.list_tasks(filters=mine)} == {"echo"}
    assert {task.state for task in state.list_tasks(filters=[("state", "=", "finished")])} == {"FINISHED"}
    with pytest.raises(ValueError, match="there are: task_id"):
        state.list_tasks(filters=[("colour", "=", "red")])
    with pytest.raises(ValueError, match="predicate"):
        state.list_tasks(filters=[("name", ">", "a")])
    with pytest.raises(ValueError, match="a filter is a tuple"):
        state.list_tasks(filters=["name=echo"])
    with pytest.raises(ValueError, match="limit must be between"):
        state.list_tasks(limit=0)


def test_memory_for_what_has_ended_is_bounded():
    ray.get([echo.remote(i) for i in range(100)])
    history = require().history
    assert history.failures.maxlen == history.runs.maxlen == 10_000


def test_a_process_that_does_not_answer(gate):
    stuck = wait_at.remote(gate)
    until(lambda: states_of(stuck)[0].startswith("RUNNING"))
    pid = state.get_task(stuck.task_id().hex()).worker_pid
    with stopped(pid):
        with pytest.raises(state.StateApiError, match=str(pid)):
            state.list_tasks(timeout=0.2)
        with pytest.warns(UserWarning, match="1 processes did not answer"):
            assert state.list_tasks(timeout=0.2, raise_on_missing_output=False)
    ray.get(gate.open.remote())
    ray.get(stuck)


def test_a_worker_sees_the_same():
    @ray.remote
    def look():
        return [task.name for task in state.list_tasks(filters=[("state", "=", "FINISHED")])]

    ray.get(echo.remote(1))
    assert "echo" in ray.get(look.remote())


# -- actors, processes


def test_actors():
    bob = Gate.options(name="bob").remote()
    ray.get(bob.passable.remote())
    (found,) = state.list_actors(filters=[("name", "=", "bob")], detail=True)
    assert (found.class_name, found.state, found.is_detached) == ("Gate", "ALIVE", False)
    assert found.pid in [worker.pid for worker in state.list_workers()]
    calls = state.list_tasks(filters=[("actor_id", "=", found.actor_id)])
    assert {(task.name, task.type) for task in calls} == {
        ("Gate.__init__", "ACTOR_CREATION_TASK"),
        ("Gate.passable", "ACTOR_TASK"),
    }
    assert (found.placement_group_id, found.label_selector) == (None, None)
    ray.kill(bob)
    until(lambda: state.get_actor(found.actor_id).state == "DEAD")
    assert "kill" in state.get_actor(found.actor_id).death_cause["reason"]
    counts = state.summarize_actors()["cluster"]["summary"]["Gate"]["state_counts"]
    assert counts["DEAD"] >= 1


def test_more_actors_than_fit_into_one_message():
    count = 210
    actors = [Idle.remote() for _ in range(count)]  # most of them never get a process
    for actor in actors:
        ray.kill(actor)
    until(lambda: len(state.list_actors(filters=[("class_name", "=", "Idle")], limit=10_000)) == count)


def test_processes_nodes_and_jobs():
    pid = ray.get(echo.remote(os.getpid()))
    drivers = state.list_workers(filters=[("worker_type", "=", "DRIVER")])
    assert [driver.pid for driver in drivers] == [pid]
    (node,) = state.list_nodes()
    assert node.state == "ALIVE" and node.resources_total["CPU"] == 2
    assert state.get_node(node.node_id) == node
    (job,) = state.list_jobs()
    assert job.driver_info["pid"] == str(pid) and state.get_job(job.job_id).status == "RUNNING"
    running = state.get_job(job.job_id)
    assert running.driver_node_id == node.node_id
    assert running.start_time == int(state.get_worker(drivers[0].worker_id).start_time_ms)
    assert state.get_worker(drivers[0].worker_id).is_alive
    assert state.get_worker("no such") is None
    began = state.get_worker(drivers[0].worker_id).start_time_ms
    assert time.time() * 1000 - 3600e3 < began < time.time() * 1000


def test_a_process_that_has_died_is_listed_with_the_cause():
    @ray.remote(max_retries=0)
    def crash():
        os._exit(7)

    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(crash.remote())
    dead = state.list_workers(filters=[("is_alive", "=", False)], limit=10_000, detail=True)
    (crashed,) = [worker for worker in dead if "exited with code 7" in worker.exit_detail]
    assert time.time() * 1000 - 3600e3 < crashed.end_time_ms < time.time() * 1000


def test_placement_groups():
    group = ray.util.placement_group([{"CPU": 1}], name="pair")
    ray.get(group.ready(), timeout=30)
    (found,) = state.list_placement_groups(filters=[("name", "=", "pair")])
    assert (found.state, found.placement_group_id) == ("CREATED", group.id.hex())
    ray.util.remove_placement_group(group)
    until(lambda: getattr(state.get_placement_group(group.id.hex()), "state", "REMOVED") == "REMOVED")


def test_where_tasks_and_actors_may_run(gate):
    group = ray.util.placement_group([{"CPU": 1}])
    inside = wait_at.options(placement_group=group).remote(gate)
    actor = Idle.options(placement_group=group).remote()
    chosen = {"label_selector": {"absent": "!x"}, "fallback_strategy": [{"label_selector": {"absent": "!y"}}]}
    chooser, choosing = Idle.options(**chosen).remote(), wait_at.options(**chosen).remote(gate)
    for row in (state.get_task(inside.task_id().hex()), state.get_actor(actor._actor_id.hex())):
        assert (row.placement_group_id, row.label_selector) == (group.id.hex(), None)
    for row in (state.get_task(choosing.task_id().hex()), state.get_actor(chooser._actor_id.hex())):
        assert (row.label_selector, row.fallback_strategy) == tuple(chosen.values())
        assert row.placement_group_id is None
    ray.get(gate.open.remote())
    ray.get([inside, choosing])
    ray.util.remove_placement_group(group)


# -- objects


def reasons_of(ref):
    return sorted((row.reference_type, row.pid) for row in state.get_objects(ref.hex()))


def test_why_an_object_is_alive(gate):
    @ray.remote
    class Holder:
        def keep(self, refs):
            self.refs = refs
            return os.getpid()

    me = os.getpid()
    ref = ray.put(np.zeros(50_000))
    assert reasons_of(ref) == [("LOCAL_REFERENCE", me)]
    view = ray.get(ref)
    assert reasons_of(ref) == [("LOCAL_REFERENCE", me), ("PINNED_IN_MEMORY", me)]
    del view
    outer = ray.put([ref])
    (inside,) = [row for row in state.get_objects(ref.hex()) if row.reference_type == "CAPTURED_IN_OBJECT"]
    assert inside.contained_in == outer.hex()
    del outer, inside
    pending = wait_at.remote(gate)

    @ray.remote
    def use(_, array):
        return len(array)

    used = use.remote(pending, ref)
    assert reasons_of(ref) == [("LOCAL_REFERENCE", me), ("USED_BY_PENDING_TASK", me)]
    ray.get(gate.open.remote())
    assert ray.get(used) == 50_000
    holder = Holder.remote()
    pid = ray.get(holder.keep.remote([ref]))
    assert reasons_of(ref) == sorted([("LOCAL_REFERENCE", me), ("LOCAL_REFERENCE", pid)])
    row = state.get_objects(ref.hex())[0]
    assert row.object_size >= 400_000 and row.owner_pid == me and row.place == "sealed"


def test_a_small_object_in_its_owner_s_heap():
    ref = ray.put(1)
    (row,) = state.get_objects(ref.hex())
    assert (row.reference_type, row.place) == ("LOCAL_REFERENCE", "here")
    del ref
    assert state.get_objects(row.object_id) == []


def test_handles_of_actors(gate):
    rows = state.get_objects(gate._orchestrator_id.hex())
    assert {row.reference_type for row in rows} == {"ACTOR_HANDLE"}


def test_sums():
    refs = [echo.remote(i) for i in range(5)]
    ray.get(refs)
    tasks = state.summarize_tasks()["cluster"]
    assert tasks["summary"]["echo"]["state_counts"]["FINISHED"] >= 5
    assert tasks["total_tasks"] >= 5
    ref = ray.put(np.zeros(50_000))
    sums = state.summarize_objects()["cluster"]
    assert sums["total_objects"] >= 6 and sums["total_size_mb"] > 0.3 and not sums["callsite_enabled"]
    table = state.memory_summary(units="KB")
    (line,) = [line for line in table.splitlines() if ref.hex() in line]
    assert "LOCAL_REFERENCE" in line and "KB" in line
    assert ref.hex() not in state.memory_summary(stats_only=True)
    with pytest.raises(ValueError, match="units must be one of B, KB"):
        state.memory_summary(units="kilos")


def test_call_sites_are_recorded_when_that_is_wanted():
    program = (
        "import orchestrator as ray\n"
        "from orchestrator.util import state\n"
        "ray.init(num_cpus=1)\n"
        "ref = ray.put(1)\n"
        "print(state.get_objects(ref.hex())[0].call_site)\n"
    )
    environment = {**os.environ, "ORCHESTRATOR_RECORD_CALL_SITES": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "<string>:4 in <module>", done.stderr


# -- timeline


def test_timeline(tmp_path):
    ray.get([echo.remote(i) for i in range(5)])
    file = tmp_path / "trace.json"
    assert ray.timeline(file) is None
    events = json.loads(file.read_text())
    runs = [event for event in events if event["ph"] == "X" and event["name"] == "echo"]
    assert len(runs) >= 5
    assert all(event["dur"] >= 0 and abs(event["ts"] / 1e6 - time.time()) < 3600 for event in runs)
    named = {event["pid"] for event in events if event["ph"] == "M"}
    assert {event["pid"] for event in runs} <= named


def test_calls_that_overlap_have_lanes_of_their_own(gate):
    @ray.remote(num_cpus=0)
    class Several:
        async def wait(self, gate):
            while not await gate.passable.remote():
                pass

    actor = Several.remote()
    refs = [actor.wait.remote(gate) for _ in range(3)]
    ids = {ref.task_id().hex() for ref in refs}
    until(lambda: all(states_of(ref)[0].startswith("RUNNING") for ref in refs))
    ray.get(gate.open.remote())
    ray.get(refs)
    lanes = [event["tid"] for event in ray.timeline() if event.get("args", {}).get("task_id") in ids]
    assert sorted(lanes) == [0, 1, 2]


def test_a_session_in_the_calling_process():
    program = (
        "import orchestrator as ray\n"
        "from orchestrator.util import state\n"
        "ray.init(mode='inline')\n"
        "@ray.remote\n"
        "def f(x): return x\n"
        "@ray.remote\n"
        "class A:\n"
        "    def m(self): return 1\n"
        "a = A.remote()\n"
        "refs = [f.remote(1), a.m.remote(), ray.put([ray.put(1)])]\n"
        "ray.get(refs)\n"
        "print(sorted(task.name for task in state.list_tasks()))\n"
        "print([actor.class_name for actor in state.list_actors()], len(state.list_workers()))\n"
        "print(state.get_objects(refs[2].hex())[0].reference_type, len(ray.timeline()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "['A.__init__', 'A.m', 'f']",
        "['A'] 1",
        "LOCAL_REFERENCE 4",
    ], done.stderr
