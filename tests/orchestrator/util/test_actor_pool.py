"""`ActorPool`: each actor takes the next call when it is free."""

from __future__ import annotations

import time

import pytest

import orchestrator as ray
from orchestrator.util import ActorPool
from orchestrator.util.synchronization import Event

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
class Worker:
    def double(self, value):
        if value is None:
            raise ValueError("nothing to double")
        return 2 * value

    def double_after(self, event, value):
        event.wait()
        return 2 * value


def double(actor, value):
    return actor.double.remote(value)


@pytest.fixture
def pool():
    return ActorPool([Worker.remote(), Worker.remote()])


class TestMap:
    def test_results_in_order(self, pool):
        assert list(pool.map(double, range(10))) == [2 * number for number in range(10)]

    def test_results_as_they_come(self, pool):
        gate = Event()
        results = pool.map_unordered(
            lambda actor, value: (
                actor.double_after.remote(gate, value) if value == 0 else double(actor, value)
            ),
            range(4),
        )
        assert sorted(next(results) for _ in range(3)) == [2, 4, 6]
        gate.set()
        assert list(results) == [0]

    def test_earlier_submissions_are_dropped(self, pool):
        for number in range(5):
            pool.submit(double, number)
        assert list(pool.map(double, [100])) == [200]


class TestSubmit:
    def test_results_in_the_order_of_submission(self, pool):
        for number in range(5):
            pool.submit(double, number)
        results = []
        while pool.has_next():
            results.append(pool.get_next())
        assert results == [0, 2, 4, 6, 8]

    def test_any_result(self, pool):
        for number in range(5):
            pool.submit(double, number)
        assert sorted(pool.get_next_unordered() for _ in range(5)) == [0, 2, 4, 6, 8]

    def test_an_error_is_raised_and_its_actor_goes_on(self, pool):
        pool.submit(double, None)
        with pytest.raises(ValueError, match="nothing to double"):
            pool.get_next()
        assert list(pool.map(double, range(4))) == [0, 2, 4, 6]

    def test_nothing_left(self, pool):
        assert not pool.has_next()
        with pytest.raises(StopIteration):
            pool.get_next()
        with pytest.raises(StopIteration):
            pool.get_next_unordered()

    def test_ordered_after_unordered(self, pool):
        for number in range(3):
            pool.submit(double, number)
        pool.get_next_unordered()
        with pytest.raises(ValueError, match="get_next_unordered"):
            pool.get_next()

    def test_both_orders_one_after_the_other(self, pool):
        pool.submit(double, 1)
        assert pool.get_next_unordered() == 2
        pool.submit(double, 2)
        assert pool.get_next() == 4

    def test_a_result_that_does_not_come_in_time(self, pool):
        gate = Event()
        pool.submit(lambda actor, value: actor.double_after.remote(gate, value), 1)
        pool.submit(double, 2)
        with pytest.raises(TimeoutError):
            pool.get_next(timeout=0.05)
        with pytest.raises(TimeoutError):
            pool.get_next(timeout=0.05, ignore_if_timedout=True)
        assert pool.get_next() == 4
        assert not pool.has_next()
        gate.set()
        assert list(pool.map(double, [5, 6])) == [10, 12]


class TestActors:
    def test_they_come_and_go(self, pool):
        assert pool.has_free()
        first, second = pool.pop_idle(), pool.pop_idle()
        assert not pool.has_free()
        assert pool.pop_idle() is None
        pool.submit(double, 1)
        with pytest.raises(ValueError, match="no actor"):
            pool.get_next()
        pool.push(first)
        assert pool.get_next() == 2
        pool.push(second)
        assert pool.has_free()

    def test_none_is_in_it_twice(self, pool):
        actor = Worker.remote()
        pool.push(actor)
        with pytest.raises(ValueError, match="in this pool already"):
            pool.push(actor)

    def test_a_free_actor_takes_a_call_while_another_is_busy(self, pool):
        gate = Event()
        pool.submit(lambda actor, value: actor.double_after.remote(gate, value), 1)
        began = time.monotonic()
        for number in range(20):
            pool.submit(double, number)
        assert sorted(pool.get_next_unordered() for _ in range(20)) == list(range(0, 40, 2))
        assert time.monotonic() - began < 60
        gate.set()
        assert pool.get_next_unordered() == 2
