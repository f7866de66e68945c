"""Workers die and Ctrl-C comes at random; every result still comes, and nothing is lost."""

from __future__ import annotations

import random
import signal
import threading

import numpy as np
import psutil
import pytest

import orchestrator as ray
from orchestrator.core.runtime import require

SEED = 20
KILLS = 40
INTERRUPTS = 300
#: Of CPU time; the kernel rounds it up to its own tick.
INTERRUPT_EVERY_S = 0.001


@ray.remote(max_retries=-1)
def echo(x):
    return x


@ray.remote(max_retries=-1)
def nested(n):
    return sum(ray.get([echo.remote(i) for i in range(n)]))


@ray.remote(max_retries=-1)
def array(x):
    return np.full(50_000, x)


def workers_of(node_pid):
    node = psutil.Process(node_pid)
    return [child for child in node.children(recursive=True) if child.ppid() != node_pid]


def one_round():
    assert ray.get([echo.remote(i) for i in range(300)], timeout=60) == list(range(300))
    assert ray.get([nested.remote(20) for _ in range(4)], timeout=60) == [190] * 4
    assert [int(a[5]) for a in ray.get([array.remote(i) for i in range(10)], timeout=60)] == list(range(10))


@pytest.mark.stress
def test_tasks_survive_the_random_death_of_workers(session):
    done = threading.Event()
    rng = random.Random(SEED)

    def kill():
        for _ in range(KILLS):
            if done.wait(rng.uniform(0.01, 0.08)):
                return
            alive = workers_of(session.node_pid)
            if alive:
                try:
                    rng.choice(alive).kill()
                except psutil.NoSuchProcess:
                    pass
        done.set()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        while not done.is_set():
            one_round()
    finally:
        done.set()
        killer.join()
    one_round()
    audit = require().store.audit()
    assert audit.ok, audit.problems
    # Functions and channels are what is left: nothing of the arrays, nothing per death.
    assert require().store.stats()["used_bytes"] < 16 << 20


@pytest.mark.stress
def test_no_message_is_lost_when_ctrl_c_comes_at_any_moment(session):
    """A timer of CPU time interrupts; its handler raises as Ctrl-C does, inside the `try` only."""
    armed = False

    def interrupt(signum, frame):
        nonlocal armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    ray.get(echo.remote(0))
    before = signal.signal(signal.SIGPROF, interrupt)
    interrupted = 0
    signal.setitimer(signal.ITIMER_PROF, INTERRUPT_EVERY_S, INTERRUPT_EVERY_S)
    try:
        while interrupted < INTERRUPTS:
            try:
                armed = True
                assert ray.get([echo.remote(i) for i in range(50)]) == list(range(50))
                armed = False
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert ray.get([echo.remote(i) for i in range(100)], timeout=60) == list(range(100))
