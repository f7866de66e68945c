"""How generators are used."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.exceptions import GetTimeoutError

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.both_modes]


@ray.remote
def count(n):
    yield from range(n)


class TestStreaming:
    def test_items_come_as_references(self):
        assert [ray.get(ref) for ref in count.remote(5)] == [0, 1, 2, 3, 4]

    def test_the_first_item_is_there_before_the_last_is_made(self, tmp_path):
        @ray.remote
        def wait_for_reader():
            import time

            yield "first"
            while not (tmp_path / "read").exists():
                time.sleep(0.005)
            yield "second"

        items = wait_for_reader.remote()
        assert ray.get(next(items)) == "first"
        (tmp_path / "read").touch()
        assert ray.get(next(items)) == "second"
        with pytest.raises(StopIteration):
            next(items)
        assert items.is_finished()

    def test_in_a_coroutine(self):
        async def collect():
            return [await ref async for ref in count.remote(4)]

        assert asyncio.run(collect()) == [0, 1, 2, 3]

    def test_an_exception_is_the_last_item(self):
        @ray.remote
        def two_then_fail():
            yield 1
            yield 2
            raise ValueError("third")

        items = list(two_then_fail.remote())
        assert ray.get(items[:2]) == [1, 2]
        with pytest.raises(ValueError, match="third"):
            ray.get(items[2])
        assert len(items) == 3

    def test_wait_takes_generators(self):
        items = count.remote(1)
        ready, _ = ray.wait([items], timeout=20)
        assert ready == [items] and ray.get(next(ready[0])) == 0

    def test_waiting_for_the_end(self):
        items = count.remote(3)
        ray.get(items.completed(), timeout=20)
        assert [ray.get(ref) for ref in items] == [0, 1, 2]

    @pytest.mark.not_inline("code on the caller's own stack knows no time limit")
    def test_next_with_a_timeout(self):
        @ray.remote
        def never():
            import time

            time.sleep(1000)
            yield

        items = never.remote()
        with pytest.raises(GetTimeoutError):
            items.next(timeout=0.05)
        items.close()

    def test_many_items(self):
        assert sum(ray.get(ref) for ref in count.remote(3000)) == sum(range(3000))

    def test_a_fixed_number_of_references(self):
        a, b = count.options(num_returns=2).remote(2)
        assert ray.get([a, b]) == [0, 1]


class TestBackPressure:
    def test_the_producer_is_never_far_ahead(self, tmp_path):
        @ray.remote(generator_backpressure=3)
        def produce():
            for i in range(20):
                (tmp_path / str(i)).touch()
                yield i

        items = produce.remote()
        for taken, ref in enumerate(items, start=1):
            assert ray.get(ref) == taken - 1
            assert len(list(tmp_path.iterdir())) <= taken + 3
        assert taken == 20


class TestClosing:
    def test_close_stops_the_producer(self, tmp_path):
        @ray.remote
        def forever():
            import time

            try:
                while True:
                    yield 1
                    time.sleep(0.001)
            finally:
                (tmp_path / "stopped").touch()

        items = forever.remote()
        next(items)
        items.close()
        assert eventually((tmp_path / "stopped").exists)

    def test_dropping_the_generator_does_too(self, tmp_path):
        @ray.remote
        def forever():
            import time

            try:
                while True:
                    yield 1
                    time.sleep(0.001)
            finally:
                (tmp_path / "stopped").touch()

        items = forever.remote()
        next(items)
        del items
        assert eventually((tmp_path / "stopped").exists)

    def test_it_cannot_be_pickled(self):
        @ray.remote
        def use(items):
            return list(items)

        with pytest.raises(TypeError, match="ObjectRefGenerator"):
            use.remote([count.remote(1)])


def eventually(condition, timeout_s=10):
    import time

    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


SIZE_BYTES = 100_000_000


@pytest.mark.not_inline("measures the memory of processes")
class TestMemory:
    def test_yielding_large_arrays_needs_less_memory_than_returning_them(self):
        """Ten arrays of 100 MB: as a list all are in the heap at once, yielded one or two are."""

        def peak_of_this_process():
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

        @ray.remote(max_retries=0)
        def as_list():
            before = peak_of_this_process()
            arrays = [np.ones(SIZE_BYTES, dtype=np.uint8) for _ in range(10)]
            return ray.put(peak_of_this_process() - before), arrays[:1]

        @ray.remote
        class Producer:
            def as_generator(self):
                self.before = peak_of_this_process()
                for _ in range(10):
                    yield np.ones(SIZE_BYTES, dtype=np.uint8)

            def anonymous_peak(self):
                return peak_of_this_process() - self.before

        list_peak = ray.get(ray.get(as_list.remote(), timeout=100)[0])
        producer = Producer.remote()
        sizes = [
            ray.get(ref).nbytes for ref in producer.as_generator.options(generator_backpressure=1).remote()
        ]
        generator_peak = ray.get(producer.anonymous_peak.remote())
        assert sizes == [SIZE_BYTES] * 10
        assert generator_peak < 0.6 * list_peak, (generator_peak, list_peak)
