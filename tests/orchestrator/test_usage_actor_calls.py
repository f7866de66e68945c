"""Calls of actors: their order, their limits, their cancellation, and what a method can ask about itself."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import orchestrator as ray
from orchestrator.core.runtime import require
from orchestrator.exceptions import PendingCallsLimitExceeded, TaskCancelledError
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote(num_cpus=0)
def late(gate, value):
    """`value`, once the file is there."""
    until(gate.exists)
    return value


@ray.remote
class Log:
    def __init__(self):
        self.entries = []

    def add(self, entry):
        self.entries.append(entry)
        return entry

    def read(self):
        return self.entries


@ray.remote
class AsyncLog:
    def __init__(self):
        self.entries = []

    async def add(self, entry):
        self.entries.append(entry)
        return entry


class TestOrder:
    def test_other_callers_overtake_one_that_waits_for_an_argument(self, tmp_path):
        log = Log.remote()
        held_up = [log.add.remote(late.remote(tmp_path / "go", "first")), log.add.remote("second")]

        @ray.remote
        def other(log):
            return ray.get(log.add.remote("other"))

        assert ray.get(other.remote(log), timeout=20) == "other"
        (tmp_path / "go").touch()
        ray.get(held_up, timeout=20)
        assert ray.get(log.read.remote()) == ["other", "first", "second"]

    def test_actors_that_run_several_calls_let_them_pass(self, tmp_path):
        for log in (AsyncLog.remote(), Log.options(max_concurrency=2).remote()):
            gate = tmp_path / f"go{log._orchestrator_id.hex()}"
            first, second = log.add.remote(late.remote(gate, "first")), log.add.remote("second")
            assert ray.get(second, timeout=20) == "second"
            gate.touch()
            assert ray.get(first, timeout=20) == "first"

    def test_a_plain_actor_may_ask_for_that(self, tmp_path):
        log = Log.options(allow_out_of_order_execution=True).remote()
        log.add.remote(late.remote(tmp_path / "go", "first"))
        assert ray.get(log.add.remote("second"), timeout=20) == "second"

        @ray.remote
        def elsewhere(boxed, gate):
            boxed[0].add.remote(late.remote(gate, "third"))
            return ray.get(boxed[0].add.remote("fourth"), timeout=20)

        assert ray.get(elsewhere.remote([log], tmp_path / "never"), timeout=30) == "fourth"

    def test_order_cannot_be_had_where_calls_overlap(self):
        for make in (
            lambda: AsyncLog.options(allow_out_of_order_execution=False),
            lambda: Log.options(allow_out_of_order_execution=False, max_concurrency=2),
        ):
            with pytest.raises(ValueError, match="allow_out_of_order_execution=False"):
                make().remote()


class TestLimits:
    def test_of_pending_calls_hold_for_every_handle(self, tmp_path):
        @ray.remote(max_pending_calls=3)
        class Slow:
            def wait(self):
                until((tmp_path / "go").exists)

        slow = Slow.remote()

        @ray.remote(num_cpus=0)
        def flood(boxed):
            accepted = []
            try:
                for _ in range(10):
                    accepted.append(boxed[0].wait.remote())
            except PendingCallsLimitExceeded as error:
                return len(accepted), str(error)

        count, text = ray.get(flood.remote([slow]), timeout=20)
        assert count == 3 and "max_pending_calls" in text
        mine = [slow.wait.remote() for _ in range(3)]
        with pytest.raises(PendingCallsLimitExceeded):
            slow.wait.remote()
        (tmp_path / "go").touch()
        ray.get(mine, timeout=20)

    def test_thousands_of_calls_behind_a_slow_one_are_warned_about(self, tmp_path, capfd):
        log = Log.remote()
        waiting = log.add.remote(late.remote(tmp_path / "go", 0))
        refs = [log.add.remote(i) for i in range(1, 5100)]
        assert "calls of actor Log" in capfd.readouterr().err
        (tmp_path / "go").touch()
        assert ray.get([waiting, *refs], timeout=60) == list(range(5100))
        assert "calls of actor Log" not in capfd.readouterr().err, "once, not for each"

    def test_a_concurrency_group_has_its_own(self):
        @ray.remote(concurrency_groups={"io": 2}, max_concurrency=1)
        class Async:
            def __init__(self):
                self.open = asyncio.Event()
                self.inside = 0

            async def wait(self):
                await self.open.wait()
                return "waited"

            @ray.method(concurrency_group="io")
            async def gauge(self):
                self.inside += 1
                highest = self.inside
                await asyncio.sleep(0.005)
                self.inside -= 1
                return highest

            @ray.method(concurrency_group="io")
            async def release(self):
                self.open.set()

        actor = Async.remote()
        waiting = [actor.wait.remote() for _ in range(3)]
        # The default group is full; the other one serves on, two at a time.
        assert max(ray.get([actor.gauge.remote() for _ in range(20)], timeout=20)) == 2
        ray.get(actor.release.remote(), timeout=20)
        assert ray.get(waiting, timeout=20) == ["waited"] * 3

    def test_a_group_is_chosen_by_call_too(self):
        @ray.remote(concurrency_groups={"io": 1})
        class Threads:
            def name(self):
                return threading.current_thread().name

        actor = Threads.remote()
        assert "calls" in ray.get(actor.name.remote())
        assert "io" in ray.get(actor.name.options(concurrency_group="io").remote())

    def test_a_group_that_is_not_there(self):
        @ray.remote(concurrency_groups={"io": 1})
        class Wrong:
            @ray.method(concurrency_group="oi")
            def method(self):
                pass

            def other(self):
                pass

        with pytest.raises(ValueError, match=r"Wrong\.method.*no concurrency group 'oi'.*'io'"):
            Wrong.remote()
        with pytest.raises(ValueError, match="no concurrency group 'disk'"):
            Log.remote().read.options(concurrency_group="disk")
        with pytest.raises(ValueError, match="concurrency_groups belong to the class"):
            Log.options(concurrency_groups={"io": 1})

    def test_options_of_a_call_keep_those_of_the_method(self):
        @ray.remote(concurrency_groups={"io": 1})
        class Threads:
            @ray.method(concurrency_group="io", num_returns=2)
            def name(self):
                return threading.current_thread().name, 1

        first, _ = Threads.remote().name.options(name="other").remote()
        assert "io" in ray.get(first)


class TestCancelling:
    def test_a_queued_call_never_runs(self, tmp_path):
        log = Log.remote()
        first = log.add.remote(late.remote(tmp_path / "go", "first"))
        queued = log.add.remote("second")
        ray.cancel(queued)
        with pytest.raises(TaskCancelledError):
            ray.get(queued, timeout=20)
        (tmp_path / "go").touch()
        ray.get(first, timeout=20)
        assert ray.get(log.read.remote()) == ["first"]

    def test_one_that_waits_for_its_arguments_holds_up_nobody_any_more(self, tmp_path):
        log = Log.remote()
        first = log.add.remote(late.remote(tmp_path / "never", "first"))
        second = log.add.remote("second")
        ray.cancel(first)
        assert ray.get(second, timeout=20) == "second"

    @pytest.mark.parametrize("max_concurrency", [1, 2])
    def test_a_running_method_is_told_and_its_caller_waits_no_longer(self, tmp_path, max_concurrency):
        @ray.remote
        class Patient:
            def work(self):
                (tmp_path / "began").touch()
                until(lambda: ray.get_runtime_context().is_canceled())
                (tmp_path / "stopped").touch()

            def ping(self):
                return ray.get_runtime_context().is_canceled()

        patient = Patient.options(max_concurrency=max_concurrency).remote()
        working = patient.work.remote()
        until((tmp_path / "began").exists)
        ray.cancel(working)
        with pytest.raises(TaskCancelledError):
            ray.get(working, timeout=20)
        until((tmp_path / "stopped").exists)
        assert ray.get(patient.ping.remote(), timeout=20) is False

    def test_force_is_refused(self):
        log = Log.remote()
        with pytest.raises(ValueError, match="kill"):
            ray.cancel(log.add.remote(late.remote(threading, 0)), force=True)

    @pytest.mark.parametrize("kind", ["plain", "threaded", "async"])
    def test_what_a_method_has_submitted_goes_with_it(self, tmp_path, kind):
        @ray.remote(num_cpus=0)
        def child(path):
            try:
                path.touch()
                time.sleep(1000)
            except KeyboardInterrupt:
                path.with_suffix(".stopped").touch()
                raise

        class Parent:
            def run(self, path):
                return ray.get(child.remote(path))

        class AsyncParent:
            async def run(self, path):
                return await child.remote(path)

        if kind == "async":
            parent = ray.remote(AsyncParent).remote()
        else:
            parent = ray.remote(Parent).options(max_concurrency=1 if kind == "plain" else 3).remote()
        doomed, other = parent.run.remote(tmp_path / "doomed"), None
        until((tmp_path / "doomed").exists)
        if kind != "plain":
            other = parent.run.remote(tmp_path / "other")
            until((tmp_path / "other").exists)
        ray.cancel(doomed)
        until((tmp_path / "doomed.stopped").exists)
        with pytest.raises(TaskCancelledError):
            ray.get(doomed, timeout=20)
        # Only its own children: the other call's goes on.
        assert not (tmp_path / "other.stopped").exists()
        if other is not None:
            ray.cancel(other)
            until((tmp_path / "other.stopped").exists)

    def test_the_child_of_a_method_may_be_a_call(self, tmp_path):
        @ray.remote
        class Sleeper:
            async def sleep(self):
                try:
                    (tmp_path / "asleep").touch()
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    (tmp_path / "woken").touch()
                    raise

        @ray.remote(max_concurrency=2)
        class Parent:
            def run(self, boxed):
                return ray.get(boxed[0].sleep.remote())

        parent = Parent.remote()
        call = parent.run.remote([Sleeper.remote()])
        until((tmp_path / "asleep").exists)
        ray.cancel(call)
        until((tmp_path / "woken").exists)

    def test_not_recursively(self, tmp_path):
        @ray.remote(num_cpus=0)
        def child():
            (tmp_path / "began").touch()
            until((tmp_path / "go").exists)
            (tmp_path / "done").touch()

        @ray.remote
        class Parent:
            async def run(self):
                return await child.remote()

        parent = Parent.remote()
        call = parent.run.remote()
        until((tmp_path / "began").exists)
        ray.cancel(call, recursive=False)
        with pytest.raises(TaskCancelledError):
            ray.get(call, timeout=20)
        (tmp_path / "go").touch()
        until((tmp_path / "done").exists)


class TestAsyncActors:
    def test_one_coroutine_makes_the_actor_async_and_its_plain_methods_hold_up_the_loop(self, tmp_path):
        @ray.remote
        class Mixed:
            def __init__(self):
                self.ticks = 0

            async def tick(self):
                for _ in range(1000):
                    await asyncio.sleep(0)
                    self.ticks += 1

            def thread(self):
                return threading.current_thread() is threading.main_thread()

            def hold(self, gate):
                before = self.ticks
                until(gate.exists)
                return self.ticks - before

        mixed = Mixed.remote()
        many = [mixed.tick.remote() for _ in range(20)]
        assert ray.get(mixed.thread.remote(), timeout=20), "one thread runs everything"
        held = mixed.hold.remote(tmp_path / "go")
        (tmp_path / "go").touch()
        assert ray.get(held, timeout=20) == 0
        ray.get(many, timeout=60)

    def test_a_thousand_calls_run_at_a_time_and_no_more(self):
        @ray.remote
        class Crowd:
            def __init__(self):
                self.inside = self.highest = 0
                self.open = asyncio.Event()

            async def enter(self, number):
                self.inside += 1
                self.highest = max(self.highest, self.inside)
                if self.inside == 1000:
                    self.open.set()
                await self.open.wait()
                self.inside -= 1
                return self.highest

        crowd = Crowd.remote()
        assert max(ray.get([crowd.enter.remote(i) for i in range(1500)], timeout=60)) == 1000


class TestWhatAMethodKnows:
    @pytest.mark.parametrize("kind", ["plain", "threaded", "async"])
    def test_its_name_and_its_task(self, kind):
        class Plain:
            def facts(self):
                context = ray.get_runtime_context()
                return context.get_task_name(), context.get_task_id()

        class Async:
            async def facts(self):
                await asyncio.sleep(0)
                context = ray.get_runtime_context()
                return context.get_task_name(), context.get_task_id()

        cls = ray.remote(Async if kind == "async" else Plain)
        actor = cls.options(max_concurrency=4 if kind != "plain" else 1).remote()
        facts = ray.get([actor.facts.remote() for _ in range(8)], timeout=20)
        assert {name for name, _ in facts} == {f"{cls.__name__}.facts"}
        assert len({task for _, task in facts}) == 8, "each call is a task of its own"

    def test_get_inside_an_async_actor_is_warned_about(self, capfd):
        @ray.remote
        def slow():
            time.sleep(0.05)

        @ray.remote
        class Blocking:
            async def wait(self):
                ray.get(slow.remote())

        ray.get(Blocking.remote().wait.remote(), timeout=20)
        warning = "get() or wait() inside async actor"
        printed = []
        until(lambda: printed.append(capfd.readouterr().err) or warning in "".join(printed))

    def test_run_a_function_of_the_caller_with_the_instance(self):
        log = Log.remote()
        ray.get([log.__ray_ready__.remote(), log.add.remote("entry")])
        count = log.__ray_call__.remote(lambda self, extra: len(self.entries) + extra, 10)
        assert ray.get(count, timeout=20) == 11


def test_a_process_forgets_actors_it_has_no_handles_of():
    records = require().actors._records
    before = len(records)
    for _ in range(10):
        log = Log.remote()
        ray.get(log.add.remote(1))
        del log
    ray.get(Log.remote().add.remote(1))
    until(lambda: (require().tick(), len(records) <= before)[1])
