"""Every kind of work at once, while everything fails: each result is right, or is its documented error.

The faults: workers killed by SIGKILL at random; tasks that end their process by a segmentation fault,
`os._exit` or an abort; more memory than the session may have; files of spilled objects that vanish; a disk
that is full for a while. The work: tasks, nested tasks, generators, references inside values, actors that are
restarted, more than fits into memory together. With --endurance it goes on for ten minutes.
"""

from __future__ import annotations

import ctypes
import os
import random
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

import orchestrator as ray
from orchestrator import exceptions
from orchestrator.core.runtime import require
from tests.faults.remote_work import LENGTH, Adder, AsyncAdder, array, boxed, items, nested, total
from tests.leaks import holdings, leaked_since
from tests.waiting import until

from .conftest import objects_over

PATIENCE_S = 240
#: Room for some 120 arrays.
STORE_BYTES = 48 << 20
#: Memory of all workers together: room for one that needs MUCH, hardly for two, not for one of TOO_MUCH.
MEMORY_BYTES, MUCH, TOO_MUCH = 1 << 30, 500 << 20, 1500 << 20


@ray.remote(max_retries=0)
def end_badly(how: str) -> None:
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "abort":
        os.abort()
    elif how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


@ray.remote(max_retries=-1)
def take_memory(size_bytes: int) -> int:
    held = bytearray(size_bytes)
    for start in range(0, size_bytes, 1 << 20):
        held[start : start + (1 << 20)] = b"x" * (1 << 20)
    until(lambda: size_bytes < TOO_MUCH)  # who has that much is ended by the node, and not by itself
    return held.count(b"x")


def tasks(rng: random.Random) -> None:
    numbers = [rng.randrange(1000) for _ in range(30)]
    assert [
        int(value[-1]) for value in ray.get([array.remote(x) for x in numbers], timeout=PATIENCE_S)
    ] == numbers


def recursion(rng: random.Random) -> None:
    x = rng.randrange(1000)
    assert ray.get(nested.remote(x, 4), timeout=PATIENCE_S) == 16 * x


def references(rng: random.Random) -> None:
    numbers = [rng.randrange(1000) for _ in range(10)]
    assert ray.get(total.remote([array.remote(x) for x in numbers]), timeout=PATIENCE_S) == sum(numbers)


def boxes(rng: random.Random) -> None:
    x = rng.randrange(1000)
    put, made = ray.get(boxed.remote(x), timeout=PATIENCE_S)
    for ref in (put, made):
        # Both belong to the worker that made them, and may die with it.
        try:
            assert int(ray.get(ref, timeout=PATIENCE_S)[0]) == x
        except (exceptions.OwnerDiedError, exceptions.ObjectLostError):
            LOST["owner died"] += 1


def generators(rng: random.Random) -> None:
    count = rng.randrange(1, 12)
    got = [int(ray.get(ref, timeout=PATIENCE_S)[0]) for ref in items.remote(count)]
    assert got == list(range(count))
    stream = items.remote(20)
    assert int(ray.get(next(stream), timeout=PATIENCE_S)[0]) == 0


def actors(rng: random.Random) -> None:
    base = rng.randrange(1000)
    plain, asynchronous = Adder.remote(base), AsyncAdder.remote(base)
    arrays = ray.get([plain.add.remote(x) for x in range(10)], timeout=PATIENCE_S)
    assert [int(value[0]) for value in arrays] == [base + x for x in range(10)]
    assert ray.get([asynchronous.add.remote(x) for x in range(10)], timeout=PATIENCE_S) == [
        base + x for x in range(10)
    ]


def ends(rng: random.Random) -> None:
    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(end_badly.remote(rng.choice(["segfault", "abort", "exit", "kill"])), timeout=PATIENCE_S)


def memory(rng: random.Random) -> None:
    """What fits is done, or told that it was alone with it; what never fits is told so."""
    try:
        assert ray.get(take_memory.remote(MUCH), timeout=PATIENCE_S) == MUCH
    except exceptions.OutOfMemoryError:
        LOST["no memory"] += 1
    with pytest.raises(exceptions.WorkerCrashedError) as ended:
        ray.get(take_memory.options(max_retries=0).remote(TOO_MUCH), timeout=PATIENCE_S)
    LOST["too much memory"] += ended.errisinstance(exceptions.OutOfMemoryError)


def more_than_the_store(rng: random.Random) -> None:
    numbers = [rng.randrange(1000) for _ in range(100)]
    made = [array.remote(x) for x in numbers]
    for ref, x in zip(made, numbers, strict=True):
        assert int(ray.get(ref, timeout=PATIENCE_S)[0]) == x


WORK: list[Callable[[random.Random], None]] = [
    tasks,
    recursion,
    references,
    boxes,
    generators,
    actors,
    ends,
    memory,
    more_than_the_store,
]

#: how often what was documented to be lost was
LOST: Counter[str] = Counter()


class Faults:
    """Does harm at random until it is stopped."""

    def __init__(self, node_pid: int, spill_directory: Path, seed: int) -> None:
        self._node = psutil.Process(node_pid)
        self._directory = spill_directory
        self._rng = random.Random(seed)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.done: Counter[str] = Counter()

    def __enter__(self) -> Faults:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._rng.uniform(0.02, 0.3)):
            kind = self._rng.random()
            if kind < 0.8:
                self._kill_a_worker()
            elif kind < 0.97:
                self._remove_a_file()
            else:
                self._fill_the_disk(self._rng.uniform(0.1, 0.5))

    def _kill_a_worker(self) -> None:
        try:
            workers = [
                child
                for child in self._node.children(recursive=True)
                if child.ppid() != self._node.pid
                and child.ppid() in {c.pid for c in self._node.children()}
                # Who has that much is the memory monitor's; killed all the time it would never be done.
                and (held := child.memory_info()).rss - held.shared < MUCH // 4
            ]
            if workers:
                self._rng.choice(workers).kill()
                self.done["kill"] += 1
        except psutil.NoSuchProcess:
            pass

    def _remove_a_file(self) -> None:
        files = list(self._directory.glob("orchestrator-spilled-*/*"))
        if files:
            try:
                self._rng.choice(files).unlink()
                self.done["file removed"] += 1
            except OSError:
                pass

    def _fill_the_disk(self, duration_s: float) -> None:
        """For a while no process can write more than a page to any file."""
        self._limit_files(4096)
        self._stopped.wait(duration_s)
        self._limit_files(resource.RLIM_INFINITY)
        self.done["disk full"] += 1

    def _limit_files(self, size_bytes: int) -> None:
        # Parents first, so that who is forked meanwhile is found among the children, or has inherited it.
        processes = [psutil.Process(), self._node]
        while processes:
            process = processes.pop(0)
            try:
                _, hard = process.rlimit(resource.RLIMIT_FSIZE)
                process.rlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
                processes += process.children() if process != psutil.Process() else []
            except psutil.NoSuchProcess:
                pass


@pytest.mark.stress
@pytest.mark.timeout(1500)
def test_every_result_is_right_or_its_documented_error(tmp_path, rounds, monkeypatch):
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    before = holdings()
    monkeypatch.setenv("ORCHESTRATOR_MEMORY_LIMIT_BYTES", str(MEMORY_BYTES))
    with ray.init(
        num_cpus=2,
        object_store_memory=STORE_BYTES,
        object_spilling_directory=str(tmp_path),
        log_to_driver=False,
    ) as session:
        problems: list[str] = []
        ended_s = time.monotonic() + rounds(0, 600)

        def work(number: int) -> None:
            rng = random.Random(seed + number)
            first = True
            while (first or time.monotonic() < ended_s) and not problems:
                first = False
                for one in rng.sample(WORK, len(WORK)):
                    try:
                        one(rng)
                    except exceptions.OutOfDiskError:
                        LOST["disk full"] += 1
                    except BaseException as error:
                        problems.append(f"{one.__name__}: {type(error).__name__}: {error}")
                        return

        with Faults(session.node_pid, tmp_path, seed) as faults:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        print(f"faults {dict(faults.done)}, lost {dict(LOST)}")
        assert not problems, f"seed {seed}: {problems}"
        assert objects_over(100_000) == []
    assert not leaked_since(before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.stress
def test_a_full_disk_in_the_middle_of_work_loses_nothing(tmp_path):
    with ray.init(
        num_cpus=2,
        object_store_memory=STORE_BYTES,
        object_spilling_directory=str(tmp_path),
        log_to_driver=False,
    ):
        kept = [ray.put(np.full(LENGTH, number)) for number in range(100)]
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        for _ in range(5):
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
            refused = 0
            try:
                for number in range(40):
                    try:
                        kept.append(ray.put(np.full(LENGTH, 100 + number)))
                    except exceptions.OutOfDiskError:
                        refused += 1
                        if refused == 3:
                            break
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert refused
            assert [int(ray.get(ref)[0]) for ref in kept[:100]] == list(range(100))
            assert ray.get(total.remote(kept[:20]), timeout=PATIENCE_S) == sum(range(20))
            del kept[100:]


def test_a_node_that_cannot_write_its_log_goes_on(session):
    node = psutil.Process(session.node_pid)
    _, hard = node.rlimit(resource.RLIMIT_FSIZE)
    node.rlimit(resource.RLIMIT_FSIZE, (1, hard))
    for _ in range(3):
        require().node.send({"op": "nothing of the kind"})  # it complains
    assert ray.get(nested.remote(1, 0), timeout=PATIENCE_S) == 1
    assert node.is_running()
