"""The rows of ``ray microbenchmark``, under the same names and for the same usage, for modules with its API.

``measure(api, ...)`` is called in a process of its own with ``orchestrator`` or ``ray`` as ``api``: the very
same lines run on both sides. Rows that Ray's program doesn't have are marked with ``+``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
from harness import emit, futex_round_trips, memcpy_gb_s, rate

#: name, function to time, what one call counts for, unit
Row = tuple[str, Callable[[], Any], float, str]

IN_FLIGHT = 1000
LARGE_BYTES = 800_000_000


class Workload:
    """The remote functions and classes of one side; ``scale`` shortens the longest rows (1: as in Ray's).

    ``inside`` is what remote code calls, where that is another module than its caller's (client mode).
    """

    def __init__(self, api: Any, scale: float = 1.0, inside: ModuleType | None = None) -> None:
        self.api = api
        self.many = max(100, int(10_000 * scale))
        self.several = max(100, int(5_000 * scale))
        self.servers_count = max(1, (os.cpu_count() or 2) // 2)
        remote, get, put = api.remote, (inside or api).get, (inside or api).put

        @remote
        def small_value() -> bytes:
            return b"ok"

        @remote(num_cpus=0)
        class Actor:
            def small_value(self) -> bytes:
                return b"ok"

            def small_value_arg(self, x: object) -> bytes:
                return b"ok"

            def small_value_batch(self, n: int) -> None:
                get([small_value.remote() for _ in range(n)])

        @remote
        class AsyncActor:
            async def small_value(self) -> bytes:
                return b"ok"

            async def small_value_with_arg(self, x: object) -> bytes:
                return b"ok"

        @remote(num_cpus=0)
        class Client:
            def __init__(self, servers: list[Any]) -> None:
                self.servers = servers

            def small_value_batch(self, n: int) -> None:
                get([server.small_value.remote() for server in self.servers for _ in range(n)])

            def small_value_batch_arg(self, n: int) -> None:
                x = put(0)
                get([server.small_value_arg.remote(x) for server in self.servers for _ in range(n)])

        @remote
        def work(actors: list[Any], n: int) -> None:
            get([actors[index % len(actors)].small_value.remote() for index in range(n)])

        @remote
        def put_small_100() -> None:
            for _ in range(100):
                put(0)

        @remote
        def put_large_10() -> None:
            for _ in range(10):
                put(np.zeros(10 * 1024 * 1024, dtype=np.int64))

        @remote
        def refs_10k() -> list[Any]:
            return [put(1) for _ in range(10_000)]

        self.small_value, self.work = small_value, work
        self.actor, self.async_actor, self.client = Actor, AsyncActor, Client
        self.put_small_100, self.put_large_10, self.refs_10k = put_small_100, put_large_10, refs_10k

    # Each group is a generator: what a row needs is made when its turn comes and dropped after it.

    def objects(self) -> Iterator[Row]:
        api = self.api
        value = api.put(0)
        yield "single client get calls (Plasma Store)", lambda: api.get(value), 1, "/s"
        yield "single client put calls (Plasma Store)", lambda: api.put(0), 1, "/s"
        yield (
            "multi client put calls (Plasma Store)",
            lambda: api.get([self.put_small_100.remote() for _ in range(10)]),
            1000,
            "/s",
        )

    def large_objects(self) -> Iterator[Row]:
        api = self.api
        array = np.zeros(100 * 1024 * 1024, dtype=np.int64)
        yield "single client put gigabytes", lambda: api.put(array), array.nbytes / 1e9, "GB/s"
        yield (
            "multi client put gigabytes",
            lambda: api.get([self.put_large_10.remote() for _ in range(10)]),
            10 * 10 * 80 * 1.048576 / 1000,
            "GB/s",
        )
        for label, size_bytes in (("1 MiB", 1 << 20), ("1 GiB", 1 << 30)):
            ref = api.put(np.ones(size_bytes, np.uint8))
            yield f"+ get of a {label} array", lambda ref=ref: api.get(ref), 1, "/s"
            del ref
        small = np.ones(1 << 20, np.uint8)
        yield "+ put of a 1 MiB array", lambda: api.put(small), 1, "/s"

    def many_refs(self) -> Iterator[Row]:
        api = self.api
        container = self.refs_10k.remote()
        yield "single client get object containing 10k refs", lambda: api.get(container), 1, "/s"

        def wait_1k() -> None:
            pending = [self.small_value.remote() for _ in range(IN_FLIGHT)]
            for index in range(IN_FLIGHT):
                _, pending = api.wait(pending, fetch_local=index == 0)

        yield "single client wait 1k refs", wait_1k, 1, "/s"

    def tasks(self) -> Iterator[Row]:
        api, small = self.api, self.small_value

        def batch() -> None:
            api.get([small.remote() for _ in range(IN_FLIGHT)])

        yield "single client tasks and get batch", batch, 1, "/s"
        yield "single client tasks sync", lambda: api.get(small.remote()), 1, "/s"
        yield "single client tasks async", batch, IN_FLIGHT, "/s"
        actors = [self.actor.remote() for _ in range(4)]
        yield (
            "multi client tasks async",
            lambda: api.get([actor.small_value_batch.remote(self.many) for actor in actors]),
            4 * self.many,
            "/s",
        )

    def actors(self) -> Iterator[Row]:
        api = self.api

        def calls(actor: Any) -> Callable[[], Any]:
            return lambda: api.get([actor.small_value.remote() for _ in range(IN_FLIGHT)])

        actor = self.actor.remote()
        yield "1:1 actor calls sync", lambda: api.get(actor.small_value.remote()), 1, "/s"
        yield "1:1 actor calls async", calls(self.actor.remote()), IN_FLIGHT, "/s"
        yield (
            "1:1 actor calls concurrent",
            calls(self.actor.options(max_concurrency=16).remote()),
            IN_FLIGHT,
            "/s",
        )
        servers = [self.actor.remote() for _ in range(self.servers_count)]
        client = self.client.remote(servers)
        yield (
            "1:n actor calls async",
            lambda: api.get(client.small_value_batch.remote(self.several)),
            self.several * len(servers),
            "/s",
        )
        yield (
            "n:n actor calls async",
            lambda: api.get([self.work.remote(servers, self.several) for _ in range(4)]),
            4 * self.several,
            "/s",
        )
        clients = [self.client.remote([server]) for server in servers]
        yield (
            "n:n actor calls with arg async",
            lambda: api.get([one.small_value_batch_arg.remote(1000) for one in clients]),
            1000 * len(clients),
            "/s",
        )

    def async_actors(self) -> Iterator[Row]:
        api = self.api
        actor = self.async_actor.remote()
        yield "1:1 async-actor calls sync", lambda: api.get(actor.small_value.remote()), 1, "/s"
        yield (
            "1:1 async-actor calls async",
            lambda: api.get([actor.small_value.remote() for _ in range(IN_FLIGHT)]),
            IN_FLIGHT,
            "/s",
        )
        yield (
            "1:1 async-actor calls with args async",
            lambda: api.get([actor.small_value_with_arg.remote(index) for index in range(IN_FLIGHT)]),
            IN_FLIGHT,
            "/s",
        )
        # An async actor takes one CPU: the first must be gone before the next ones.
        api.kill(actor)
        servers = [self.async_actor.remote() for _ in range(self.servers_count)]
        client = self.client.remote(servers)
        yield (
            "1:n async-actor calls async",
            lambda: api.get(client.small_value_batch.remote(self.several)),
            self.several * len(servers),
            "/s",
        )
        yield (
            "n:n async-actor calls async",
            lambda: api.get([self.work.remote(servers, self.several) for _ in range(4)]),
            4 * self.several,
            "/s",
        )

    def placement_groups(self) -> Iterator[Row]:
        util = getattr(self.api, "util", None)
        if not hasattr(util, "placement_group"):
            return

        def create_and_remove() -> None:
            groups = [util.placement_group(bundles=[{"custom": 0.001}]) for _ in range(100)]
            for group in groups:
                group.wait(timeout_seconds=30)
            for group in groups:
                util.remove_placement_group(group)

        yield "placement group create/removal", create_and_remove, 100, "/s"

    def client_mode(self) -> Iterator[Row]:
        """The same usage through the remote client (``ray://``), for a side that has one."""
        api = self.api
        value = api.put(0)
        yield "client: get calls", lambda: api.get(value), 1, "/s"
        yield "client: put calls", lambda: api.put(0), 1, "/s"
        small = self.small_value
        yield (
            "client: tasks and get batch",
            lambda: api.get([small.remote() for _ in range(IN_FLIGHT)]),
            1,
            "/s",
        )
        yield (
            "client: tasks and put batch",
            lambda: api.get([self.put_small_100.remote() for _ in range(10)]),
            1000,
            "/s",
        )
        actor = self.actor.remote()
        yield "client: 1:1 actor calls sync", lambda: api.get(actor.small_value.remote()), 1, "/s"
        yield (
            "client: 1:1 actor calls async",
            lambda: api.get([actor.small_value.remote() for _ in range(IN_FLIGHT)]),
            IN_FLIGHT,
            "/s",
        )
        several = self.actor.options(max_concurrency=16).remote()
        yield (
            "client: 1:1 actor calls concurrent",
            lambda: api.get([several.small_value.remote() for _ in range(IN_FLIGHT)]),
            IN_FLIGHT,
            "/s",
        )
        array = np.zeros(100 * 1024 * 1024, dtype=np.int64)
        yield "client: put gigabytes", lambda: api.put(array), array.nbytes / 1e9, "GB/s"


#: What the machine can do, measured in the processes that measure the rows.
MEMCPY_ONE = "+ warm memcpy, one core"
MEMCPY_TWO = "+ warm memcpy, two cores"
FUTEX = "+ futex round trips of two processes"
#: Which of them limits a row.
LIMITS = {
    "single client put gigabytes": MEMCPY_TWO,
    "multi client put gigabytes": MEMCPY_TWO,
    "single client tasks sync": FUTEX,
    "1:1 actor calls sync": FUTEX,
    "1:1 async-actor calls sync": FUTEX,
}


def is_limited(limit: str, pattern: str) -> bool:
    """Whether a row that is asked for has this limit, or is it."""
    return pattern in limit or any(pattern in row for row, its in LIMITS.items() if its == limit)


#: In this order; each group runs in a session of its own, so that none pays for the actors of another, and in
#: a process of its own, so that one that crashes leaves the others to be measured.
GROUPS = ("objects", "large_objects", "many_refs", "tasks", "actors", "async_actors", "placement_groups")


def measure(api: ModuleType, group: str, pattern: str, scale: float, window_s: float) -> None:
    """Print the rows of a group whose name contains ``pattern``."""
    api.init(**({"resources": {"custom": 100}} if group == "placement_groups" else {}))
    try:
        for name, function, multiplier, unit in getattr(Workload(api, scale), group)():
            if pattern in name:
                # The first puts of large arrays touch fresh pages, which is another question.
                warmup_s = max(2.0, window_s) if group == "large_objects" else window_s / 2
                emit(name, rate(function, multiplier, warmup_s, window_s), unit)
        if group == "large_objects" and (pattern in MEMCPY_ONE or is_limited(MEMCPY_TWO, pattern)):
            emit(MEMCPY_ONE, memcpy_gb_s(LARGE_BYTES), "GB/s")
            emit(MEMCPY_TWO, memcpy_gb_s(LARGE_BYTES, threads=2), "GB/s")
        if group == "tasks" and is_limited(FUTEX, pattern):
            emit(FUTEX, futex_round_trips(window_s), "/s")
    finally:
        api.shutdown()


NAMES: dict[str, tuple[str, ...]] = {
    "objects": (
        "single client get calls (Plasma Store)",
        "single client put calls (Plasma Store)",
        "multi client put calls (Plasma Store)",
    ),
    "large_objects": (
        "single client put gigabytes",
        "multi client put gigabytes",
        MEMCPY_ONE,
        MEMCPY_TWO,
        "+ get of a 1 MiB array",
        "+ get of a 1 GiB array",
        "+ put of a 1 MiB array",
    ),
    "many_refs": ("single client get object containing 10k refs", "single client wait 1k refs"),
    "tasks": (
        "single client tasks and get batch",
        "single client tasks sync",
        "single client tasks async",
        "multi client tasks async",
        FUTEX,
    ),
    "actors": (
        "1:1 actor calls sync",
        "1:1 actor calls async",
        "1:1 actor calls concurrent",
        "1:n actor calls async",
        "n:n actor calls async",
        "n:n actor calls with arg async",
    ),
    "async_actors": (
        "1:1 async-actor calls sync",
        "1:1 async-actor calls async",
        "1:1 async-actor calls with args async",
        "1:n async-actor calls async",
        "n:n async-actor calls async",
    ),
    "placement_groups": ("placement group create/removal",),
    "client_mode": (
        "client: get calls",
        "client: put calls",
        "client: tasks and get batch",
        "client: tasks and put batch",
        "client: 1:1 actor calls sync",
        "client: 1:1 actor calls async",
        "client: 1:1 actor calls concurrent",
        "client: put gigabytes",
    ),
}
