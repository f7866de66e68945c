"""Actors that are killed at random: each call has its result, or the error that says what is known."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

import orchestrator as ray
from orchestrator.core.runtime import require
from orchestrator.exceptions import ActorUnavailableError

from .conftest import objects_over

PATIENCE_S = 60
ARRAY = 20_000


class Kind:
    """What the actors of this test have in common."""

    def __init__(self, array, boxed):
        self.base = int(array[0]) + int(ray.get(boxed[0])[0])

    def add(self, x):
        return np.full(ARRAY, self.base + x)

    def once(self, folder, number):
        """Leave a note for every run."""
        with (folder / str(number)).open("a") as file:
            file.write("x")
        return number

    def items(self, count):
        for index in range(count):
            yield np.full(ARRAY, self.base + index)


class AsyncKind(Kind):
    async def nothing(self):
        await asyncio.sleep(0)


def actors_processes(session):
    """The processes that host actors now."""
    node = require().node
    hosts = {actor["worker"] for actor in node.ask({"op": "list_actors"})["actors"] if actor["worker"]}
    workers = node.ask({"op": "resources"})["workers"]
    return [worker["pid"] for worker in workers if worker["worker"] in hosts]


def kill_at_random(session, rounds, done, rng):
    try:
        for _ in range(rounds):
            if done.wait(rng.uniform(0.02, 0.1)):
                return
            victims = actors_processes(session)
            if victims:
                try:
                    psutil.Process(rng.choice(victims)).kill()
                except psutil.NoSuchProcess:
                    pass
    finally:
        done.set()  # also where this thread fails: the test would go on without it


@pytest.mark.stress
def test_calls_of_actors_that_are_killed_at_random(session, tmp_path: Path, rounds) -> None:
    rng = random.Random(11)
    done = threading.Event()
    start, inner = ray.put(np.full(ARRAY, 10)), ray.put(np.full(ARRAY, 20))
    kinds = (
        ray.remote(Kind).options(max_restarts=-1, max_task_retries=-1),
        ray.remote(AsyncKind).options(max_restarts=-1, max_task_retries=-1),
        ray.remote(Kind).options(max_restarts=-1, max_task_retries=-1, max_concurrency=3),
    )
    actors = [kind.remote(start, [inner]) for kind in kinds]
    number = 0

    def one_round() -> None:
        nonlocal number
        refs = [actor.add.remote(i) for actor in actors for i in range(10)]
        got = [int(value[0]) for value in ray.get(refs, timeout=PATIENCE_S)]
        assert got == [30 + i for _ in actors for i in range(10)]
        for actor in actors:
            items = [int(ray.get(ref, timeout=PATIENCE_S)[0]) for ref in actor.items.remote(4)]
            assert items == [30, 31, 32, 33]
            # At most once, and the answer says which.
            calls = {}
            for _ in range(5):
                number += 1
                calls[number] = actor.once.options(max_task_retries=0).remote(tmp_path, number)
            for mark, ref in calls.items():
                note = tmp_path / str(mark)
                try:
                    assert ray.get(ref, timeout=PATIENCE_S) == mark
                    assert note.read_text() == "x"
                except ActorUnavailableError:
                    assert not note.exists() or note.read_text() in ("", "x")

    killer = threading.Thread(target=kill_at_random, args=(session, rounds(40, 400), done, rng))
    killer.start()
    try:
        while not done.is_set():
            one_round()
    finally:
        done.set()
        killer.join()
    one_round()
    actors.clear()
    del start, inner
    assert objects_over(100_000) == []
    assert not actors_processes(session)
