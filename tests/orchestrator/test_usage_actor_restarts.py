"""Actors that die and come back: `max_restarts`, `max_task_retries`, and what callers see meanwhile."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

import orchestrator as ray
from orchestrator.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
class Counter:
    def __init__(self, *start):
        self.value = sum(start)

    def increment(self):
        self.value += 1
        return self.value

    def pid(self):
        return os.getpid()

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def reconstructed(self):
        return ray.get_runtime_context().was_current_actor_reconstructed

    def die_once(self, marker):
        """Die unless this has run before."""
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "survived"

    def fail_until(self, marker, times):
        """Raise the first `times` times."""
        with marker.open("a") as file:
            file.write("x")
        if len(marker.read_text()) <= times:
            raise KeyError("not yet")
        return len(marker.read_text())

    def hold(self, gate):
        until(gate.exists)
        return os.getpid()


class TestRestarts:
    def test_the_constructor_runs_again_with_the_original_arguments(self):
        counter = Counter.options(max_restarts=1).remote(10, 20)
        first = ray.get([counter.increment.remote(), counter.pid.remote(), counter.reconstructed.remote()])
        assert first[0] == 31 and first[2] is False
        os.kill(first[1], signal.SIGKILL)
        until(lambda: served_by_another(counter, first[1]))
        assert ray.get(counter.increment.remote()) == 31, "its state is lost"
        assert ray.get(counter.reconstructed.remote()) is True

    def test_arguments_live_as_long_as_the_actor(self):
        import numpy as np

        @ray.remote
        class Summing:
            def __init__(self, array, boxed):
                self.sum = float(array.sum()) + float(ray.get(boxed[0]).sum())

            def value(self):
                return self.sum, os.getpid()

        outer, inner = ray.put(np.ones(100_000)), ray.put(np.ones(200_000))
        actor = Summing.options(max_restarts=-1).remote(outer, [inner])
        del outer, inner
        for _ in range(3):
            value, pid = ray.get(actor.value.remote())
            assert value == 300_000
            os.kill(pid, signal.SIGKILL)
            until(lambda killed=pid: served_by_another(actor, killed))

    def test_without_restarts_it_stays_dead(self):
        counter = Counter.remote()
        with pytest.raises(ActorDiedError, match="SIGKILL") as caught:
            ray.get(counter.die.remote())
        assert caught.value.actor_id and not caught.value.actor_init_failed and not caught.value.preempted

    def test_when_the_restarts_are_used_up_it_stays_dead(self):
        counter = Counter.options(max_restarts=2).remote()
        for _ in range(2):
            with pytest.raises(ActorUnavailableError):
                ray.get(counter.die.remote())
        with pytest.raises(ActorDiedError, match="restarted 2 times"):
            ray.get(counter.die.remote())
        with pytest.raises(ActorDiedError):
            ray.get(counter.increment.remote())

    def test_a_name_stays_with_the_actor(self):
        counter = Counter.options(name="phoenix", max_restarts=1).remote()
        with pytest.raises(ActorUnavailableError):
            ray.get(counter.die.remote())
        assert ray.get_actor("phoenix") == counter
        assert ray.get(counter.increment.remote()) == 1

    def test_every_process_with_a_handle_finds_the_restarted_actor(self):
        counter = Counter.options(max_restarts=1).remote()

        @ray.remote
        class Caller:
            def __init__(self, counter):
                self.counter = counter

            def call(self):
                return ray.get(self.counter.increment.remote())

        caller = Caller.remote(counter)
        assert ray.get(caller.call.remote()) == 1
        with pytest.raises(ActorUnavailableError):
            ray.get(counter.die.remote())
        assert ray.get(caller.call.remote(), timeout=20) == 1

    def test_async_and_threaded_actors_too(self):
        @ray.remote(max_restarts=1)
        class Async:
            async def pid(self):
                return os.getpid()

        for actor in (Async.remote(), Counter.options(max_restarts=1, max_concurrency=3).remote()):
            pid = ray.get(actor.pid.remote())
            os.kill(pid, signal.SIGKILL)
            until(lambda actor=actor, pid=pid: served_by_another(actor, pid))

    def test_graceful_ends_are_no_accidents(self):
        @ray.remote(max_restarts=-1)
        class Quitter:
            def leave(self):
                ray.exit_actor()

        quitter = Quitter.remote()
        with pytest.raises(ActorDiedError, match="exit_actor"):
            ray.get(quitter.leave.remote())
        with pytest.raises(ActorDiedError):
            ray.get(quitter.leave.remote(), timeout=20)

    def test_a_constructor_that_raises_is_not_tried_again(self, tmp_path):
        runs = tmp_path / "runs"

        @ray.remote(max_restarts=-1)
        class Broken:
            def __init__(self):
                with runs.open("a") as file:
                    file.write("x")
                raise RuntimeError("cannot start")

            def method(self):
                pass

        with pytest.raises(ActorDiedError, match="cannot start") as caught:
            ray.get(Broken.remote().method.remote())
        assert caught.value.actor_init_failed and runs.read_text() == "x"

    def test_a_process_that_dies_in_the_constructor_is_replaced(self, tmp_path):
        marker = tmp_path / "was here"

        @ray.remote(max_restarts=1)
        class Slippery:
            def __init__(self):
                if not marker.exists():
                    marker.touch()
                    os._exit(7)

            def method(self):
                return "up"

        assert ray.get(Slippery.remote().method.remote(), timeout=20) == "up"

    def test_before_its_arguments_are_there(self, tmp_path):
        gate = tmp_path / "gate"

        @ray.remote(num_cpus=0)
        def late():
            until(gate.exists)
            return 5

        counter = Counter.options(name="early bird", max_restarts=1).remote(late.remote())
        call = counter.increment.remote()
        process = until(lambda: worker_of(counter))
        os.kill(process, signal.SIGKILL)
        until(lambda: worker_of(counter) not in (None, process))
        gate.touch()
        assert ray.get(call, timeout=20) == 6

    def test_it_dies_with_its_handles_also_when_it_was_restarted(self):
        counter = Counter.options(max_restarts=-1).remote()
        first = ray.get(counter.pid.remote())
        os.kill(first, signal.SIGKILL)
        until(partial(served_by_another, counter, first))
        second = ray.get(counter.pid.remote())
        del counter
        until(lambda: not os.path.exists(f"/proc/{second}"))


def worker_of(actor):
    """The pid of an actor's process, from the node; None if it has none now."""
    node = ray.get_runtime_context()._runtime.node
    for known in node.ask({"op": "list_actors"})["actors"]:
        if known["actor"] == actor._orchestrator_id.hex() and known["worker"]:
            workers = node.ask({"op": "resources"})["workers"]
            return next((w["pid"] for w in workers if w["worker"] == known["worker"]), None)
    return None


def served_by_another(actor, pid):
    try:
        return ray.get(actor.pid.remote() if hasattr(actor, "pid") else actor.value.remote()) != pid
    except ActorUnavailableError:
        return False


class TestKill:
    def test_kill_without_no_restart_is_an_accident(self):
        counter = Counter.options(max_restarts=1).remote()
        pid = ray.get(counter.pid.remote())
        ray.kill(counter, no_restart=False)
        until(lambda: served_by_another(counter, pid))
        ray.kill(counter, no_restart=False)
        with pytest.raises(ActorDiedError, match="kill"):
            until(lambda: ray.get(counter.increment.remote()) is None)

    def test_kill_is_final_whatever_restarts_are_left(self):
        counter = Counter.options(max_restarts=-1).remote()
        pid = ray.get(counter.pid.remote())
        ray.kill(counter)
        with pytest.raises(ActorDiedError, match="kill"):
            ray.get(counter.increment.remote())
        until(lambda: not os.path.exists(f"/proc/{pid}"))
        assert worker_of(counter) is None


class TestCallsOfADyingActor:
    def test_a_call_that_was_under_way_may_or_may_not_have_run(self):
        counter = Counter.options(max_restarts=1).remote()
        with pytest.raises(ActorUnavailableError, match=r"may or may not have run.*SIGKILL") as caught:
            ray.get(counter.die.remote())
        assert len(caught.value.actor_id) == 32

    def test_calls_it_had_not_taken_go_to_the_next_process_in_order(self):
        counter = Counter.options(max_restarts=1).remote()
        ray.get(counter.pid.remote())
        dying = counter.die.remote()
        later = [counter.increment.remote() for _ in range(50)]
        with pytest.raises(ActorUnavailableError):
            ray.get(dying)
        assert ray.get(later, timeout=20) == list(range(1, 51))

    def test_calls_made_meanwhile_wait_for_the_restart(self):
        counter = Counter.options(max_restarts=1).remote()
        with pytest.raises(ActorUnavailableError):
            ray.get(counter.die.remote())
        assert ray.get([counter.increment.remote() for _ in range(5)], timeout=20) == [1, 2, 3, 4, 5]

    def test_waiting_for_a_restart_is_explained(self, tmp_path):
        gate, marker = tmp_path / "gate", tmp_path / "marker"

        @ray.remote(max_restarts=1)
        class Slow:
            def __init__(self):
                if marker.exists():
                    until(gate.exists)
                marker.touch()

            def die(self):
                os._exit(1)

            def ping(self):
                return "up"

        slow = Slow.remote()
        with pytest.raises(ActorUnavailableError):
            ray.get(slow.die.remote())
        ping = slow.ping.remote()
        with pytest.raises(GetTimeoutError, match="waiting for its actor to be restarted"):
            ray.get(ping, timeout=0.05)
        gate.touch()
        assert ray.get(ping, timeout=20) == "up"


class TestMethodRetries:
    def test_for_all_methods_of_an_actor(self, tmp_path):
        counter = Counter.options(max_restarts=1, max_task_retries=1).remote()
        assert ray.get(counter.die_once.remote(tmp_path / "marker"), timeout=20) == "survived"

    def test_for_one_call(self, tmp_path):
        counter = Counter.options(max_restarts=1).remote()
        call = counter.die_once.options(max_task_retries=1).remote(tmp_path / "marker")
        assert ray.get(call, timeout=20) == "survived"

    def test_the_nearest_declaration_wins(self, tmp_path):
        @ray.remote(max_restarts=-1, max_task_retries=-1)
        class Actor:
            @ray.method(max_task_retries=0)
            def once(self):
                os._exit(1)

            @ray.method(max_task_retries=2)
            def count(self, path):
                with path.open("a") as file:
                    file.write("x")
                os._exit(1)

        actor = Actor.remote()
        with pytest.raises(ActorUnavailableError):
            ray.get(actor.once.remote(), timeout=20)
        with pytest.raises(ActorUnavailableError):
            ray.get(actor.count.remote(tmp_path / "three"), timeout=20)
        assert (tmp_path / "three").read_text() == "xxx"
        with pytest.raises(ActorUnavailableError):
            ray.get(actor.count.options(max_task_retries=0).remote(tmp_path / "one"), timeout=20)
        assert (tmp_path / "one").read_text() == "x"

    def test_when_the_restarts_are_used_up_retries_do_not_help(self):
        counter = Counter.options(max_restarts=1, max_task_retries=-1).remote()
        with pytest.raises(ActorDiedError):
            ray.get(counter.die.remote(), timeout=20)

    def test_generators_begin_again(self, tmp_path):
        @ray.remote(max_restarts=1, max_task_retries=1)
        class Source:
            def items(self):
                for i in range(5):
                    if i == 3 and not (tmp_path / "died").exists():
                        (tmp_path / "died").touch()
                        os._exit(1)
                    yield i

        source = Source.remote()
        assert [ray.get(ref) for ref in source.items.remote()] == [0, 1, 2, 3, 4]

    def test_exceptions_are_retried_on_request(self, tmp_path):
        counter = Counter.remote()
        retried = counter.fail_until.options(max_task_retries=3, retry_exceptions=True)
        assert ray.get(retried.remote(tmp_path / "a", 2)) == 3
        with pytest.raises(KeyError, match="not yet"):
            ray.get(retried.remote(tmp_path / "b", 10))
        assert (tmp_path / "b").read_text() == "xxxx"

    def test_only_those_that_are_listed(self, tmp_path):
        counter = Counter.remote()
        listed = counter.fail_until.options(max_task_retries=-1, retry_exceptions=[LookupError])
        assert ray.get(listed.remote(tmp_path / "a", 2)) == 3
        other = counter.fail_until.options(max_task_retries=-1, retry_exceptions=[ValueError])
        with pytest.raises(KeyError):
            ray.get(other.remote(tmp_path / "b", 2))

    def test_without_max_task_retries_nothing_is_retried(self, tmp_path):
        counter = Counter.remote()
        with pytest.raises(KeyError):
            ray.get(counter.fail_until.options(retry_exceptions=True).remote(tmp_path / "a", 1))

    def test_what_is_no_number_of_retries_is_refused(self):
        with pytest.raises(ValueError, match="max_restarts must be >= -1"):
            Counter.options(max_restarts=-2)
        with pytest.raises(TypeError, match="max_task_retries must be an int"):
            Counter.options(max_task_retries="3")
        with pytest.raises(TypeError, match="exception classes"):
            ray.method(retry_exceptions=["ValueError"])


class TestDetachedActors:
    def test_it_outlives_its_creator_and_its_handles(self):
        @ray.remote
        def create():
            Counter.options(name="detached", lifetime="detached", max_restarts=1).remote(100)
            return os.getpid()

        creator = ray.get(create.remote())
        try:
            os.kill(creator, signal.SIGKILL)
        except ProcessLookupError:
            pass
        until(lambda: not os.path.exists(f"/proc/{creator}"))
        counter = ray.get_actor("detached")
        assert ray.get(counter.increment.remote()) == 101
        # It is restarted without the process that had made it, and without a handle anywhere.
        pid = ray.get(counter.pid.remote())
        del counter
        os.kill(pid, signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{pid}"))
        again = ray.get_actor("detached")
        assert ray.get(again.increment.remote(), timeout=20) == 101
        ray.kill(again)
        with pytest.raises(ValueError, match="detached"):
            until(lambda: ray.get_actor("detached") is None)
