"""How many calls, gets and puts a second? Every row of ``ray microbenchmark``, beside the peers.

python benchmarks/microbenchmark.py --vs ray
python benchmarks/microbenchmark.py --vs multiprocessing,concurrent,loky,joblib,dask
python benchmarks/microbenchmark.py --vs ray --quick --only "tasks async"
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness import OURS, command_line, emit, installed, interleave, rate, save, show

POOLS = ("multiprocessing", "concurrent", "loky", "joblib", "dask")
ROW_SYNC = "single client tasks sync"
ROW_ASYNC = "single client tasks async"
ROW_MAP = "+ map of a small function"
IN_FLIGHT = 1000
#: Rows through Ray's client, which only Ray has.
CLIENT_MODE = "client_mode"


def small_value(*_: object) -> bytes:
    return b"ok"


Batch = Callable[[], Any]


@contextmanager
def pool(side: str) -> Iterator[tuple[Batch | None, Batch | None, Batch | None]]:
    """One call; a batch of separate calls in flight at once; the library's ``map``. None: it has none."""
    numbers = range(IN_FLIGHT)
    if side == "multiprocessing":
        import multiprocessing

        with multiprocessing.Pool(2) as workers:
            yield (
                lambda: workers.apply(small_value),
                lambda: [r.get() for r in [workers.apply_async(small_value) for _ in numbers]],
                lambda: workers.map(small_value, numbers),
            )
    elif side in ("concurrent", "loky"):
        if side == "loky":
            from loky import ProcessPoolExecutor
        else:
            from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2) as executor:
            yield (
                lambda: executor.submit(small_value).result(),
                lambda: [f.result() for f in [executor.submit(small_value) for _ in numbers]],
                lambda: list(executor.map(small_value, numbers, chunksize=IN_FLIGHT // 8)),
            )
    elif side == "joblib":
        from joblib import Parallel, delayed

        with Parallel(n_jobs=2) as parallel:
            yield None, None, lambda: parallel(delayed(small_value)(number) for number in numbers)
    elif side == "dask":
        from distributed import Client

        with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
            yield (
                lambda: client.submit(small_value, pure=False).result(),
                lambda: client.gather([client.submit(small_value, pure=False) for _ in numbers]),
                lambda: client.gather(client.map(small_value, numbers, pure=False)),
            )
    else:
        raise SystemExit(f"unknown peer {side!r}")


def measure_pool(side: str, pattern: str, window_s: float) -> None:
    with pool(side) as functions:
        for row, function, multiplier in zip(
            (ROW_SYNC, ROW_ASYNC, ROW_MAP), functions, (1, IN_FLIGHT, IN_FLIGHT), strict=True
        ):
            if function is not None and pattern in row:
                emit(row, rate(function, multiplier, warmup_s=window_s / 2, window_s=window_s), "/s")


def child(side: str, group: str, pattern: str, quick: bool) -> None:
    """Measure one side, or one group of its rows."""
    window_s = 0.3 if quick else 1.0
    if side in POOLS:
        measure_pool(side, pattern, window_s)
        return
    import rows

    if not group:
        groups = [*rows.GROUPS, *([CLIENT_MODE] if side == "ray" and not quick else [])]
        wanted = [one for one in groups if any(pattern in name for name in rows.NAMES[one])]
        options = ["--only", pattern, *(["--quick"] if quick else [])]
        command = [sys.executable, __file__, "--child", side, *options, "--group"]
        failed = [one for one in wanted if subprocess.run([*command, one]).returncode]
        if failed:
            sys.exit(f"these groups of rows failed: {', '.join(failed)}")
    elif group == CLIENT_MODE:
        api = importlib.import_module(side)
        from ray.util.client.ray_client_helpers import ray_start_client_server

        with ray_start_client_server() as client_api:
            for row, function, multiplier, unit in rows.Workload(client_api, inside=api).client_mode():
                if pattern in row:
                    emit(row, rate(function, multiplier, warmup_s=window_s / 2, window_s=window_s), unit)
    else:
        api = importlib.import_module(side)
        rows.measure(api, group, pattern, scale=0.1 if quick else 1.0, window_s=window_s)


def main() -> None:
    parser = command_line(
        __doc__,
        quick="short windows, a tenth of the longest rows' calls",
        peers=["ray", *POOLS],
        without_ours=True,
    )
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--group", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.group, arguments.only, arguments.quick)
        return
    peers = installed(name for name in arguments.vs.split(",") if name)
    sides = [*(() if arguments.without_ours else (OURS[0],)), *peers]
    options = ["--only", arguments.only, *(["--quick"] if arguments.quick else [])]
    results = interleave(__file__, sides, arguments.rounds, options)
    import rows

    results.limits = rows.LIMITS
    title = "microbenchmark" + (" (quick)" if arguments.quick else "")
    table = show(results, sides, f"{title}, median of {arguments.rounds} rounds")
    print(table)
    save("microbenchmark", results, table, arguments)


if __name__ == "__main__":
    main()
