"""Processes that die, fork or never come: the work goes on, and nothing of the dead is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest

import orchestrator as ray
from orchestrator.core.runtime import require

from .conftest import objects_over

PATIENCE_S = 60
ARRAY = 20_000


@ray.remote(max_retries=-1)
def echo(x):
    return x


@ray.remote(max_retries=-1)
def array(x):
    return np.full(ARRAY, x)


@ray.remote(max_retries=-1)
def several(x):
    return [ray.put(np.full(ARRAY, x)), array.remote(x)]


@ray.remote(max_retries=-1, num_returns="streaming")
def items(count):
    for index in range(count):
        yield np.full(ARRAY, index)


def workers_of(session):
    found = []
    for child in psutil.Process(session.node_pid).children(recursive=True):
        try:
            if child.ppid() != session.node_pid:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def test_a_worker_that_dies_while_it_is_being_lent(session):
    assert ray.get(echo.remote(1), timeout=PATIENCE_S) == 1
    runtime = require()
    granted = threading.Event()
    deaths = []

    def die_first(class_key, address, pid, accept=runtime.dispatcher.on_granted):
        if not deaths:
            deaths.append(pid)
            os.kill(pid, signal.SIGKILL)
            # Until the store knows nobody at this address.
            while runtime.store.reap_client(address) is False and psutil.pid_exists(pid):
                granted.wait(0.001)
        accept(class_key, address, pid)

    runtime.dispatcher.on_granted = die_first
    assert ray.get(echo.options(num_cpus=0.5).remote(2), timeout=PATIENCE_S) == 2
    assert deaths


def test_pools_of_processes_inside_a_task_end(session):
    @ray.remote
    def pool():
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as workers:
            return workers.map(abs, [-1, -2, -3])

    @ray.remote
    def terminated():
        import multiprocessing

        child = multiprocessing.get_context("fork").Process(target=signal.pause)
        child.start()
        child.terminate()
        child.join()
        return child.exitcode

    assert ray.get(pool.remote(), timeout=PATIENCE_S) == [1, 2, 3]
    assert ray.get(terminated.remote(), timeout=PATIENCE_S) == -signal.SIGTERM


@pytest.mark.parametrize(("leave", "code"), [(lambda: sys.exit(3), 3), (lambda: 1 / 0, 1), (lambda: None, 0)])
def test_a_forked_child_that_leaves_the_tasks_code_ends(session, leave, code):
    @ray.remote
    def fork():
        pid = os.fork()
        if pid == 0:
            leave()
            return None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert ray.get(fork.remote(), timeout=PATIENCE_S) == code


def test_what_is_stored_for_nobody_is_given_back(session):
    ray.get(ray.get(several.remote(1), timeout=PATIENCE_S), timeout=PATIENCE_S)
    for _ in range(100):
        ray.get(ray.get(several.remote(1), timeout=PATIENCE_S)[1], timeout=PATIENCE_S)
    for _ in range(30):
        stream = items.remote(10)
        ray.get(next(stream), timeout=PATIENCE_S)
        del stream
        items.remote(3)
        array.remote(1)
        ray.cancel(array.remote(2))
    ray.get(echo.remote(1), timeout=PATIENCE_S)
    assert objects_over(100_000) == []


@pytest.mark.stress
def test_workers_killed_at_random_under_every_kind_of_load(session):
    rng = random.Random(5)
    done = threading.Event()

    @ray.remote
    class Plain:
        def array(self, x):
            return np.full(ARRAY, ray.get(echo.remote(x)))

    @ray.remote
    class Async:
        async def array(self, x):
            return np.full(ARRAY, await echo.remote(x))

    def kill():
        try:
            for _ in range(60):
                if done.wait(rng.uniform(0.01, 0.06)):
                    return
                for victim in rng.sample(alive := workers_of(session), min(1, len(alive))):
                    try:
                        victim.kill()
                    except psutil.NoSuchProcess:
                        pass
        finally:
            done.set()  # also where this thread fails: the test would go on without it

    def one_round():
        assert ray.get([echo.remote(i) for i in range(100)], timeout=PATIENCE_S) == list(range(100))
        try:
            put, child = ray.get(several.remote(7), timeout=PATIENCE_S)
            assert ray.get(put, timeout=PATIENCE_S)[0] == ray.get(child, timeout=PATIENCE_S)[0] == 7
        except (ray.exceptions.OwnerDiedError, ray.exceptions.ObjectLostError):
            pass
        assert [int(ray.get(ref, timeout=PATIENCE_S)[0]) for ref in items.remote(5)] == list(range(5))
        stream = items.remote(5)
        assert ray.get(stream.next(timeout=PATIENCE_S), timeout=PATIENCE_S)[0] == 0
        del stream
        ray.cancel(array.remote(1))
        for kind in (Plain, Async):
            actor = kind.remote()
            try:
                got = ray.get([actor.array.remote(i) for i in range(3)], timeout=PATIENCE_S)
                assert [int(value[0]) for value in got] == [0, 1, 2]
            except ray.exceptions.ActorDiedError:
                pass

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        while not done.is_set():
            one_round()
    finally:
        done.set()
        killer.join()
    one_round()
    assert objects_over(100_000) == []


DRIVER = """
import numpy as np, orchestrator as ray
ray.init(num_cpus=2, object_store_memory=1 << 28, log_to_driver=False)
@ray.remote
def array(x): return np.full(20_000, x)
@ray.remote
def nested(x):
    import subprocess
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    return ray.get(array.remote(x))
print("up", flush=True)
while True:
    ray.get([array.remote(i) for i in range(20)] + [nested.remote(1)])
"""

SHORT = """
import orchestrator as ray
ray.init(num_cpus=1, object_store_memory=1 << 26)
assert ray.get(ray.remote(lambda x: x + 1).remote(1), timeout=60) == 2
ray.shutdown()
"""


def processes_of(runtime_dir):
    """Every process, of whatever parent, that was started with this runtime directory and runs."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get("XDG_RUNTIME_DIR") == runtime_dir
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def begun_in(runtime_dir):
    """What is there of sessions whose node has been begun: it has written to its log, or made more files."""
    return [
        file
        for file in runtime_dir.glob("*/session-*/**/*")
        if file.name not in ("lock", "logs") and (file.name != "node.log" or holds_text(file))
    ]


def holds_text(file):
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


@pytest.mark.stress
def test_drivers_killed_at_random_leave_nothing(tmp_path, no_leaks, rounds):
    """But for an empty directory where the node had not been begun; the next session removes it."""
    rng = random.Random(3)
    pause = threading.Event()
    worst_s = 0.0
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    for count in range(rounds(8, 100)):
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        if count % 2:
            driver.stdout.readline()
        pause.wait(rng.uniform(0.03, 0.3))
        driver.kill()
        driver.communicate()
        killed_s = time.monotonic()
        # A node that was just being started when its driver died has yet to notice.
        while (left := processes_of(str(tmp_path)) or begun_in(tmp_path)) and not pause.wait(0.02):
            assert time.monotonic() - killed_s < PATIENCE_S, left
        worst_s = max(worst_s, time.monotonic() - killed_s)
    subprocess.run([sys.executable, "-c", SHORT], env=env, check=True, timeout=PATIENCE_S)
    assert list(tmp_path.rglob("*")) == []
    print(f"the slowest to be gone took {worst_s:.2f} s")


@pytest.mark.stress
def test_sixteen_sessions_begin_at_once(tmp_path, no_leaks, rounds):
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    for _ in range(rounds(2, 20)):
        drivers = [
            subprocess.Popen([sys.executable, "-c", SHORT], env=env, stderr=subprocess.PIPE)
            for _ in range(16)
        ]
        for driver in drivers:
            _, text = driver.communicate(timeout=PATIENCE_S)
            assert driver.returncode == 0, text.decode()
    assert list(tmp_path.rglob("*")) == []
