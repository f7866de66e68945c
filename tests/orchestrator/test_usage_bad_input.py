"""What bad input gets: an error of its own class, at once, and a session that goes on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.exceptions import (
    GetTimeoutError,
    InfeasibleError,
    ObjectStoreFullError,
    SerializationError,
    TaskCancelledError,
    WorkerCrashedError,
)
from tests.waiting import until

pytestmark = pytest.mark.both_modes


@ray.remote
def one():
    return 1


@ray.remote
def identity(x):
    return x


@pytest.fixture(scope="module")
def small_session(mode: str) -> Iterator[None]:
    ray.init(num_cpus=2, object_store_memory=128 << 20, mode=mode)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def usable_afterwards(small_session: None) -> Iterator[None]:
    yield
    assert ray.get(one.remote(), timeout=60) == 1


class TestCallingWrongly:
    def test_wrong_arguments(self):
        @ray.remote
        def f(a, b=1, *, c):
            return a

        for args, kwargs, text in [
            ((), {"c": 1}, "missing 1 required positional argument: 'a'"),
            ((1, 2, 3), {"c": 1}, "takes 2 positional arguments but 3 were given"),
            ((1,), {}, "missing 1 required keyword-only argument: 'c'"),
            ((1,), {"c": 1, "d": 2}, "unexpected keyword argument 'd'"),
            ((1,), {"a": 1, "c": 2}, "multiple values for argument 'a'"),
        ]:
            with pytest.raises(TypeError, match=text):
                f.remote(*args, **kwargs)

    def test_unknown_options_are_answered_with_the_known_ones(self):
        with pytest.raises(ValueError, match=r"'cpus' is not an option.*num_cpus"):
            one.options(cpus=2)
        with pytest.raises(ValueError, match="'cpus' is not an option"):
            ray.remote(cpus=2)
        with pytest.raises(ValueError, match="'max_retries' is not an option of an actor"):

            @ray.remote(max_retries=2)
            class A:
                pass

    @pytest.mark.parametrize(
        ("option", "value", "error"),
        [
            ("num_cpus", -1, ValueError),
            ("num_cpus", "two", TypeError),
            ("num_cpus", float("nan"), ValueError),
            ("num_cpus", 0.00001, ValueError),
            ("num_returns", -1, ValueError),
            ("resources", {"CPU": 1}, ValueError),
            ("resources", ["x"], TypeError),
            ("max_retries", 1.5, TypeError),
            ("retry_exceptions", [int], TypeError),
            ("retry_exceptions", [1], ValueError),
        ],
    )
    def test_wrong_values(self, option, value, error):
        with pytest.raises(error, match=option if option != "num_cpus" else "num_cpus|CPU"):
            one.options(**{option: value}).remote()

    def test_things_that_are_no_functions(self):
        with pytest.raises(TypeError, match="function or a class"):
            ray.remote(num_cpus=1)(17)
        with pytest.raises(TypeError):
            ray.remote(17)

    @pytest.mark.parametrize("thing", [17, "ref", (1,), {1}, None])
    def test_get_of_something_that_is_no_reference(self, thing):
        with pytest.raises(TypeError, match="reference"):
            ray.get(thing)
        with pytest.raises(ValueError, match="reference"):
            ray.get(thing)

    def test_get_of_a_list_with_something_else(self):
        with pytest.raises(TypeError, match="the list has an item of type int"):
            ray.get([one.remote(), 2])

    @pytest.mark.parametrize("thing", ["name", None, int])
    def test_kill_of_what_is_no_actor(self, thing):
        for error in (TypeError, ValueError):
            with pytest.raises(error, match="actor's handle"):
                ray.kill(thing)

    def test_names_that_are_none(self):
        with pytest.raises(TypeError, match="name must be a str, not 5"):
            ray.get_actor(5)
        for name, namespace in (("", None), ("name", "")):
            with pytest.raises(ValueError, match="must be a non-empty str"):
                ray.get_actor(name, namespace)

    def test_wait(self):
        ref = ray.put(1)
        for bad, error in [((ref,), TypeError), ([ref, ref], ValueError), ([1], TypeError)]:
            with pytest.raises(error):
                ray.wait(bad)
        for keywords in [{"num_returns": 0}, {"num_returns": 2}, {"timeout": -1}]:
            with pytest.raises(ValueError):
                ray.wait([ref], **keywords)
        assert ray.wait([]) == ([], [])

    def test_put_of_a_reference(self):
        with pytest.raises(TypeError, match="put"):
            ray.put(ray.put(1))

    def test_a_second_init(self):
        with pytest.raises(RuntimeError, match="init"):
            ray.init()
        assert ray.init(ignore_reinit_error=True).namespace


class TestWhatCannotBePickled:
    def test_an_argument(self):
        with pytest.raises(SerializationError, match=r"argument 0 of identity\['key'\].*lock"):
            identity.remote({"key": threading.Lock()})

    def test_an_argument_by_name(self):
        with pytest.raises(SerializationError, match=r"argument 'x' of identity\[0\].*lock"):
            identity.remote(x=[threading.Lock()])

    def test_a_closure(self):
        lock = threading.Lock()

        @ray.remote
        def locked():
            with lock:
                return 1

        with pytest.raises(TypeError, match="lock"):
            locked.remote()

    def test_a_return_value(self):
        @ray.remote
        def bad():
            return [1, threading.Lock()]

        with pytest.raises(TypeError, match=r"return value\[1\].*lock"):
            ray.get(bad.remote())

    def test_an_exception(self):
        @ray.remote
        def fail():
            error = ValueError("told you")
            error.lock = threading.Lock()
            raise error

        with pytest.raises(ValueError, match=r"told you(.|\n)*left behind.*'lock'"):
            ray.get(fail.remote())

    def test_an_exception_that_does_not_unpickle(self):
        class Demanding(Exception):
            def __init__(self, *, code):
                super().__init__(f"code {code}")
                self.code = code

        @ray.remote
        def fail():
            raise Demanding(code=5)

        with pytest.raises(Demanding, match="code 5") as caught:
            ray.get(fail.remote())
        assert caught.value.code == 5

    def test_causes_are_kept(self):
        @ray.remote
        def fail():
            try:
                raise KeyError("inner")
            except KeyError as error:
                raise ValueError("outer") from error

        with pytest.raises(ValueError) as caught:
            ray.get(fail.remote())
        assert isinstance(caught.value.cause.__cause__, KeyError)


@pytest.mark.not_inline("code on the caller's own stack knows no time limit")
class TestTime:
    def test_a_timeout_says_what_is_waited_for(self):
        @ray.remote
        def sleep():
            import time

            time.sleep(1000)

        def what_it_waits_for():
            with pytest.raises(TimeoutError) as caught:
                ray.get(running, timeout=0)
            return str(caught.value)

        running = sleep.remote()
        waiting = identity.remote(running)
        until(lambda: "running on pid" in what_it_waits_for())
        with pytest.raises(GetTimeoutError, match="waiting for its arguments"):
            ray.get(waiting, timeout=0)
        with pytest.raises(GetTimeoutError, match="2 of 2 not ready"):
            ray.get([running, waiting], timeout=0.01)
        ray.cancel(running, force=True)
        with pytest.raises(TaskCancelledError):
            ray.get(waiting, timeout=20)


class TestResources:
    def test_a_request_that_can_never_be_met(self):
        with pytest.raises(InfeasibleError, match=r"CPU: 999.*CPU: 2"):
            ray.get(one.options(num_cpus=999).remote(), timeout=60)
        with pytest.raises(InfeasibleError, match="tpu"):
            ray.get(one.options(resources={"tpu": 1}).remote(), timeout=60)

    def test_an_actor_that_can_never_be_placed(self):
        @ray.remote(num_cpus=999)
        class Huge:
            def m(self):
                return 1

        with pytest.raises(InfeasibleError, match="999"):
            ray.get(Huge.remote().m.remote(), timeout=60)

    def test_no_cpus_and_parts_of_one(self):
        assert ray.get(one.options(num_cpus=0).remote(), timeout=20) == 1
        assert ray.get([one.options(num_cpus=0.5).remote() for _ in range(4)], timeout=20) == [1] * 4

    def test_an_object_larger_than_the_store(self):
        with pytest.raises(ObjectStoreFullError):
            ray.put(np.zeros(200 << 20, dtype=np.uint8))


@pytest.mark.not_inline("ends processes")
class TestDeaths:
    @pytest.mark.parametrize(
        ("how", "text"),
        [
            ("os._exit(7)", "pid [0-9]+: exited with code 7; retries used: 0 of 0\\n"),
            ("os.kill(os.getpid(), 9)", "SIGKILL"),
            ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        ],
    )
    def test_a_worker_that_dies(self, how, text):
        @ray.remote(max_retries=0)
        def die():
            import sys

            print("famous last words", file=sys.stderr)
            exec(f"import os; {how}")

        with pytest.raises(WorkerCrashedError, match=text) as caught:
            ray.get(die.remote(), timeout=30)
        assert "famous last words" in str(caught.value)

    def test_a_task_is_retried_when_its_worker_died(self, tmp_path):
        @ray.remote(max_retries=2)
        def third_time_lucky():
            attempt = len(list(tmp_path.iterdir()))
            (tmp_path / str(attempt)).touch()
            if attempt < 2:
                os._exit(1)
            return attempt

        assert ray.get(third_time_lucky.remote(), timeout=60) == 2

    def test_queued_tasks_survive_the_death_of_their_worker(self):
        @ray.remote(max_retries=0)
        def maybe_die(i):
            if i == 50:
                os._exit(1)
            return i

        refs = [maybe_die.remote(i) for i in range(100)]
        with pytest.raises(WorkerCrashedError):
            ray.get(refs[50], timeout=60)
        assert ray.get(refs[:50] + refs[51:], timeout=60) == [*range(50), *range(51, 100)]

    def test_chosen_exceptions_are_retried(self, tmp_path):
        @ray.remote(retry_exceptions=[ConnectionError], max_retries=3)
        def flaky():
            attempt = len(list(tmp_path.iterdir()))
            (tmp_path / str(attempt)).touch()
            if attempt < 2:
                raise ConnectionResetError
            return attempt

        assert ray.get(flaky.remote(), timeout=60) == 2


class TestCancelling:
    @pytest.mark.not_inline("a task that sleeps for ever does so at its call")
    def test_a_running_task_is_interrupted(self, tmp_path):
        @ray.remote
        def sleep():
            import time

            try:
                (tmp_path / "runs").touch()
                time.sleep(1000)
            except KeyboardInterrupt:
                (tmp_path / "interrupted").touch()
                raise

        ref = sleep.remote()
        until((tmp_path / "runs").exists)
        ray.cancel(ref)
        with pytest.raises(TaskCancelledError):
            ray.get(ref, timeout=20)
        until((tmp_path / "interrupted").exists)

    @pytest.mark.not_inline("nothing is queued")
    def test_a_queued_task_never_runs(self, tmp_path):
        @ray.remote
        def block():
            import time

            while not (tmp_path / "go").exists():
                time.sleep(0.005)

        @ray.remote
        def mark():
            (tmp_path / "ran").touch()

        blockers = [block.remote(), block.remote()]
        queued = mark.remote()
        ray.cancel(queued)
        (tmp_path / "go").touch()
        ray.get(blockers, timeout=20)
        with pytest.raises(TaskCancelledError):
            ray.get(queued, timeout=20)
        ray.get(one.remote())
        assert not (tmp_path / "ran").exists()

    @pytest.mark.not_inline("a task that sleeps for ever does so at its call")
    def test_by_force(self):
        @ray.remote
        def deaf():
            import time

            while True:
                try:
                    time.sleep(1000)
                except KeyboardInterrupt:
                    pass

        ref = deaf.remote()
        ray.wait([ref], timeout=0.3)
        ray.cancel(ref, force=True)
        with pytest.raises((TaskCancelledError, WorkerCrashedError)):
            ray.get(ref, timeout=20)

    @pytest.mark.not_inline("a task that sleeps for ever does so at its call")
    def test_children_too(self, tmp_path):
        @ray.remote
        def child():
            import time

            try:
                (tmp_path / "child").touch()
                time.sleep(1000)
            except KeyboardInterrupt:
                (tmp_path / "cancelled").touch()
                raise

        @ray.remote
        def parent():
            ray.get(child.remote())

        ref = parent.remote()
        until((tmp_path / "child").exists)
        ray.cancel(ref)
        until((tmp_path / "cancelled").exists)
        with pytest.raises(TaskCancelledError):
            ray.get(ref, timeout=20)

    def test_what_has_finished_stays_finished(self):
        ref = one.remote()
        ray.get(ref)
        ray.cancel(ref)
        assert ray.get(ref) == 1


@pytest.mark.not_inline("interrupts a wait for another process")
class TestInterrupts:
    def test_ctrl_c_in_get_leaves_the_session_usable(self):
        @ray.remote
        def sleep():
            import time

            time.sleep(1000)

        ref = sleep.remote()
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            ray.get(ref)
        timer.join()
        ray.cancel(ref)
