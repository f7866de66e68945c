"""How long until the first result, and what does an idle session cost?

    python benchmarks/startup.py --vs ray,multiprocessing,concurrent,loky,dask

Per side, in a fresh process: import, init, first task, second task, shutdown; then memory (PSS), processes,
CPU use and listening TCP ports of a session that has nothing to do; the size of the library on disk;
processes left after the end.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import OURS, command_line, emit, installed, interleave, save, show
from processes import children_of, cpu_s, listening_ports, pss_mib

PEERS = ("ray", "multiprocessing", "concurrent", "loky", "dask")
IDLE_WINDOW_S = 3.0
#: Disk use is asked of the side's own packages; the standard library's modules have none of their own.
PACKAGES = {
    "orchestrator": ("orchestrator", "plasma"),
    "ray": ("ray",),
    "loky": ("loky",),
    "dask": ("dask", "distributed"),
}


def small_value() -> bytes:
    return b"ok"


def open_session(side: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Starts the side with its defaults; returns (one small task, shutdown)."""
    if side in ("orchestrator", "ray"):
        api = importlib.import_module(side)
        api.init()
        function = api.remote(small_value)
        return lambda: api.get(function.remote()), api.shutdown
    if side == "multiprocessing":
        import multiprocessing

        pool = multiprocessing.Pool()

        def stop() -> None:
            pool.close()
            pool.join()

        return lambda: pool.apply(small_value), stop
    if side == "dask":
        from distributed import Client

        client = Client(dashboard_address=None)
        return lambda: client.submit(small_value, pure=False).result(), client.shutdown
    if side == "loky":
        from loky import ProcessPoolExecutor
    else:
        from concurrent.futures import ProcessPoolExecutor
    executor = ProcessPoolExecutor()
    return lambda: executor.submit(small_value).result(), executor.shutdown


def installed_mib(side: str) -> float:
    total = 0
    for package in PACKAGES.get(side, ()):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            total += sum(
                path.lstat().st_size
                for path in Path(place).rglob("*")
                if path.is_file() and "__pycache__" not in path.parts
            )
    return total / 2**20


def child(side: str) -> None:
    start = time.perf_counter()
    importlib.import_module({"concurrent": "concurrent.futures", "dask": "distributed"}.get(side, side))
    imported = time.perf_counter()
    task, shutdown = open_session(side)
    opened = time.perf_counter()
    task()
    first = time.perf_counter()
    task()
    second = time.perf_counter()
    emit("import", (imported - start) * 1e3, "ms")
    emit("init", (opened - imported) * 1e3, "ms")
    emit("first task", (first - opened) * 1e3, "ms")
    emit("init + first task", (first - imported) * 1e3, "ms")
    # An import that puts work off until init isn't faster: this row has all of it.
    emit("import + init + first task", (first - start) * 1e3, "ms")
    emit("second task", (second - first) * 1e3, "ms")
    # A window of measurement, and the time a session needs to come to rest before it.
    time.sleep(IDLE_WINDOW_S)
    processes = children_of(os.getpid())
    everyone = [os.getpid(), *processes]
    used_s = cpu_s(everyone)
    time.sleep(IDLE_WINDOW_S)
    emit("idle CPU", 100 * (cpu_s(everyone) - used_s) / IDLE_WINDOW_S, "% CPU")
    emit("idle PSS, all processes", pss_mib(everyone), "MiB")
    emit("idle PSS, without the driver", pss_mib(processes), "MiB")
    emit("processes beside the driver", len(processes), "processes")
    emit("listening TCP ports", len(listening_ports(everyone)), "ports")
    if side in PACKAGES:
        emit("installed size", installed_mib(side), "MiB")
    start = time.perf_counter()
    shutdown()
    emit("shutdown", (time.perf_counter() - start) * 1e3, "ms")
    left = [pid for pid in processes if Path(f"/proc/{pid}").exists()]
    emit("processes left after shutdown", len(left), "processes")


def main() -> None:
    arguments = command_line(
        __doc__, quick="two rounds", peers=PEERS, rounds=5, without_ours=True
    ).parse_args()
    if arguments.child:
        child(arguments.child)
        return
    rounds = 2 if arguments.quick else arguments.rounds
    peers = installed(name for name in arguments.vs.split(",") if name)
    sides = [*(() if arguments.without_ours else (OURS[0],)), *peers]
    results = interleave(__file__, sides, rounds)
    table = show(results, sides, f"startup and an idle session, median of {rounds} rounds")
    print(table)
    save("startup", results, table, arguments)


if __name__ == "__main__":
    main()
