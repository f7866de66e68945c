"""`Executor`: the protocol of `concurrent.futures`, as its documentation says it."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import operator
import os
import threading
import time

import pytest

import orchestrator as ray
from orchestrator import Executor
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("shared_session")


def touch_and_wait(directory, name):
    """Say that it has begun, and go on when told to."""
    (directory / f"{name} began").touch()
    while not (directory / "go on").exists():
        time.sleep(0.005)
    return name


class TestSubmit:
    def test_a_future_of_the_result(self):
        with Executor() as executor:
            future = executor.submit(pow, 2, exp=10)
            assert isinstance(future, concurrent.futures.Future)
            assert future.result() == 1024
            assert future.done()
            assert future.exception() is None

    def test_functions_need_not_be_importable(self):
        base = 7
        with Executor() as executor:
            assert executor.submit(lambda x: x + base, 1).result() == 8

    def test_any_callable_will_do(self):
        class Adder:
            def add(self, number):
                return number + 1

        with Executor() as executor:
            assert executor.submit(Adder().add, 1).result() == 2
            assert executor.submit(functools.partial(operator.mul, 3), 4).result() == 12

    def test_it_runs_elsewhere(self):
        with Executor() as executor:
            assert executor.submit(os.getpid).result() != os.getpid()

    def test_an_exception_is_the_future_s(self):
        with Executor() as executor:
            future = executor.submit(operator.truediv, 1, 0)
            assert isinstance(future.exception(), ZeroDivisionError)
            with pytest.raises(ZeroDivisionError):
                future.result()

    def test_what_cannot_be_pickled_is_an_error_of_the_future_s(self):
        with Executor() as executor:
            assert isinstance(executor.submit(id, threading.Lock()).exception(), TypeError)

    def test_callbacks(self):
        results = []
        with Executor() as executor:
            for number in range(10):
                executor.submit(abs, -number).add_done_callback(
                    lambda future: results.append(future.result())
                )
        until(lambda: len(results) == 10)
        assert sorted(results) == list(range(10))

    def test_a_result_that_does_not_come_in_time(self, tmp_path):
        with Executor() as executor:
            future = executor.submit(touch_and_wait, tmp_path, "a")
            with pytest.raises(concurrent.futures.TimeoutError):
                future.result(timeout=0.05)
            (tmp_path / "go on").touch()
            assert future.result(timeout=60) == "a"

    def test_wait_and_as_completed_of_the_standard_library(self, tmp_path):
        with Executor() as executor:
            slow = executor.submit(touch_and_wait, tmp_path, "slow")
            fast = executor.submit(abs, -1)
            done, rest = concurrent.futures.wait([slow, fast], return_when="FIRST_COMPLETED")
            assert (done, rest) == ({fast}, {slow})
            (tmp_path / "go on").touch()
            assert set(concurrent.futures.as_completed([slow, fast], timeout=60)) == {slow, fast}

    def test_a_worker_that_dies_harms_its_own_call_only(self):
        with Executor(max_retries=0) as executor:
            dead = executor.submit(os._exit, 3)
            fine = executor.submit(abs, -1)
            assert isinstance(dead.exception(), ray.exceptions.WorkerCrashedError)
            assert fine.result() == 1

    def test_inside_a_task(self):
        def outer():
            with Executor() as executor:
                return sum(executor.map(abs, range(-3, 3)))

        with Executor() as executor:
            assert executor.submit(outer).result() == 9


class TestRunningAndCancelling:
    def test_what_runs_cannot_be_cancelled_and_what_waits_can(self, tmp_path):
        with Executor() as executor:
            first = [executor.submit(touch_and_wait, tmp_path, str(number)) for number in range(2)]
            until(lambda: all(future.running() for future in first))
            third = executor.submit(touch_and_wait, tmp_path, "never")
            assert not third.running()
            assert third.cancel()
            assert third.cancelled() and third.done()
            assert not first[0].cancel()
            with pytest.raises(concurrent.futures.CancelledError):
                third.result()
            (tmp_path / "go on").touch()
            assert [future.result() for future in first] == ["0", "1"]
            assert not first[0].running() and not first[0].cancel()
        assert not (tmp_path / "never began").exists()

    def test_more_than_max_workers_are_not_under_way(self, tmp_path):
        with Executor(max_workers=1) as executor:
            first = executor.submit(touch_and_wait, tmp_path, "first")
            second = executor.submit(touch_and_wait, tmp_path, "second")
            third = executor.submit(touch_and_wait, tmp_path, "third")
            until((tmp_path / "first began").exists)
            assert (first.running(), second.running()) == (True, False)
            assert third.cancel()
            (tmp_path / "go on").touch()
            assert second.result() == "second"
        assert not (tmp_path / "third began").exists()

    def test_a_cancelled_call_runs_its_callbacks(self, tmp_path):
        called = threading.Event()
        with Executor(max_workers=1) as executor:
            executor.submit(touch_and_wait, tmp_path, "first")
            waiting = executor.submit(abs, 1)
            waiting.add_done_callback(lambda _: called.set())
            assert waiting.cancel()
            assert called.wait(60)
            (tmp_path / "go on").touch()

    def test_many_that_are_held_all_get_done(self):
        with Executor(max_workers=2) as executor:
            futures = [executor.submit(abs, -number) for number in range(500)]
            assert [future.result() for future in futures] == list(range(500))


class TestMap:
    def test_results_in_order(self):
        with Executor() as executor:
            assert list(executor.map(pow, [2, 3, 4], [1, 2, 3])) == [2, 9, 64]

    @pytest.mark.parametrize("chunksize", [1, 3, 100])
    def test_in_chunks(self, chunksize):
        with Executor() as executor:
            assert list(executor.map(abs, range(-10, 0), chunksize=chunksize)) == list(range(10, 0, -1))

    def test_an_exception_comes_in_its_place(self):
        with Executor() as executor:
            results = executor.map(operator.truediv, [1, 1, 1], [1, 0, 1])
            assert next(results) == 1
            with pytest.raises(ZeroDivisionError):
                next(results)

    def test_a_timeout(self, tmp_path):
        with Executor() as executor:
            results = executor.map(touch_and_wait, [tmp_path], ["a"], timeout=0.1)
            with pytest.raises(concurrent.futures.TimeoutError):
                next(results)
            (tmp_path / "go on").touch()

    def test_a_buffer_makes_endless_items_possible(self):
        with Executor() as executor:
            results = executor.map(abs, itertools.count(), buffersize=3)
            assert [next(results) for _ in range(20)] == list(range(20))
            results.close()

    @pytest.mark.parametrize("size", [{"chunksize": 0}, {"buffersize": 0}])
    def test_sizes_out_of_range(self, size):
        with Executor() as executor, pytest.raises(ValueError, match="must be >= 1"):
            executor.map(abs, [1], **size)


class TestShutdown:
    def test_leaving_the_block_waits(self):
        with Executor() as executor:
            futures = [executor.submit(time.sleep, 0.05) for _ in range(4)]
        assert all(future.done() for future in futures)

    def test_afterwards_nothing_is_taken(self):
        executor = Executor()
        executor.shutdown()
        executor.shutdown()
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(abs, 1)

    def test_without_waiting(self, tmp_path):
        executor = Executor()
        future = executor.submit(touch_and_wait, tmp_path, "a")
        executor.shutdown(wait=False)
        assert not future.done()
        (tmp_path / "go on").touch()
        assert future.result() == "a"

    def test_what_has_not_begun_can_be_cancelled(self, tmp_path):
        executor = Executor(max_workers=1)
        running = executor.submit(touch_and_wait, tmp_path, "a")
        waiting = [executor.submit(abs, -1) for _ in range(20)]
        until(running.running)
        executor.shutdown(wait=False, cancel_futures=True)
        assert all(future.cancelled() for future in waiting)
        (tmp_path / "go on").touch()
        assert running.result() == "a"


class TestTheInitializer:
    def test_it_runs_once_in_a_process(self):
        def initialize(value):
            os.environ["INITIALIZED"] = os.environ.get("INITIALIZED", "") + value

        with Executor(initializer=initialize, initargs=("x",)) as executor:
            assert set(executor.map(lambda _: os.environ["INITIALIZED"], range(20))) == {"x"}

    def test_if_it_fails_so_do_all_calls(self):
        def initialize():
            raise KeyError("no such thing")

        with Executor(initializer=initialize) as executor:
            futures = [executor.submit(abs, 1) for _ in range(5)]
            for future in futures:
                with pytest.raises(concurrent.futures.BrokenExecutor):
                    future.result()
            with pytest.raises(concurrent.futures.BrokenExecutor):
                executor.submit(abs, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"initializer": 3}, TypeError, "initializer must be callable"),
        ({"cpus": 3}, ValueError, "'cpus' is not an option"),
        ({"num_returns": 3}, ValueError, "num_returns must be 1"),
    ],
)
def test_wrong_input(arguments, error, reason):
    with pytest.raises(error, match=reason):
        Executor(**arguments)


def test_not_callable():
    with Executor() as executor, pytest.raises(TypeError, match="callable, not int"):
        executor.submit(3)
