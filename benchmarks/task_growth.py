"""Does a task stay as cheap when there are a thousand times more? And what depends on how many there are?

    python benchmarks/task_growth.py --vs ray,joblib

Tasks queued all at once from one driver, then got; the memory of one that is queued; many arguments, many
results, many objects in one ``get``; results taken as they come; a map over many numbers.
"""

from __future__ import annotations

import importlib
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import command_line, compare, emit

OURS = "orchestrator"
PEERS = ("ray", "joblib")
COUNTS = {
    1_000: "1 000 tasks queued at once",
    10_000: "10 000 tasks queued at once",
    100_000: "100 000 tasks queued at once",
    1_000_000: "1 000 000 tasks queued at once",
}
#: So many tasks are measured for each row, at least.
MEASURED_MIN = 20_000
#: A peer stops where it gets too slow to wait for.
COUNTS_MAX = {"ray": 10_000}
QUEUED = {OURS: 100_000, "ray": 10_000}
MAPPED = 1_000_000
ROW_MAP = "map of a small function over 1 000 000 numbers"
PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def seconds(fn: Callable[[], Any]) -> float:
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def square(x: int) -> int:
    return x * x


def queue_tasks(api: Any, side: str, count_max: int) -> None:
    """As many tasks as that, queued at once: how many of them a second are done."""
    small = api.remote(lambda: b"ok")
    api.get([small.remote() for _ in range(1000)])
    for count, row in COUNTS.items():
        if count <= min(count_max, COUNTS_MAX.get(side, count)):
            # A thousand take a few milliseconds, which says little when it is measured once.
            takes_s = [
                seconds(lambda count=count: api.get([small.remote() for _ in range(count)]))
                for _ in range(max(1, MEASURED_MIN // count))
            ]
            emit(row, count / statistics.median(takes_s), "/s")


def measure_memory(api: Any, side: str, scale: int) -> None:
    """What one task costs the driver in whose queue it waits, as all CPUs are taken."""

    @api.remote(num_cpus=int(api.cluster_resources()["CPU"]))
    class TakesAll:
        def ping(self) -> bytes:
            return b"ok"

    small = api.remote(lambda: b"ok")
    api.get([small.remote() for _ in range(100)])
    actor = TakesAll.remote()
    api.get(actor.ping.remote())
    count = QUEUED[side] // scale
    before = rss_bytes()
    refs = [small.remote() for _ in range(count)]
    emit("memory of a queued task", (rss_bytes() - before) / count, "bytes")
    api.kill(actor)
    api.get(refs)


def pass_many(api: Any) -> None:
    """Many arguments, many results, many objects."""

    @api.remote
    def count(*values: Any) -> int:
        return len(values)

    @api.remote
    def split(n: int) -> tuple[int, ...]:
        return tuple(range(n))

    arguments = [api.put(index) for index in range(10_000)]
    api.get(count.remote(*arguments[:10]))
    emit("10 000 arguments to one task", seconds(lambda: api.get(count.remote(*arguments))), "s")
    many = split.options(num_returns=3_000)
    emit("3 000 results of one task", seconds(lambda: api.get(many.remote(3_000))), "s")
    arrays = [api.put(np.zeros(10)) for _ in range(10_000)]
    emit("get of 10 000 small arrays", seconds(lambda: api.get(arrays)), "s")


def take_as_they_come(api: Any) -> None:
    """Ten thousand results, each as soon as it is there."""
    small = api.remote(lambda: b"ok")
    api.get([small.remote() for _ in range(100)])
    util = importlib.import_module(f"{api.__name__}.util")
    if hasattr(util, "as_completed"):
        refs = [small.remote() for _ in range(10_000)]
        took_s = seconds(lambda: [None for _ in util.as_completed(refs)])
        emit("as_completed over 10 000 results", took_s, "s")

    def one_by_one() -> None:
        pending = [small.remote() for _ in range(10_000)]
        while pending:
            _, pending = api.wait(pending)

    emit("wait, one by one, for 10 000 results", seconds(one_by_one), "s")


def map_numbers(side: str, scale: int) -> None:
    """A function that does next to nothing, over a million numbers, in whatever batches the side likes."""
    count = MAPPED // scale
    if side == "joblib":
        from joblib import Parallel, delayed

        with Parallel(n_jobs=2) as parallel:
            parallel(delayed(square)(x) for x in range(100))
            took_s = seconds(lambda: parallel(delayed(square)(x) for x in range(count)))
    else:
        import orchestrator

        list(orchestrator.map(square, range(100)))
        took_s = seconds(lambda: list(orchestrator.map(square, range(count))))
    emit(ROW_MAP, count / took_s, "/s")


def child(side: str, quick: bool) -> None:
    """Measure one side and print its rows."""
    scale = 10 if quick else 1
    if side == "joblib":
        map_numbers(side, scale)
        return
    api = importlib.import_module(side)
    api.init(logging_level="error")
    measure_memory(api, side, scale)  # first: what was used before would be used again
    queue_tasks(api, side, max(COUNTS) // scale)
    pass_many(api)
    take_as_they_come(api)
    if side == OURS:
        map_numbers(side, scale)
    api.shutdown()


def main() -> None:
    arguments = command_line(
        __doc__, quick="up to 100 000 tasks, a tenth of the numbers", peers=PEERS, without_ours=True
    ).parse_args()
    if arguments.child:
        child(arguments.child, arguments.quick)
        return
    compare(__file__, "task_growth", "tasks, from few to many", [OURS], arguments)


if __name__ == "__main__":
    main()
