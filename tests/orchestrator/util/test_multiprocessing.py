"""`Pool`: what the documentation of `multiprocessing.Pool` says, on actors."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
import time

import pytest

import orchestrator as ray
from orchestrator.util.multiprocessing import Pool

pytestmark = pytest.mark.usefixtures("shared_session")


def square(number):
    return number * number


def reciprocal(number):
    return 1 / number


def wait_for(path):
    while not path.exists():
        time.sleep(0.005)
    return "went on"


@pytest.fixture
def pool():
    with Pool(2) as pool:
        yield pool


class TestOneCall:
    def test_apply(self, pool):
        assert pool.apply(pow, (2,), {"exp": 5}) == 32
        assert pool.apply(os.getpid) != os.getpid()

    def test_apply_async(self, pool, tmp_path):
        result = pool.apply_async(wait_for, [tmp_path / "flag"])
        assert not result.ready()
        with pytest.raises(ValueError, match="not ready"):
            result.successful()
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(timeout=0.05)
        with pytest.raises(TimeoutError):
            result.get(timeout=0)
        result.wait(timeout=0.01)
        (tmp_path / "flag").touch()
        result.wait()
        assert result.ready() and result.successful()
        assert result.get() == "went on"

    def test_an_exception(self, pool):
        result = pool.apply_async(reciprocal, (0,))
        with pytest.raises(ZeroDivisionError):
            result.get()
        assert not result.successful()

    def test_callbacks(self, pool):
        results, errors, done = [], [], threading.Event()
        pool.apply_async(square, (3,), callback=results.append, error_callback=errors.append).wait()

        def failed(error):
            errors.append(type(error).__mro__)
            done.set()

        pool.apply_async(reciprocal, (0,), callback=results.append, error_callback=failed)
        assert done.wait(60)
        assert results == [9]
        assert ZeroDivisionError in errors[0]


class TestManyCalls:
    @pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
    def test_map(self, pool, chunksize):
        assert pool.map(square, range(100), chunksize) == [number * number for number in range(100)]

    def test_map_of_nothing(self, pool):
        called = []
        assert pool.map(square, []) == []
        assert pool.map_async(square, [], callback=called.append).get() == []
        assert called == [[]]

    def test_functions_need_not_be_importable(self, pool):
        offset = 3
        assert pool.map(lambda number: number + offset, iter([1, 2])) == [4, 5]

    def test_map_async_with_a_callback(self, pool):
        done = threading.Event()
        result = pool.map_async(square, range(10), callback=lambda squares: done.set())
        assert result.get() == [number * number for number in range(10)]
        assert done.wait(60)

    def test_an_exception_of_one_is_that_of_all(self, pool):
        with pytest.raises(ZeroDivisionError):
            pool.map(reciprocal, [1, 2, 0, 4])

    def test_starmap(self, pool):
        assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
        assert pool.starmap_async(pow, zip([2, 3], [3, 2], strict=True), chunksize=1).get() == [8, 9]

    def test_as_many_processes_as_asked_for(self):
        """More than there are CPUs: all four meet, so all four run at once."""
        barrier = ray.util.Barrier(4)
        with Pool(4) as pool:
            assert sorted(pool.map(lambda _: barrier.wait(), range(4), chunksize=1)) == [0, 1, 2, 3]

    def test_what_cannot_be_pickled(self, pool):
        with pytest.raises(TypeError, match="lock"):
            pool.map(id, [threading.Lock() for _ in range(10)], chunksize=1)
        assert pool.map(square, [3]) == [9]

    @pytest.mark.parametrize("chunksize", [0, -1, 1.5])
    def test_a_wrong_chunksize(self, pool, chunksize):
        with pytest.raises(ValueError, match="chunksize must be an int >= 1"):
            pool.map(square, [1], chunksize=chunksize)


class TestResultsOneByOne:
    @pytest.mark.parametrize("chunksize", [1, 4])
    def test_imap_is_in_order(self, pool, chunksize):
        assert list(pool.imap(square, range(30), chunksize)) == [number * number for number in range(30)]

    def test_imap_unordered_is_not(self, pool, tmp_path):
        results = pool.imap_unordered(
            lambda number: wait_for(tmp_path / "flag") if number == 0 else number, range(4)
        )
        assert sorted(next(results) for _ in range(3)) == [1, 2, 3]
        (tmp_path / "flag").touch()
        assert list(results) == ["went on"]

    def test_next_with_a_timeout(self, pool, tmp_path):
        results = pool.imap(wait_for, [tmp_path / "flag"])
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(timeout=0.05)
        (tmp_path / "flag").touch()
        assert results.next(timeout=60) == "went on"
        with pytest.raises(StopIteration):
            results.next()

    def test_an_exception_comes_in_its_place_and_the_others_too(self, pool):
        results = pool.imap(reciprocal, [1, 0, 2])
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert next(results) == 0.5

    def test_the_items_may_be_endless(self, pool):
        results = pool.imap(square, itertools.count())
        assert [next(results) for _ in range(50)] == [number * number for number in range(50)]


class TestProcesses:
    def test_each_is_initialized(self):
        def initialize(key, value):
            os.environ[key] = value

        with Pool(2, initializer=initialize, initargs=("GREETING", "hello")) as pool:
            assert set(pool.map(lambda _: os.environ["GREETING"], range(8), chunksize=1)) == {"hello"}

    def test_they_are_replaced_after_so_many_chunks(self):
        with Pool(1, maxtasksperchild=2) as pool:
            pids = [pool.apply(os.getpid) for _ in range(6)]
        assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] == pids[5]

    def test_one_that_dies_is_replaced(self):
        """In `multiprocessing` the call would never end."""
        with Pool(1) as pool:
            with pytest.raises(ray.exceptions.ActorDiedError):
                pool.apply(os._exit, (3,))
            assert pool.apply(square, (3,)) == 9

    def test_an_initializer_that_fails(self):
        def initialize():
            raise KeyError("no such thing")

        with Pool(1, initializer=initialize) as pool:
            with pytest.raises(ray.exceptions.ActorDiedError, match="no such thing"):
                pool.apply(square, (3,))

    def test_they_have_the_options_they_are_given(self):
        def held():
            return ray.get_runtime_context().get_assigned_resources()

        with Pool(1, ray_remote_args={"num_cpus": 1}) as pool:
            assert pool.apply(held) == {"CPU": 1.0}

    def test_as_many_as_there_are_cpus(self):
        with Pool() as pool:
            assert 1 <= len(set(pool.map(lambda _: time.sleep(0.05) or os.getpid(), range(8), 1))) <= 2

    @pytest.mark.parametrize(
        ("arguments", "error", "reason"),
        [
            ({"processes": 0}, ValueError, "processes must be an int >= 1, not 0"),
            ({"maxtasksperchild": 0}, ValueError, "maxtasksperchild"),
            ({"initializer": 3}, TypeError, "initializer must be callable"),
            ({"processes": 1, "ray_remote_args": {"cpus": 1}}, ValueError, "'cpus' is not an option"),
        ],
    )
    def test_wrong_input(self, arguments, error, reason):
        with pytest.raises(error, match=reason):
            Pool(**arguments)

    def test_a_context_has_no_effect_and_is_not_passed_over_in_silence(self):
        with pytest.warns(UserWarning, match="context has no effect"):
            Pool(1, context=multiprocessing.get_context("spawn")).terminate()


class TestTheEnd:
    def test_after_close_what_was_submitted_is_done(self):
        pool = Pool(2)
        result = pool.map_async(square, range(20), chunksize=1)
        lazy = pool.imap(square, range(20))
        pool.close()
        with pytest.raises(ValueError, match="not running"):
            pool.apply(square, (1,))
        pool.join()
        assert result.ready()
        assert result.get() == list(lazy) == [number * number for number in range(20)]

    def test_join_wants_it_closed(self, pool):
        with pytest.raises(ValueError, match="still running"):
            pool.join()

    def test_terminate_does_not_wait(self, tmp_path):
        pool = Pool(1)
        running = pool.apply_async(wait_for, (tmp_path / "flag",))
        waiting = pool.apply_async(square, (3,))
        pool.terminate()
        pool.join()
        with pytest.raises(ray.exceptions.ActorDiedError):
            running.get()
        with pytest.raises(ray.exceptions.TaskCancelledError):
            waiting.get()
        with pytest.raises(ValueError, match="not running"), pool:
            pass

    def test_a_pool_in_a_task(self):
        @ray.remote
        def outer():
            with Pool(2) as pool:
                return pool.map(square, range(5))

        assert ray.get(outer.remote()) == [0, 1, 4, 9, 16]
