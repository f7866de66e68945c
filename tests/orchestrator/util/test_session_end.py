"""When the session ends, every wait of the utilities ends with it, and nothing starts another by itself."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
import time

import pytest

import orchestrator as ray
from orchestrator.core.pump import Pump
from orchestrator.exceptions import SessionError
from orchestrator.util.multiprocessing import Pool
from orchestrator.util.queue import Queue
from tests.waiting import until

#: What a thread is inside of while it waits for a result.
WAITS = {Pump.wait.__code__, threading.Event.wait.__code__}


@ray.remote
def sleep_long():
    time.sleep(60)


def is_waiting(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code not in WAITS:
        frame = frame.f_back
    return frame is not None


@pytest.mark.usefixtures("no_leaks")
def test_waits_end_with_the_session():
    ray.init(num_cpus=2)
    executor, pool, queue = ray.Executor(max_workers=1), Pool(1), Queue()
    running, held = executor.submit(time.sleep, 60), executor.submit(abs, 1)
    mapped = pool.map_async(time.sleep, [60, 60])
    lazy = pool.imap(time.sleep, [60, 60])
    completed = ray.as_completed([sleep_long.remote()])
    waits = {
        "a future": running.result,
        "a future that is held": held.result,
        "the standard library's wait": lambda: concurrent.futures.wait([running]),
        "map_async": mapped.get,
        "imap": lambda: next(lazy),
        "a queue": queue.get,
        "map": lambda: next(ray.map(time.sleep, [60])),
        "as_completed": lambda: ray.get(next(completed)),
    }
    ended: dict[str, str] = {}

    def wait(name):
        try:
            waits[name]()
            ended[name] = "returned"
        except Exception as error:
            ended[name] = type(error).__name__

    threads = [threading.Thread(target=wait, args=[name], daemon=True) for name in waits]
    for thread in threads:
        thread.start()
    until(lambda: all(is_waiting(thread) for thread in threads))
    ray.shutdown()
    for thread in threads:
        thread.join(30)
    assert set(ended) == set(waits)
    assert {outcome for name, outcome in ended.items() if name != "the standard library's wait"} <= {
        "SessionError",
        "ActorHandleNotFoundError",
    }

    for call in (
        lambda: executor.submit(abs, 1),
        lambda: pool.apply(abs, (1,)),
        lambda: queue.put(1),
        lambda: running.result(),
    ):
        with pytest.raises(SessionError):
            call()
    executor.shutdown()
    pool.terminate()
    assert not ray.is_initialized()
