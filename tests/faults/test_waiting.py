"""Whatever waits is woken: by a result, by an error, by the end; in whichever thread and place it waits."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import orchestrator as ray
from orchestrator.core.runtime import require

PATIENCE_S = 60


@ray.remote
def echo(x):
    return x


@ray.remote
def never():
    signal.pause()


def test_a_task_whose_threads_wait_gives_its_cpu_back(start):
    start(1)

    @ray.remote
    def parent():
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda i: ray.get(echo.remote(i)), range(4)))

    assert ray.get([parent.remote() for _ in range(3)], timeout=PATIENCE_S) == [[0, 1, 2, 3]] * 3


def test_a_thread_that_outlives_its_task_takes_no_other_task(start):
    start(1)

    refs = [never.options(num_cpus=0).remote()]

    @ray.remote
    def leave(refs):
        threading.Thread(target=lambda: ray.get(refs), daemon=True).start()
        return ray.get(echo.remote(1))

    assert ray.get(leave.remote(refs), timeout=PATIENCE_S) == 1
    assert ray.get([echo.remote(i) for i in range(200)], timeout=PATIENCE_S) == list(range(200))


def test_a_threaded_actor_that_waits_gives_its_cpu_back(start):
    start(1)

    @ray.remote(num_cpus=1, max_concurrency=2)
    class Caller:
        def call(self, x):
            return ray.get(echo.remote(x))

    caller = Caller.remote()
    assert ray.get([caller.call.remote(i) for i in range(4)], timeout=PATIENCE_S) == [0, 1, 2, 3]


def test_callbacks_may_wait_and_submit(session):
    results = []
    called = threading.Event()

    def callback(ref):
        results.append(ray.get(echo.remote(ray.get(ref) + 1), timeout=PATIENCE_S))
        called.set()

    ref = echo.remote(1)
    ref.add_done_callback(callback)
    assert ray.get(ref, timeout=PATIENCE_S) == 1
    assert called.wait(PATIENCE_S)
    assert results == [2]


def test_a_wait_inside_the_handling_of_a_message(session):
    """As a destructor may, that runs while this thread reads messages."""
    runtime = require()
    seen = []

    def nested(message):
        seen.append(ray.get(echo.remote(7), timeout=PATIENCE_S))

    runtime.handlers["log"] = nested
    with runtime.pump.lock:
        runtime.pump._leader = threading.get_ident()
        runtime.pump._inbox.append((0, b'{"op":"log"}'))
        runtime.pump.drain()
        runtime.pump._leader = 0
    assert seen == [7]
    assert ray.get([echo.remote(i) for i in range(50)], timeout=PATIENCE_S) == list(range(50))


@pytest.mark.parametrize("end", ["shutdown", "node"])
def test_the_end_of_the_session_ends_every_wait(session, end):
    expected = ray.exceptions.SessionError if end == "shutdown" else ray.exceptions.NodeDiedError
    errors = []
    waiting = threading.Barrier(4)

    def collect(wait):
        waiting.wait(PATIENCE_S)
        try:
            wait()
        except Exception as error:
            errors.append(type(error))

    async def coroutine(ref):
        return await ref

    refs = [never.remote() for _ in range(3)]
    future = refs[2].future()
    threads = [
        threading.Thread(target=collect, args=(wait,))
        for wait in (
            lambda: ray.get(refs[0]),
            lambda: ray.get(refs),
            lambda: asyncio.run(coroutine(refs[1])),
        )
    ]
    for thread in threads:
        thread.start()
    waiting.wait(PATIENCE_S)
    if end == "shutdown":
        ray.shutdown()
    else:
        os.kill(session.node_pid, signal.SIGKILL)
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert errors == [expected] * 3
    assert isinstance(future.exception(PATIENCE_S), expected)


def test_threads_that_submit_when_the_session_ends_hear_so(start):
    for _ in range(3):
        start(2)
        errors = []
        running = threading.Barrier(5)

        def submit(errors=errors, running=running):
            try:
                ray.get(echo.remote(0))
                running.wait(PATIENCE_S)
                while True:
                    ray.get([echo.remote(i) for i in range(10)])
            except Exception as error:
                errors.append(type(error))

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        running.wait(PATIENCE_S)
        ray.shutdown()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert errors == [ray.exceptions.SessionError] * 4


def test_shutdown_in_a_handler_of_signals_while_get_waits(session):
    def end(signum, frame):
        ray.shutdown()

    before = signal.signal(signal.SIGALRM, end)
    try:
        ref = never.remote()
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(ray.exceptions.SessionError):
            ray.get(ref, timeout=PATIENCE_S)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_flood_of_cancellations_frees_every_worker(session):
    for _ in range(5):
        refs = [never.remote() for _ in range(10_000)]
        for ref in refs:
            ray.cancel(ref)
        assert ray.get([echo.remote(i) for i in range(10)], timeout=PATIENCE_S) == list(range(10))
