"""How actors are used."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

import orchestrator as ray
from orchestrator.exceptions import ActorAlreadyExistsError, ActorDiedError, TaskCancelledError
from tests.waiting import until

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.both_modes]


@ray.remote
class Counter:
    def __init__(self, start=0):
        self.value = start

    def increment(self, by=1):
        self.value += by
        return self.value

    def fail(self):
        raise ValueError("on purpose")

    def pid(self):
        return os.getpid()

    def items(self, n):
        yield from range(n)

    @ray.method(num_returns=2)
    def pair(self):
        return 1, 2


@ray.remote
class Shelf:
    """A class with special methods."""

    def __init__(self):
        self.items = {}

    def __setitem__(self, key, value):
        self.items[key] = value

    def __getitem__(self, key):
        return self.items[key]

    def __len__(self):
        return len(self.items)

    def __contains__(self, key):
        return key in self.items

    def __getattr__(self, name):
        raise AttributeError(name)


class TestSpecialMethods:
    def test_are_called_by_name_like_others(self):
        shelf = Shelf.remote()
        ray.get(shelf.__setitem__.remote("a", 1))
        assert ray.get([shelf.__getitem__.remote("a"), shelf.__len__.remote()]) == [1, 1]
        assert ray.get(shelf.__contains__.remote("b")) is False

    def test_a_handle_has_those_of_a_handle(self):
        shelf = Shelf.remote()
        assert shelf == shelf and "ActorHandle(Shelf" in repr(shelf)
        with pytest.raises(TypeError):
            len(shelf)
        with pytest.raises(AttributeError, match="has no method '__delitem__'"):
            shelf.__delitem__


class TestAClassMadeAnActor:
    def test_its_state_lives_in_one_process(self):
        counter = Counter.remote(10)
        assert ray.get([counter.increment.remote() for _ in range(5)]) == [11, 12, 13, 14, 15]

    @pytest.mark.not_inline("there are no other processes")
    def test_that_process_is_not_this_one(self):
        assert ray.get(Counter.remote().pid.remote()) != os.getpid()

    def test_two_actors_do_not_share_state(self):
        a, b = Counter.remote(), Counter.remote()
        ray.get([a.increment.remote(), a.increment.remote()])
        assert ray.get(b.increment.remote()) == 1

    def test_calls_run_in_the_order_they_were_made(self):
        counter = Counter.remote()
        refs = [counter.increment.remote(i) for i in range(500)]
        assert ray.get(refs[-1]) == sum(range(500))

    @pytest.mark.not_inline("a task that waits for what its caller does next would wait for ever")
    def test_a_late_argument_holds_up_the_calls_behind_it(self, tmp_path):
        @ray.remote
        def later():
            import time

            while not (tmp_path / "go").exists():
                time.sleep(0.005)
            return 100

        counter = Counter.remote()
        first, second = counter.increment.remote(later.remote()), counter.increment.remote(1)
        (tmp_path / "go").touch()
        assert ray.get([first, second], timeout=20) == [100, 101]

    def test_an_exception_leaves_the_actor_usable(self):
        counter = Counter.remote()
        with pytest.raises(ValueError, match="on purpose"):
            ray.get(counter.fail.remote())
        assert ray.get(counter.increment.remote()) == 1

    def test_several_results_and_generators(self):
        counter = Counter.remote()
        assert ray.get(counter.pair.remote()) == [1, 2]
        assert [ray.get(ref) for ref in counter.items.remote(3)] == [0, 1, 2]

    def test_the_class_is_still_a_class(self):
        assert Counter(5).increment() == 6

        class Twice(Counter):
            def increment(self, by=1):
                return super().increment(2 * by)

        assert ray.get(Twice.remote().increment.remote(2)) == 4

    def test_a_call_without_keeping_the_handle(self):
        assert ray.get(Counter.remote(1).increment.remote()) == 2


class TestHandles:
    def test_methods_may_have_any_name(self):
        @ray.remote
        class Lock:
            def hold(self):
                return "held"

            def runtime(self):
                return "own"

        lock = Lock.remote()
        assert ray.get([lock.hold.remote(), lock.runtime.remote()]) == ["held", "own"]

    def test_passed_to_tasks_and_kept_in_objects(self):
        @ray.remote
        def use(counter, boxed):
            return ray.get([counter.increment.remote(), boxed[0].increment.remote()])

        counter = Counter.remote()
        assert ray.get(use.remote(counter, [counter]), timeout=20) == [1, 2]
        boxed = ray.put([counter])
        assert ray.get(ray.get(boxed)[0].increment.remote()) == 3

    def test_methods_are_known(self):
        counter = Counter.remote()
        assert "increment" in dir(counter)
        with pytest.raises(AttributeError, match=r"no method 'incremnt'.*increment"):
            counter.incremnt
        with pytest.raises(TypeError, match=r"\.remote"):
            counter.increment()
        with pytest.raises(TypeError, match="unexpected keyword"):
            counter.increment.remote(wrong=1)

    @pytest.mark.not_inline("looks for its process")
    def test_an_actor_ends_when_its_last_handle_goes(self):
        counter = Counter.remote()
        pid = ray.get(counter.pid.remote())
        del counter
        until(lambda: is_gone(pid))

    def test_pending_calls_are_finished_first(self, tmp_path):
        @ray.remote
        class Writer:
            def write(self, i):
                (tmp_path / str(i)).touch()

        writer = Writer.remote()
        refs = [writer.write.remote(i) for i in range(50)]
        del writer
        ray.get(refs, timeout=20)
        assert len(list(tmp_path.iterdir())) == 50


def is_gone(pid):
    return not os.path.exists(f"/proc/{pid}")


class TestNamedActors:
    def test_found_by_name_from_anywhere(self):
        keeper = Counter.options(name="keeper").remote(7)

        @ray.remote
        def ask():
            return ray.get(ray.get_actor("keeper").increment.remote())

        assert ray.get(ask.remote(), timeout=20) == 8
        assert ray.get_actor("keeper") == keeper

    def test_a_name_is_taken_once(self):
        only = Counter.options(name="only").remote()
        with pytest.raises(ActorAlreadyExistsError):
            Counter.options(name="only").remote()
        assert Counter.options(name="only", get_if_exists=True).remote(99) == only

    def test_a_name_nobody_has(self):
        with pytest.raises(ValueError, match="no actor named 'nobody'"):
            ray.get_actor("nobody")

    @pytest.mark.not_inline("looks for its process")
    def test_a_name_is_free_again_after_the_actor_died(self):
        first = Counter.options(name="again").remote()
        pid = ray.get(first.pid.remote())
        ray.kill(first)
        until(lambda: is_gone(pid))
        import time

        deadline = time.monotonic() + 10
        while True:
            try:
                second = Counter.options(name="again").remote(1)
                break
            except ActorAlreadyExistsError:
                assert time.monotonic() < deadline
        assert ray.get(second.increment.remote()) == 2


class TestAsyncActors:
    def test_calls_overlap(self):
        @ray.remote
        class Meeting:
            def __init__(self):
                self.event = asyncio.Event()

            async def wait(self):
                await self.event.wait()
                return "met"

            async def open(self):
                self.event.set()

        meeting = Meeting.remote()
        waiting = [meeting.wait.remote() for _ in range(100)]
        ray.get(meeting.open.remote(), timeout=20)
        assert ray.get(waiting, timeout=20) == ["met"] * 100

    def test_references_are_awaited_without_blocking(self):
        @ray.remote
        def slow():
            import time

            time.sleep(0.05)
            return 5

        @ray.remote
        class Client:
            async def fetch(self):
                return await slow.remote() + await slow.remote()

            async def quick(self):
                return "quick"

        client = Client.remote()
        fetched = client.fetch.remote()
        assert ray.get(client.quick.remote(), timeout=20) == "quick"
        assert ray.get(fetched, timeout=20) == 10

    def test_async_generators(self):
        @ray.remote
        class Source:
            async def count(self, n):
                for i in range(n):
                    await asyncio.sleep(0)
                    yield i

        source = Source.remote()
        assert [ray.get(ref) for ref in source.count.remote(5)] == [0, 1, 2, 3, 4]

        async def collect():
            return [await ref async for ref in source.count.remote(3)]

        assert asyncio.run(collect()) == [0, 1, 2]

    def test_cancelling_a_call_cancels_its_coroutine(self):
        @ray.remote
        class Sleeper:
            def __init__(self):
                self.cancelled = False

            async def sleep(self):
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    self.cancelled = True
                    raise

            async def was_cancelled(self):
                return self.cancelled

        sleeper = Sleeper.remote()
        ref = sleeper.sleep.remote()
        ray.get(sleeper.was_cancelled.remote(), timeout=20)
        ray.cancel(ref)
        with pytest.raises(TaskCancelledError):
            ray.get(ref, timeout=20)
        until(lambda: ray.get(sleeper.was_cancelled.remote(), timeout=20))

    def test_concurrency_is_limited_on_request(self):
        @ray.remote
        class Gauge:
            def __init__(self):
                self.inside = self.highest = 0

            async def enter(self):
                self.inside += 1
                self.highest = max(self.highest, self.inside)
                await asyncio.sleep(0.001)
                self.inside -= 1
                return self.highest

        gauge = Gauge.options(max_concurrency=3).remote()
        assert max(ray.get([gauge.enter.remote() for _ in range(50)], timeout=20)) == 3


class TestThreadedActors:
    def test_calls_run_in_several_threads(self):
        @ray.remote(max_concurrency=2)
        class Pair:
            def __init__(self):
                self.barrier = threading.Barrier(2)

            def meet(self):
                self.barrier.wait(20)
                return threading.current_thread().name

        pair = Pair.remote()
        assert len(set(ray.get([pair.meet.remote(), pair.meet.remote()], timeout=20))) == 2

    def test_concurrency_groups(self):
        @ray.remote(concurrency_groups={"io": 1})
        class Worker:
            def __init__(self):
                self.event = threading.Event()

            def wait(self):
                return self.event.wait(20)

            @ray.method(concurrency_group="io")
            def set(self):
                self.event.set()

        worker = Worker.remote()
        waiting = worker.wait.remote()
        worker.set.remote()
        assert ray.get(waiting, timeout=20) is True

    def test_nested_gets_in_threads(self):
        @ray.remote
        def one():
            return 1

        @ray.remote(max_concurrency=4)
        class Adder:
            def add(self, n):
                return sum(ray.get([one.remote() for _ in range(n)]))

        adder = Adder.remote()
        assert ray.get([adder.add.remote(5) for _ in range(8)], timeout=30) == [5] * 8


class TestTheEnd:
    @pytest.mark.not_inline("looks for its process")
    def test_kill(self):
        counter = Counter.remote()
        pid = ray.get(counter.pid.remote())
        ray.kill(counter)
        with pytest.raises(ActorDiedError, match="kill"):
            ray.get(counter.increment.remote(), timeout=20)
        until(lambda: is_gone(pid))

    def test_a_failing_constructor_shows_at_the_methods(self):
        @ray.remote
        class Broken:
            def __init__(self):
                raise RuntimeError("cannot start")

            def method(self):
                return 1

        broken = Broken.remote()
        with pytest.raises(ActorDiedError, match="cannot start") as caught:
            ray.get(broken.method.remote(), timeout=20)
        assert caught.value.actor_init_failed

    def test_exit_from_inside(self):
        @ray.remote
        class Quitter:
            def quit(self):
                ray.exit_actor()

            def ping(self):
                return 1

        quitter = Quitter.remote()
        with pytest.raises(ActorDiedError):
            ray.get(quitter.quit.remote(), timeout=20)
        with pytest.raises(ActorDiedError):
            ray.get(quitter.ping.remote(), timeout=20)

    @pytest.mark.not_inline("looks for its process")
    def test_terminate_runs_the_shutdown_hook(self, tmp_path):
        @ray.remote
        class Closer:
            def __ray_shutdown__(self):
                (tmp_path / "closed").touch()

            def pid(self):
                return os.getpid()

        closer = Closer.remote()
        pid = ray.get(closer.pid.remote())
        closer.__ray_terminate__.remote()
        until(lambda: is_gone(pid))
        assert (tmp_path / "closed").exists()

    @pytest.mark.not_inline("ends the process")
    def test_a_death_says_how(self):
        @ray.remote
        class Crasher:
            def crash(self):
                import sys

                print("last words", file=sys.stderr)
                os._exit(3)

        crasher = Crasher.remote()
        with pytest.raises(ActorDiedError, match="exited with code 3") as caught:
            ray.get(crasher.crash.remote(), timeout=20)
        assert "last words" in str(caught.value)


class TestBackPressure:
    @pytest.mark.not_inline("a task that waits for what its caller does next would wait for ever")
    def test_a_limit_on_pending_calls(self, tmp_path):
        from orchestrator.exceptions import PendingCallsLimitExceeded

        @ray.remote(max_pending_calls=2)
        class Slow:
            def wait(self):
                import time

                while not (tmp_path / "go").exists():
                    time.sleep(0.005)

        slow = Slow.remote()
        refs = []
        with pytest.raises(PendingCallsLimitExceeded):
            for _ in range(10):
                refs.append(slow.wait.remote())
        (tmp_path / "go").touch()
        ray.get(refs, timeout=20)


class TestContext:
    def test_an_actor_knows_itself(self):
        @ray.remote
        class Knows:
            def facts(self):
                context = ray.get_runtime_context()
                return context.get_actor_id(), context.get_actor_name(), context.get_task_id() is not None

            def through_itself(self):
                return ray.get_runtime_context().current_actor

        actor = Knows.options(name="knows").remote()
        actor_id, name, has_task = ray.get(actor.facts.remote())
        assert len(actor_id) == 32 and name == "knows" and has_task
        assert ray.get(actor.through_itself.remote()) == actor
