"""How generators are used."""

from __future__ import annotations

import asyncio
import os
import time

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.exceptions import (
    GetTimeoutError,
    StreamingGeneratorReplayInconsistentError,
    WorkerCrashedError,
)
from tests.waiting import until

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.both_modes, pytest.mark.elsewhere_too]


@ray.remote
def count(n):
    yield from range(n)


@ray.remote
def two_then_fail():
    yield 1
    yield 2
    raise ValueError("third")


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
        assert ray.get(items.completed(), timeout=20) is None
        assert [ray.get(ref) for ref in items] == [0, 1, 2]

    def test_the_end_of_one_that_raises_is_no_error(self):
        items = two_then_fail.remote()
        assert ray.get(items.completed(), timeout=20) is None
        assert len(list(items)) == 3

    @pytest.mark.not_inline("has no process to die")
    def test_the_end_of_one_that_was_ended_is_an_error(self):
        @ray.remote(max_retries=0)
        def dies():
            yield 1
            os._exit(1)

        items = dies.remote()
        with pytest.raises(WorkerCrashedError):
            ray.get(items.completed(), timeout=20)

    def test_the_end_can_be_waited_for_without_the_generator(self, tmp_path):
        @ray.remote
        def slow():
            yield 1
            time.sleep(0.1)
            yield 2
            (tmp_path / "ended").touch()

        assert ray.get(slow.remote().completed(), timeout=20) is None
        assert (tmp_path / "ended").exists()

    def test_another_process_can_wait_for_the_end(self):
        @ray.remote
        def wait_for(refs):
            return ray.get(refs[0], timeout=20)

        for items in (count.remote(3), two_then_fail.remote()):
            assert ray.get(wait_for.remote([items.completed()]), timeout=20) is None

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

    @pytest.mark.not_inline("the caller's own code makes the item")
    def test_a_look_without_waiting(self, tmp_path):
        @ray.remote
        def when_told():
            while not (tmp_path / "go").exists():
                time.sleep(0.005)
            yield 1

        items = when_told.remote()
        assert not items.next_ready() and not items.is_finished()
        (tmp_path / "go").touch()
        until(items.next_ready)
        assert ray.get(next(items)) == 1

    @pytest.mark.parametrize(
        "make", [lambda: count.remote(3), two_then_fail.remote], ids=["it ends", "it fails"]
    )
    def test_looking_until_the_end(self, make):
        items = make()
        taken = 0
        deadline = time.monotonic() + 20
        while not items.is_finished():
            assert time.monotonic() < deadline
            if items.next_ready():
                assert not items.is_finished(), "the error is an item too"
                next(items)
                taken += 1
        assert taken == 3
        assert not items.next_ready() and items.is_finished()
        with pytest.raises(StopIteration):
            next(items)

    def test_an_async_generator_is_a_task_too(self):
        @ray.remote
        async def count_slowly(n):
            for i in range(n):
                await asyncio.sleep(0)
                yield i

        assert [ray.get(ref) for ref in count_slowly.remote(4)] == [0, 1, 2, 3]
        assert ray.get(count_slowly.options(num_returns=2).remote(2)) == [0, 1]

    def test_nothing_can_be_sent_into_it(self):
        items = count.remote(1)
        for call in (lambda: items.send(1), lambda: items.throw(ValueError())):
            with pytest.raises(NotImplementedError):
                call()

    def test_what_is_no_generator_cannot_stream(self):
        with pytest.raises(ValueError, match="generator function"):

            @ray.remote(num_returns="streaming")
            def plain():
                return [1]


@pytest.mark.not_inline("kills processes")
class TestReplay:
    def test_after_a_death_the_items_go_on_where_they_were(self, tmp_path):
        @ray.remote
        def dies_once(n):
            for i in range(n):
                if i == 3 and not (tmp_path / "died").exists():
                    while not (tmp_path / "read").exists():
                        time.sleep(0.005)
                    (tmp_path / "died").touch()
                    os._exit(1)
                yield i

        items = dies_once.options(generator_backpressure=4).remote(8)
        got = [ray.get(next(items)) for _ in range(2)]
        (tmp_path / "read").touch()
        assert got + [ray.get(ref) for ref in items] == list(range(8))

    def test_fewer_items_than_before_are_an_error(self, tmp_path):
        @ray.remote
        def shrinks():
            first = not (tmp_path / "died").exists()
            yield from range(3 if first else 1)
            if first:
                while not (tmp_path / "read").exists():
                    time.sleep(0.005)
                (tmp_path / "died").touch()
                os._exit(1)

        items = shrinks.remote()
        assert [ray.get(next(items)) for _ in range(3)] == [0, 1, 2]
        (tmp_path / "read").touch()
        with pytest.raises(StreamingGeneratorReplayInconsistentError, match="yielded 1 items: 3 had arrived"):
            ray.get(next(items))
        with pytest.raises(StopIteration):
            next(items)

    def test_an_exception_that_is_retried_begins_again(self, tmp_path):
        @ray.remote(retry_exceptions=[ConnectionError])
        def flaky():
            yield 0
            if not (tmp_path / "failed").exists():
                (tmp_path / "failed").touch()
                raise ConnectionError
            yield 1

        assert [ray.get(ref) for ref in flaky.remote()] == [0, 1]

    def test_an_actor_s_generator_goes_on_after_its_restart(self, tmp_path):
        @ray.remote(max_restarts=1, max_task_retries=1)
        class Producer:
            def items(self, n):
                for i in range(n):
                    if i == 5 and not (tmp_path / "died").exists():
                        (tmp_path / "died").touch()
                        os._exit(1)
                    yield i

        producer = Producer.remote()
        items = producer.items.options(generator_backpressure=2).remote(9)
        assert [ray.get(ref) for ref in items] == list(range(9))

    def test_the_last_item_tells_of_a_death_without_retries(self):
        @ray.remote(max_retries=0)
        def dies():
            yield 1
            os._exit(1)

        *good, bad = dies.remote()
        assert ray.get(good) in ([1], [])  # what it had said may have died with it
        with pytest.raises(WorkerCrashedError):
            ray.get(bad)


@pytest.mark.not_inline("there the reader makes the items")
class TestInActors:
    def test_back_pressure_and_closing_in_each_kind_of_actor(self, tmp_path):
        class Producer:
            def produce(self, folder):
                try:
                    for i in range(1000):
                        (folder / str(i)).touch()
                        yield i
                finally:
                    (folder / "closed").touch()

        class AsyncProducer(Producer):
            async def is_async(self):
                return True

        for kind, cls in (
            ("plain", ray.remote(Producer)),
            ("threaded", ray.remote(max_concurrency=2)(Producer)),
            ("async", ray.remote(AsyncProducer)),
        ):
            folder = tmp_path / kind
            folder.mkdir()
            actor = cls.remote()
            items = actor.produce.options(generator_backpressure=3).remote(folder)
            assert [ray.get(next(items)) for _ in range(5)] == list(range(5)), kind
            assert len(list(folder.iterdir())) <= 8, kind
            items.close()
            until((folder / "closed").exists), kind


class TestBackPressure:
    def test_the_name_a_program_may_know_it_by(self):
        items = count.options(_generator_backpressure_num_objects=2).remote(5)
        assert [ray.get(ref) for ref in items] == list(range(5))
        assert [ray.get(r) for r in count.options(_generator_backpressure_num_objects=-1).remote(2)] == [0, 1]

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
        until((tmp_path / "stopped").exists)

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
        until((tmp_path / "stopped").exists)

    def test_it_cannot_be_pickled(self):
        @ray.remote
        def use(items):
            return list(items)

        with pytest.raises(TypeError, match="ObjectRefGenerator"):
            use.remote([count.remote(1)])


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
