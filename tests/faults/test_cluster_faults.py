"""A cluster under load, while everything fails: each result is right, or is its documented error.

The faults: workers, nodes, supervisors and the head's process killed by SIGKILL, nodes that stop for a while.
A node that is gone is replaced. The work: tasks, nested tasks, generators, references inside values, large
objects, actors that are restarted, drivers that are killed in the middle of it. The driver's own node, which
is the head's, stays. At the end nodes hold what they held before. With --endurance it goes on for twenty
minutes.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import psutil
import pytest

import orchestrator as ray
from orchestrator import exceptions
from orchestrator.cluster_utils import Cluster, ClusterNode
from orchestrator.node.standing import StartError
from tests.faults.remote_work import Adder, AsyncAdder, array, boxed, items, nested, total
from tests.faults.standing_nodes import assert_nothing_more, head_process, held_by, until, workers_of
from tests.leaks import holdings, leaked_since
from tests.stopping import stopped

PATIENCE_S = float(os.environ.get("CLUSTER_FAULTS_PATIENCE_S", "120"))
#: Length of arrays of 4 MB: carried by the object service.
MUCH = 500_000
NODES = 4
#: What to look into, while working on this: kinds of work, and how long to keep what went wrong.
WORK_CHOSEN = os.environ.get("CLUSTER_FAULTS_WORK", "").split()
HOLD_S = float(os.environ.get("CLUSTER_FAULTS_HOLD_S", "0"))
#: For how long things fail; 0 for what `--endurance` says.
FOR_S = float(os.environ.get("CLUSTER_FAULTS_FOR_S", "0"))
#: How often workers are killed, nodes stopped, the head killed, nodes killed, drivers killed, in proportion.
WEIGHTS = [float(one) for one in os.environ.get("CLUSTER_FAULTS", "0.6 0.2 0.05 0.07 0.1").split()]


@ray.remote(max_retries=-1)
def plus(value: np.ndarray, x: int) -> np.ndarray:
    return value + x


@ray.remote
class Mortal:
    def add(self, x: int) -> int:
        return x + 1


@ray.remote(max_retries=-1)
def call(actor: ray.ObjectRef, x: int) -> int:
    return int(ray.get(actor.add.remote(x))[0])


def get(refs):
    return ray.get(refs, timeout=PATIENCE_S)


def tasks(rng: random.Random) -> None:
    numbers = [rng.randrange(1000) for _ in range(20)]
    assert [int(value[-1]) for value in get([array.remote(x) for x in numbers])] == numbers


def recursion(rng: random.Random) -> None:
    x = rng.randrange(1000)
    assert get(nested.remote(x, 3)) == 8 * x


def references(rng: random.Random) -> None:
    numbers = [rng.randrange(1000) for _ in range(8)]
    assert get(total.remote([array.remote(x) for x in numbers])) == sum(numbers)


def boxes(rng: random.Random) -> None:
    x = rng.randrange(1000)
    put, made = get(boxed.remote(x))
    for ref in (put, made):
        # Both belong to the worker that made them, and may die with it.
        try:
            assert int(get(ref)[0]) == x
        except (exceptions.OwnerDiedError, exceptions.ObjectLostError):
            LOST["owner died"] += 1


def chains(rng: random.Random) -> None:
    """Each is an argument of the next, and may be made again with all that it was made from."""
    x, steps = rng.randrange(1000), [rng.randrange(10) for _ in range(6)]
    ref = array.remote(x)
    for step in steps:
        ref = plus.remote(ref, step)
    assert int(get(ref)[0]) == x + sum(steps)


def large(rng: random.Random) -> None:
    numbers = [rng.randrange(1000) for _ in range(4)]
    put = [ray.put(np.full(MUCH, x)) for x in numbers]
    made = [plus.remote(ref, 1) for ref in put]
    assert [int(value[-1]) for value in get(made)] == [x + 1 for x in numbers]
    assert get(total.remote(made)) == sum(numbers) + len(numbers)


def generators(rng: random.Random) -> None:
    count = rng.randrange(1, 10)
    assert [int(get(ref)[0]) for ref in items.remote(count)] == list(range(count))
    stream = items.remote(20)
    assert int(get(next(stream))[0]) == 0


def actors(rng: random.Random) -> None:
    base = rng.randrange(1000)
    plain, asynchronous = Adder.remote(base), AsyncAdder.remote(base)
    arrays = get([plain.add.remote(x) for x in range(8)])
    assert [int(value[0]) for value in arrays] == [base + x for x in range(8)]
    assert get([asynchronous.add.remote(x) for x in range(8)]) == [base + x for x in range(8)]
    assert get([call.remote(plain, x) for x in range(4)]) == [base + x for x in range(4)]


def mortals(rng: random.Random) -> None:
    actor = Mortal.remote()
    for x in range(10):
        try:
            assert get(actor.add.remote(x)) == x + 1
        except exceptions.ActorDiedError:
            LOST["actor died"] += 1
            with pytest.raises(exceptions.ActorDiedError):
                get(actor.add.remote(x))
            return


WORK: list[Callable[[random.Random], None]] = [
    tasks, recursion, references, boxes, chains, large, generators, actors, mortals,
]  # fmt: skip

#: how often what was documented to be lost was
LOST: Counter[str] = Counter()
#: how long each kind of work has taken at most
LONGEST_S: dict[str, float] = {}

#: A driver that is killed in the middle of its work.
DRIVER = textwrap.dedent("""
    import sys, time
    import numpy as np
    import orchestrator as ray

    @ray.remote(max_retries=-1)
    def work(x):
        time.sleep(0.01)
        return np.full(50_000, x)

    @ray.remote(max_restarts=-1)
    class Actor:
        def work(self, ref):
            return work.remote(int(ray.get(ref)[0]))

    ray.init(sys.argv[1], log_to_driver=False)
    actors = [Actor.remote() for _ in range(2)]
    refs = [actors[0].work.remote(work.remote(0))]
    print("begun", flush=True)
    while True:
        refs = [work.remote(x) for x in range(50)] + [a.work.remote(work.remote(1)) for a in actors]
        try:
            ray.get(refs, timeout=1)
        except Exception:
            pass
""")


class Faults:
    """Does harm at random. Called in the thread that started the nodes: those end with it."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._rng = random.Random(seed)
        self._pause = threading.Event()
        self._driver: subprocess.Popen[bytes] | None = None
        self.done: Counter[str] = Counter()

    def step(self) -> None:
        """Do one thing, after a pause."""
        rng = self._rng
        self._pause.wait(rng.uniform(0.05, 0.6))
        kind = rng.choices(
            [
                self._kill_a_worker,
                self._stop_a_node,
                self._kill_the_head,
                self._kill_a_node,
                self._driver_dies,
            ],
            WEIGHTS,
        )[0]
        try:
            kind()
            self.done[kind.__name__.strip("_")] += 1
        except (psutil.NoSuchProcess, ProcessLookupError):
            pass

    def _kill_a_worker(self) -> None:
        workers = workers_of(self._rng.choice(self._cluster.list_all_nodes()).pid)
        if workers:
            self._rng.choice(workers).kill()

    def _stop_a_node(self) -> None:
        node = self._rng.choice(self._cluster.list_all_nodes())
        if node is self._cluster.head_node:
            # It must not hold a lock of the store that this process shares with it.
            with stopped(node.pid):
                self._pause.wait(self._rng.uniform(0.05, 1.0))
        else:
            process = psutil.Process(node.pid)
            process.suspend()
            self._pause.wait(self._rng.uniform(0.05, 1.0))
            process.resume()

    def _kill_the_head(self) -> None:
        head = head_process(_supervisor(self._cluster.list_all_nodes()[0]))
        if head is not None:
            head.kill()

    def _kill_a_node(self) -> None:
        node = self._rng.choice(self._cluster.worker_nodes)
        os.kill(node.pid if self._rng.random() < 0.7 else _supervisor(node), signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)
        until(self._add_node, "a new node joins")

    def _add_node(self) -> bool:
        try:
            self._cluster.add_node(num_cpus=2)
        except StartError:
            return False  # the head is being started again
        return True

    def _driver_dies(self) -> None:
        """One that was started before is killed, and the next is started."""
        self.end()
        node = self._rng.choice(self._cluster.list_all_nodes())
        self._driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, node.address],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def end(self) -> None:
        """Kill the driver, if there is one."""
        if self._driver is not None:
            self._driver.kill()
            self._driver.wait()
            self._driver = None


def _supervisor(node: ClusterNode) -> int:
    return int(node._standing.supervisor_pid)


@pytest.mark.stress
@pytest.mark.timeout(2400)
def test_every_result_is_right_or_its_documented_error(rounds):
    seed = int(os.environ.get("CLUSTER_FAULTS_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}")
    before = holdings()
    LOST.clear()
    LONGEST_S.clear()
    with Cluster(initialize_head=True, head_node_args={"num_cpus": 2}) as cluster:
        for _ in range(NODES - 1):
            cluster.add_node(num_cpus=2)
        held = {node: held_by(node._standing) for node in cluster.list_all_nodes()}
        cluster.connect()
        cluster.wait_for_nodes()
        problems: list[str] = []
        ended_s = time.monotonic() + (FOR_S or rounds(25, 1200))
        chosen = [one for one in WORK if not WORK_CHOSEN or one.__name__ in WORK_CHOSEN]

        def work(number: int) -> None:
            rng = random.Random(seed + number)
            first = True
            while (first or time.monotonic() < ended_s) and not problems:
                first = False
                for one in rng.sample(chosen, len(chosen)):
                    begun_s = time.monotonic()
                    try:
                        one(rng)
                    except BaseException as error:
                        print(f"{one.__name__}: {error!r:.300}; logs are in {cluster._root}", flush=True)
                        time.sleep(HOLD_S)
                        problems.append(f"{one.__name__}: {type(error).__name__}: {error}")
                        return
                    took_s = time.monotonic() - begun_s
                    LONGEST_S[one.__name__] = max(LONGEST_S.get(one.__name__, 0.0), took_s)

        faults = Faults(cluster, seed)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            while time.monotonic() < ended_s and not problems:
                faults.step()
        finally:
            faults.end()
            for thread in threads:
                thread.join()
            print(f"faults {dict(faults.done)}, lost {dict(LOST)}, problems {problems}")
            print(f"longest {', '.join(f'{name} {long_s:.1f} s' for name, long_s in LONGEST_S.items())}")
        assert not problems, f"seed {seed}: {problems}"
        cluster.wait_for_nodes()
        ray.shutdown()
        assert_nothing_more((node._standing, held[node]) for node in cluster.list_all_nodes() if node in held)
    assert not leaked_since(before)
