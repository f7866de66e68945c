"""How generators are used that have a number of results, or one result that holds all their items."""

from __future__ import annotations

import asyncio
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.exceptions import SerializationError, WorkerCrashedError

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.both_modes, pytest.mark.elsewhere_too]


@ray.remote
def count(n):
    yield from range(n)


@ray.remote
def two_then_fail():
    yield 1
    yield 2
    raise ValueError("third")


@ray.remote(num_cpus=0)
class Producer:
    def count(self, n):
        yield from range(n)

    def two_then_fail(self):
        yield 1
        yield 2
        raise ValueError("third")


@ray.remote(num_cpus=0)
class AsyncProducer:
    async def count(self, n):
        for i in range(n):
            yield i

    async def two_then_fail(self):
        yield 1
        yield 2
        raise ValueError("third")


@pytest.fixture(params=["task", "plain", "threaded", "async"])
def producer(request):
    """What has the generators `count` and `two_then_fail`, to be called with options."""
    if request.param == "task":
        return SimpleNamespace(count=count, two_then_fail=two_then_fail)
    if request.param == "async":
        return AsyncProducer.remote()
    return Producer.options(max_concurrency=2 if request.param == "threaded" else 1).remote()


class TestFixedNumbers:
    def test_a_reference_for_each_item(self, producer):
        a, b = producer.count.options(num_returns=2).remote(2)
        assert ray.get([a, b]) == [0, 1]

    def test_what_came_before_an_error_is_kept(self, producer):
        *good, bad, last = producer.two_then_fail.options(num_returns=4).remote()
        assert ray.get(good) == [1, 2]
        for ref in (bad, last):
            with pytest.raises(ValueError, match="third"):
                ray.get(ref)

    def test_what_there_is_of_too_few_is_kept(self, producer):
        good, *bad = producer.count.options(num_returns=3).remote(1)
        assert ray.get(good) == 0
        for ref in bad:
            with pytest.raises(ValueError, match="num_returns=3, but the function returned 1 values"):
                ray.get(ref)

    def test_too_many_are_an_error_in_each_reference(self, producer):
        for ref in producer.count.options(num_returns=2).remote(3):
            with pytest.raises(ValueError, match="num_returns=2, but the function returned more values"):
                ray.get(ref)

    def test_an_error_after_all_of_them_is_in_each_reference(self, producer):
        for ref in producer.two_then_fail.options(num_returns=2).remote():
            with pytest.raises(ValueError, match="third"):
                ray.get(ref)

    def test_a_list_of_another_length_is_an_error_in_each_reference(self):
        for values in ([1], (1, 2, 3), {1}, iter([1])):
            for ref in ray.remote(lambda values=values: values).options(num_returns=2).remote():
                with pytest.raises(ValueError, match="num_returns=2"):
                    ray.get(ref)

    def test_what_cannot_be_pickled_is_an_error_from_there_on(self):
        @ray.remote(num_returns=3)
        def generate():
            yield "good"
            yield threading.Lock()
            yield "never asked for"

        good, *bad = generate.remote()
        assert ray.get(good) == "good"
        for ref in bad:
            with pytest.raises(SerializationError):
                ray.get(ref)

    def test_large_items_are_kept_until_nobody_refers_to_them(self):
        @ray.remote(num_returns=3)
        def large_then_fail():
            yield np.ones(1_000_000)
            yield np.zeros(1_000_000)
            raise ValueError("third")

        def sums(refs):
            return [float(array.sum()) for array in ray.get(refs)]

        one, zero, bad = large_then_fail.remote()
        assert sums([one, zero]) == [1_000_000, 0]
        with pytest.raises(ValueError, match="third"):
            ray.get(bad)

    def test_an_error_that_is_retried_begins_again(self, tmp_path):
        @ray.remote(num_returns=3, retry_exceptions=[ConnectionError], max_retries=1)
        def flaky(works_at_last):
            first = not (tmp_path / "failed").exists()
            (tmp_path / "failed").touch()
            yield np.ones(100_000)
            if first:
                yield np.ones(100_000)
            if first or not works_at_last:
                raise ConnectionError("lost")
            yield "second"
            yield "third"

        one, *others = flaky.remote(True)
        assert ray.get(others[1]) == "third" and ray.get(one).sum() == 100_000
        (tmp_path / "failed").unlink()
        one, *others = flaky.remote(False)
        assert ray.get(one).sum() == 100_000
        for ref in others:
            with pytest.raises(ConnectionError, match="lost"):
                ray.get(ref)

    @pytest.mark.not_inline("kills processes")
    def test_a_death_without_retries_is_an_error_in_each_reference(self):
        @ray.remote(num_returns=2, max_retries=0)
        def dies():
            yield np.ones(1_000_000)
            os._exit(1)

        for ref in dies.remote():
            with pytest.raises(WorkerCrashedError):
                ray.get(ref)

    @pytest.mark.not_inline("measures the memory of a process")
    def test_items_are_stored_one_by_one(self):
        @ray.remote(num_returns=20, max_retries=0)
        def arrays():
            import resource

            def peak():
                return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

            before = peak()
            for _ in range(19):
                yield np.random.default_rng(1).integers(0, 255, 20_000_000, dtype=np.uint8)
            yield peak() - before

        growth = ray.get(arrays.remote()[-1], timeout=60)
        # Shared pages that the process has written count too, so: each array once, not twice.
        assert growth < 1.5 * 19 * 20_000_000


@ray.remote
def generator_expression(n):
    return (i for i in range(n))


@ray.remote
async def coroutine(n):
    await asyncio.sleep(0)
    return (i for i in range(n))


@ray.remote(num_cpus=0)
class Returner:
    def generator_expression(self, n):
        return (i for i in range(n))


class TestOnlyItem:
    def test_the_only_item_is_the_result(self, producer):
        assert ray.get(producer.count.options(num_returns=1).remote(1)) == 0

    @pytest.mark.parametrize("number, text", [(0, "no item"), (2, "more than one item")])
    def test_none_and_several_are_an_error(self, producer, number, text):
        with pytest.raises(ValueError, match=f"num_returns=1, but the generator yielded {text}"):
            ray.get(producer.count.options(num_returns=1).remote(number))

    def test_what_it_raises_is_the_result(self, tmp_path):
        @ray.remote(num_returns=1)
        def one_then_fail():
            yield 1
            raise ValueError("after the first")

        with pytest.raises(ValueError, match="after the first"):
            ray.get(one_then_fail.remote())

    def test_one_that_goes_on_is_closed(self, tmp_path):
        @ray.remote(num_returns=1)
        def forever():
            try:
                while True:
                    yield 1
            finally:
                (tmp_path / "closed").touch()

        with pytest.raises(ValueError, match="more than one item"):
            ray.get(forever.remote())
        assert (tmp_path / "closed").exists()

    def test_a_function_that_returns_a_generator(self):
        for function in (generator_expression, coroutine, Returner.remote().generator_expression):
            assert ray.get(function.remote(1)) == 0
            with pytest.raises(ValueError, match="no item"):
                ray.get(function.remote(0))
            assert ray.get(function.options(num_returns=2).remote(2)) == [0, 1]

    def test_an_iterator_is_a_value(self):
        assert list(ray.get(ray.remote(lambda: iter([1, 2])).remote())) == [1, 2]


class TestDynamic:
    def test_in_each_kind_of_actor(self, producer):
        items = ray.get(producer.count.options(num_returns="dynamic").remote(3))
        assert ray.get(list(items)) == [0, 1, 2]
        with pytest.raises(ValueError, match="third"):
            ray.get(producer.two_then_fail.options(num_returns="dynamic").remote())

    def test_all_items_come_in_one_reference(self):
        ref = count.options(num_returns="dynamic").remote(4)
        items = ray.get(ref)
        assert isinstance(items, ray.DynamicObjectRefGenerator)
        assert len(items) == 4 and [ray.get(item) for item in items] == [0, 1, 2, 3]

    def test_they_can_be_handed_on(self):
        @ray.remote
        def total(items):
            return sum(ray.get(list(items)))

        assert ray.get(total.remote(count.options(num_returns="dynamic").remote(5)), timeout=20) == 10

    def test_an_exception_is_the_whole_result(self):
        @ray.remote(num_returns="dynamic")
        def fails():
            yield 1
            raise KeyError("late")

        with pytest.raises(KeyError, match="late"):
            ray.get(fails.remote())
