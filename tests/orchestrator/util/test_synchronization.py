"""Locks, semaphores, events and barriers between processes."""

from __future__ import annotations

import asyncio
import time

import pytest

import orchestrator as ray
from orchestrator.util import Barrier, Event, Lock, Semaphore

pytestmark = pytest.mark.usefixtures("shared_session")


class TestLock:
    def test_one_at_a_time(self, tmp_path):
        @ray.remote
        def count(lock, path):
            for _ in range(10):
                with lock:
                    number = int(path.read_text())
                    time.sleep(0.001)
                    path.write_text(str(number + 1))

        path = tmp_path / "number"
        path.write_text("0")
        lock = Lock()
        ray.get([count.remote(lock, path) for _ in range(4)])
        assert path.read_text() == "40"

    def test_of_one_name_there_is_one(self):
        with Lock(name="the one"):
            assert Lock(name="the one").locked()
            assert not Lock(name="the one").acquire(timeout=0.05)
        assert not Lock(name="another").locked()

    def test_it_is_released_once(self):
        lock = Lock()
        with pytest.raises(ValueError, match="without acquire"):
            lock.release()

    def test_in_coroutines(self):
        async def main():
            lock = Lock()
            async with lock:
                assert not await lock.acquire_async(timeout=0.05)
            assert await lock.acquire_async()

        asyncio.run(main())


class TestSemaphore:
    def test_several_at_a_time(self):
        places = Semaphore(2)
        assert places.acquire() and places.acquire()
        assert places.locked()
        assert not places.acquire(timeout=0.05)
        places.release()
        assert places.acquire(timeout=60)

    def test_there_is_at_least_one_place(self):
        with pytest.raises(ValueError, match="value must be >= 1"):
            Semaphore(0)


class TestEvent:
    def test_everyone_waits_for_it(self):
        @ray.remote(num_cpus=0)
        def wait(event):
            return event.wait()

        event = Event()
        waiting = [wait.remote(event) for _ in range(4)]
        assert ray.wait(waiting, timeout=0.1)[0] == []
        assert not event.is_set()
        event.set()
        assert ray.get(waiting) == [True] * 4
        assert event.is_set()
        event.clear()
        assert not event.wait(timeout=0.05)


class TestBarrier:
    def test_nobody_goes_on_before_all_have_come(self):
        @ray.remote(num_cpus=0)
        def come(barrier):
            return barrier.wait()

        barrier = Barrier(3)
        early = [come.remote(barrier) for _ in range(2)]
        assert ray.wait(early, timeout=0.1)[0] == []
        assert sorted([barrier.wait(), *ray.get(early)]) == [0, 1, 2]

    def test_it_can_be_used_again(self):
        barrier = Barrier(1)
        assert [barrier.wait(), barrier.wait()] == [0, 0]

    def test_a_wait_ends_in_time(self):
        with pytest.raises(TimeoutError, match="not all of 2"):
            Barrier(2).wait(timeout=0.05)

    def test_it_takes_one_to_meet(self):
        with pytest.raises(ValueError, match="parties must be >= 1"):
            Barrier(0)
