"""`Queue`: first in, first out, between any number of processes."""

from __future__ import annotations

import asyncio
import queue

import pytest

import orchestrator as ray
from orchestrator.util.queue import Empty, Full, Queue

pytestmark = pytest.mark.usefixtures("shared_session")


class TestOneProcess:
    def test_first_in_first_out(self):
        items = Queue()
        for number in range(5):
            items.put(number)
        assert (items.qsize(), items.size(), len(items)) == (5, 5, 5)
        assert [items.get() for _ in range(5)] == [0, 1, 2, 3, 4]
        assert items.empty()

    def test_a_full_one(self):
        items = Queue(maxsize=2)
        items.put(1)
        items.put(2)
        assert items.full()
        with pytest.raises(Full):
            items.put(3, block=False)
        with pytest.raises(Full):
            items.put_nowait(3)
        with pytest.raises(queue.Full):  # what a program written for the standard library catches
            items.put(3, timeout=0.05)

    def test_an_empty_one(self):
        items = Queue()
        with pytest.raises(Empty):
            items.get(block=False)
        with pytest.raises(Empty):
            items.get_nowait()
        with pytest.raises(queue.Empty):
            items.get(timeout=0.05)

    def test_a_negative_timeout(self):
        items = Queue()
        with pytest.raises(ValueError, match="timeout must be >= 0"):
            items.get(timeout=-1)
        with pytest.raises(ValueError, match="timeout must be >= 0"):
            items.put(1, timeout=-1)

    def test_batches_go_whole_or_not_at_all(self):
        items = Queue(maxsize=3)
        with pytest.raises(Full, match="3 would fit"):
            items.put_nowait_batch([1, 2, 3, 4])
        assert items.empty()
        items.put_nowait_batch([1, 2, 3])
        with pytest.raises(Empty, match="only 3"):
            items.get_nowait_batch(4)
        assert items.get_nowait_batch(2) == [1, 2]

    def test_batches_are_checked(self):
        items = Queue()
        with pytest.raises(TypeError):
            items.put_nowait_batch(3)
        with pytest.raises(TypeError):
            items.get_nowait_batch("3")
        with pytest.raises(ValueError, match="num_items"):
            items.get_nowait_batch(-1)

    def test_in_coroutines(self):
        async def main():
            items = Queue(maxsize=1)
            await items.put_async(1)
            with pytest.raises(Full):
                await items.put_async(2, timeout=0.05)
            assert await items.get_async() == 1
            with pytest.raises(Empty):
                await items.get_async(block=False)

        asyncio.run(main())


class TestSeveralProcesses:
    def test_producers_and_consumers(self):
        @ray.remote
        def produce(items, start):
            for number in range(start, start + 50):
                items.put(number)

        @ray.remote
        def consume(items, count):
            return [items.get() for _ in range(count)]

        items = Queue(maxsize=5)
        consumers = [consume.remote(items, 50) for _ in range(2)]
        producers = [produce.remote(items, start) for start in (0, 50)]
        ray.get(producers)
        assert sorted(number for taken in ray.get(consumers) for number in taken) == list(range(100))

    def test_a_wait_ends_when_there_is_something(self):
        items = Queue()

        @ray.remote
        def take(items):
            return items.get()

        taken = take.remote(items)
        assert ray.wait([taken], timeout=0.1)[0] == []
        items.put("at last")
        assert ray.get(taken) == "at last"


class TestItsActor:
    def test_it_has_the_options_it_is_given(self):
        items = Queue(actor_options={"name": "the queue", "num_cpus": 0})
        assert ray.get_actor("the queue") == items.actor

    def test_shutdown(self):
        items = Queue()
        items.put(1)
        items.shutdown()
        with pytest.raises(ray.exceptions.ActorDiedError):
            items.put(2)

    def test_shutdown_by_force(self):
        items = Queue()
        items.shutdown(force=True)
        with pytest.raises(ray.exceptions.ActorDiedError):
            items.get()
