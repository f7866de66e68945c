"""Calls of actors that may take so long and no longer, and pauses before they are tried again."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

import orchestrator as ray
from orchestrator.exceptions import ActorDiedError, TaskTimeoutError

pytestmark = [pytest.mark.usefixtures("shared_session")]


@ray.remote
class Worker:
    def __init__(self):
        self.calls = 0

    @ray.method(timeout_s=1)
    def sleep(self, seconds):
        self.calls += 1
        time.sleep(seconds)
        return self.calls

    def pid(self):
        return os.getpid()

    def resources(self):
        return ray.get_runtime_context().get_assigned_resources()

    def deaf(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        time.sleep(1000)

    def fail_twice(self):
        self.calls += 1
        if self.calls < 3:
            raise ConnectionError
        return time.monotonic()


@ray.remote
class AsyncWorker:
    def __init__(self):
        self.cancelled = 0

    async def sleep(self, seconds):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.cancelled

    async def items(self):
        yield 1
        await asyncio.sleep(1000)


class TestTimeLimits:
    def test_a_method_that_takes_too_long_is_interrupted_and_the_actor_lives(self):
        worker = Worker.options(num_cpus=0).remote()
        pid = ray.get(worker.pid.remote())
        with pytest.raises(TaskTimeoutError, match=r"Worker.sleep ran longer than timeout_s=1"):
            ray.get(worker.sleep.remote(1000), timeout=30)
        assert ray.get([worker.sleep.remote(0), worker.pid.remote()], timeout=30) == [2, pid]
        assert ray.get(worker.resources.remote()) == {}

    def test_one_that_is_deaf_ends_its_actor_which_says_where_it_was(self):
        worker = Worker.remote()
        with pytest.raises(ActorDiedError, match=r"Timeout (.|\n)*in deaf"):
            ray.get(worker.deaf.options(timeout_s=0.1).remote(), timeout=30)

    def test_a_coroutine_is_cancelled(self):
        worker = AsyncWorker.remote()
        limited = worker.sleep.options(timeout_s=1)
        with pytest.raises(TaskTimeoutError, match=r"AsyncWorker.sleep ran longer than timeout_s=1"):
            ray.get(limited.remote(1000), timeout=30)
        assert ray.get(limited.remote(0), timeout=30) == 1

    def test_an_async_generator_too_after_what_it_has_yielded(self):
        worker = AsyncWorker.remote()
        first, second = worker.items.options(timeout_s=1).remote()
        assert ray.get(first) == 1
        with pytest.raises(TaskTimeoutError):
            ray.get(second, timeout=30)

    def test_it_can_be_tried_again(self):
        worker = AsyncWorker.remote()
        again = worker.sleep.options(timeout_s=0.1, max_task_retries=2, retry_exceptions=[TimeoutError])
        with pytest.raises(TaskTimeoutError):
            ray.get(again.remote(1000), timeout=30)
        assert ray.get(worker.sleep.remote(0)) == 3

    def test_calls_that_run_in_threads_cannot_be_interrupted(self):
        worker = Worker.options(max_concurrency=2)
        with pytest.raises(ValueError, match=r"Worker.sleep: timeout_s cannot be kept"):
            worker.remote()


class TestPauses:
    def test_before_each_attempt_and_others_pass_meanwhile(self):
        worker = Worker.remote()
        policy = ray.RetryPolicy(delay_s=0.2, factor=2, jitter=0)
        lucky = worker.fail_twice.options(max_task_retries=5, retry_exceptions=True, retry_policy=policy)
        started = time.monotonic()
        ref = lucky.remote()
        assert ray.get(worker.pid.remote(), timeout=30) > 0
        assert ray.get(ref, timeout=30) - started >= 0.6

    def test_one_can_be_cancelled(self):
        worker = Worker.remote()
        policy = ray.RetryPolicy(delay_s=1000)
        slow = worker.fail_twice.options(max_task_retries=5, retry_exceptions=True, retry_policy=policy)
        ref = slow.remote()
        ray.get(worker.pid.remote())
        with pytest.raises(ray.exceptions.GetTimeoutError, match="waiting for its attempt number 2"):
            ray.get(ref, timeout=0.1)
        ray.cancel(ref)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(ref, timeout=20)
