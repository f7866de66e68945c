"""Tasks that end together, and results gathered with a word on errors."""

from __future__ import annotations

import asyncio
import time

import pytest

import orchestrator as ray
from orchestrator import TaskGroup, gather
from orchestrator.util.synchronization import Event

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
def same(value):
    return value


@ray.remote
def fail(value):
    raise ValueError(value)


@ray.remote
def sleep_long(path):
    try:
        (path / "began").touch()
        time.sleep(60)
    finally:
        (path / "ended").touch()


class TestABlock:
    def test_it_is_left_when_all_are_over(self):
        with TaskGroup() as group:
            one = group.submit(same, 1)
            two = group.submit(pow, 2, 3)
        assert (one.done(), two.done()) == (True, True)
        assert ray.get([one, two]) == [1, 8]

    def test_an_actor_s_calls_can_be_of_it(self):
        @ray.remote
        class Echo:
            def say(self, value):
                return value

        echo = Echo.remote()
        with TaskGroup() as group:
            said = group.submit(echo.say, "hello")
        assert ray.get(said) == "hello"

    def test_a_failure_cancels_the_others_and_is_raised(self, tmp_path):
        with pytest.raises(ValueError, match="first"):
            with TaskGroup() as group:
                sleeper = group.submit(sleep_long, tmp_path)
                while not (tmp_path / "began").exists():
                    time.sleep(0.01)
                group.submit(fail, "first")
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(sleeper)
        # Nothing goes on behind one's back: the block was left when the sleeper had ended.
        assert (tmp_path / "ended").exists()

    def test_an_error_of_the_block_itself_cancels_them_too(self, tmp_path):
        with pytest.raises(KeyError):
            with TaskGroup() as group:
                sleeper = group.submit(sleep_long, tmp_path)
                raise KeyError("mine")
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(sleeper)

    def test_afterwards_nothing_can_be_added(self):
        with TaskGroup() as group:
            pass
        with pytest.raises(RuntimeError, match="over"):
            group.submit(same, 1)

    def test_what_is_no_call_is_refused(self):
        with TaskGroup() as group, pytest.raises(TypeError, match="int"):
            group.submit(3)


class TestAnAsyncBlock:
    def test_it_waits_without_blocking_the_loop(self):
        async def main():
            gate = Event()
            async with TaskGroup() as group:
                waiting = group.submit(lambda: gate.wait())
                asyncio.get_running_loop().call_later(0.05, gate.set)
            return await waiting

        assert asyncio.run(main()) is True

    def test_a_failure_is_raised(self):
        async def main():
            async with TaskGroup() as group:
                group.submit(fail, "async")

        with pytest.raises(ValueError, match="async"):
            asyncio.run(main())

    def test_a_coroutine_that_is_cancelled_takes_its_tasks_with_it(self, tmp_path):
        async def main():
            async with TaskGroup() as group:
                group.submit(sleep_long, tmp_path)

        async def cancel_it():
            running = asyncio.ensure_future(main())
            while not (tmp_path / "began").exists():
                await asyncio.sleep(0.01)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

        asyncio.run(cancel_it())


class TestGather:
    def test_values_in_order(self):
        assert gather([same.remote(number) for number in range(5)]) == [0, 1, 2, 3, 4]

    def test_errors_are_raised(self):
        with pytest.raises(ValueError, match="bad"):
            gather([same.remote(1), fail.remote("bad")])

    def test_or_skipped(self):
        assert gather([same.remote(1), fail.remote("bad"), same.remote(3)], errors="skip") == [1, 3]

    def test_or_returned_in_their_places(self):
        one, error, three = gather([same.remote(1), fail.remote("bad"), same.remote(3)], errors="return")
        assert (one, three) == (1, 3)
        assert isinstance(error, ValueError)

    def test_another_word_is_refused(self):
        with pytest.raises(ValueError, match=r"raise.*skip.*return"):
            gather([], errors="ignore")
