"""What is special about `init(mode="inline")`. That it does what processes do, the suite of usage shows."""

from __future__ import annotations

import asyncio
import bdb
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.exceptions import ActorDiedError, DeadlockError, TaskCancelledError, TaskError


@pytest.fixture(autouse=True)
def inline_session() -> Iterator[None]:
    ray.init(num_cpus=2, mode="inline")
    yield
    ray.shutdown()


class TestProgramOrder:
    def test_a_task_has_run_when_remote_returns(self):
        ran = []

        @ray.remote
        def note(out, what):
            import builtins

            builtins.noted = what
            return len(out)

        ref = note.remote(ran, "here")
        import builtins

        assert builtins.noted == "here" and ref.done() and ray.get(ref) == 0
        del builtins.noted

    def test_everything_is_on_the_callers_stack(self):
        @ray.remote
        def inner():
            return os.getpid(), threading.get_ident()

        @ray.remote
        class Outer:
            def ask(self):
                return ray.get(inner.remote())

        assert ray.get(Outer.remote().ask.remote()) == (os.getpid(), threading.get_ident())

    def test_a_generator_runs_as_far_as_it_is_read(self, tmp_path):
        @ray.remote
        def steps():
            for number in range(3):
                (tmp_path / str(number)).touch()
                yield number

        items = steps.remote()
        assert len(list(tmp_path.iterdir())) == 1
        next(items)
        assert len(list(tmp_path.iterdir())) == 1
        next(items)
        assert len(list(tmp_path.iterdir())) == 2

    def test_an_actors_generator_ends_before_its_next_call_begins(self):
        @ray.remote
        class Log:
            def __init__(self):
                self.lines = []

            def write(self, n):
                for number in range(n):
                    self.lines.append(number)
                    yield number

            def read(self):
                return self.lines

        log = Log.remote()
        items = log.write.remote(3)
        assert ray.get(log.read.remote()) == [0, 1, 2]
        assert [ray.get(item) for item in items] == [0, 1, 2]

    def test_a_task_waits_for_what_an_async_actor_still_does(self):
        @ray.remote
        class Slow:
            async def value(self):
                await asyncio.sleep(0.02)
                return 4

        @ray.remote
        def double(x):
            return 2 * x

        ref = double.remote(Slow.remote().value.remote())
        assert ref.done() and ray.get(ref) == 8


class TestTheSameResults:
    def test_arguments_and_results_are_copies(self):
        given = [1, 2]

        @ray.remote
        def append(items):
            items.append(3)
            return items

        assert ray.get(append.remote(given)) == [1, 2, 3] and given == [1, 2]

    def test_arrays_are_read_only(self):
        for size in (10, 1_000_000):
            with pytest.raises(ValueError, match="read-only"):
                ray.get(ray.put(np.zeros(size)))[0] = 1

    def test_memory_is_free_with_the_last_reference(self):
        from orchestrator.core.runtime import require

        used = lambda: require().store.stats()["used_bytes"]  # noqa: E731
        before = used()
        ref = ray.put([ray.put(np.zeros(100_000))])
        assert used() > before + 800_000
        del ref
        assert used() == before

    def test_a_cancelled_generator_raises(self):
        @ray.remote
        def endless():
            while True:
                yield 1

        items = endless.remote()
        ray.get(next(items))
        ray.cancel(items)
        with pytest.raises(TaskCancelledError):
            ray.get(next(items))


class TestActors:
    def test_kill(self):
        @ray.remote
        class Counter:
            def one(self):
                return 1

        counter = Counter.options(name="counter").remote()
        assert ray.get(counter.one.remote()) == 1
        ray.kill(counter)
        with pytest.raises(ActorDiedError, match="kill"):
            ray.get(counter.one.remote())
        assert ray.get(Counter.options(name="counter").remote().one.remote()) == 1

    def test_kill_ends_what_an_async_actor_does(self):
        @ray.remote
        class Sleeper:
            async def sleep(self):
                await asyncio.sleep(1000)

        sleeper = Sleeper.remote()
        ref = sleeper.sleep.remote()
        ray.kill(sleeper)
        with pytest.raises(ActorDiedError, match="kill"):
            ray.get(ref)

    @pytest.mark.parametrize("how", ["handles", "terminate"])
    def test_the_end_runs_the_hook(self, tmp_path, how):
        @ray.remote
        class Closer:
            def ping(self):
                return 1

            def __ray_shutdown__(self):
                (tmp_path / "closed").touch()

        closer = Closer.remote()
        ray.get(closer.ping.remote())
        if how == "terminate":
            closer.__ray_terminate__.remote()
        else:
            del closer
        assert (tmp_path / "closed").exists()

    def test_a_call_of_its_own_waits_for_the_method_that_made_it(self):
        @ray.remote
        class Selfish:
            def __init__(self):
                self.calls = []

            def outer(self, me):
                ref = me.inner.remote()
                self.calls.append("outer")
                return [ref]

            def inner(self):
                self.calls.append("inner")
                return self.calls

        actor = Selfish.remote()
        (ref,) = ray.get(actor.outer.remote(actor))
        assert ray.get(ref) == ["outer", "inner"]

    def test_waiting_for_oneself_is_an_error_instead_of_for_ever(self):
        @ray.remote
        class Selfish:
            def outer(self, me):
                return ray.get(me.inner.remote())

            def inner(self):
                return 1

        actor = Selfish.remote()
        with pytest.raises(DeadlockError, match="neither would ever go on"):
            ray.get(actor.outer.remote(actor))
        assert ray.get(actor.inner.remote()) == 1


class TestDebugging:
    def test_a_debugger_stops_inside_a_task(self):
        program = (
            "import orchestrator as ray\n"
            "@ray.remote\n"
            "def f(x):\n"
            "    y = x + 1\n"
            "    breakpoint()\n"
            "    return y\n"
            "ray.init(mode='inline')\n"
            "print('result', ray.get(f.remote(41)))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], input="p y\nc\n", capture_output=True, text=True, timeout=60
        )
        assert "(Pdb) 42" in done.stdout and "result 42" in done.stdout, done.stderr

    def test_quitting_the_debugger_ends_the_program(self):
        @ray.remote
        def f():
            raise bdb.BdbQuit

        with pytest.raises(bdb.BdbQuit):
            f.remote()
        assert ray.is_initialized()

    def test_ctrl_c_is_for_the_program(self):
        @ray.remote
        def f():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            f.remote()

    def test_an_error_is_raised_by_get_with_its_traceback(self):
        @ray.remote
        def fail():
            raise KeyError("missing")

        ref = fail.remote()
        with pytest.raises(KeyError) as caught:
            ray.get(ref)
        assert isinstance(caught.value, TaskError) and "raise KeyError" in str(caught.value)


class TestChoosing:
    def test_an_unknown_mode(self):
        ray.shutdown()
        with pytest.raises(ValueError, match="'processes', 'inline'"):
            ray.init(mode="threads")

    def test_no_process_is_started(self):
        children = subprocess.run(
            ["ps", "--ppid", str(os.getpid()), "-o", "pid="], capture_output=True, text=True
        )
        assert len(children.stdout.split()) == 1, "ps itself"


class TestLocal:
    def test_local_runs_the_call_here_with_references_replaced(self):
        @ray.remote
        def add(a, b=0):
            return a + b, os.getpid()

        assert add.local(ray.put(1), b=ray.put(2)) == (3, os.getpid())
        assert add(1, 2) == (3, os.getpid())

    def test_local_needs_no_session_and_raises_what_the_function_raises(self):
        ray.shutdown()

        @ray.remote
        def fail():
            raise KeyError("as it is")

        with pytest.raises(KeyError) as caught:
            fail.local()
        assert not isinstance(caught.value, TaskError)
        assert not ray.is_initialized()


def test_a_task_may_ask_for_memory_and_for_the_node_by_its_name() -> None:
    def one() -> int:
        return 1

    asked = ray.remote(one).options(memory=1 << 40, resources={"node:__internal_head__": 0.001})
    assert ray.get(asked.remote()) == 1
