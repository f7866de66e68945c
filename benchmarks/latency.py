"""How long does a call take while somebody else keeps every core busy?

    python benchmarks/latency.py --vs ray

One driver calls an actor, one call at a time. Another driver of the same cluster meanwhile has tasks on all
CPUs, as fast as they come.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from typing import Any

import numpy as np
from harness import command_line, compare, emit

OURS = "orchestrator"
PEERS = ("ray",)
WINDOW_S = 4.0
#: What one task of the other driver computes for.
BUSY_S = 0.002
#: Tasks that the other driver has under way.
BUSY_TASKS = 200
READY = "busy"


#: Rows for the median and the 99th percentile.
ALONE = ("actor calls sync, nobody else there: median", "actor calls sync, nobody else there: p99")
BUSY = ("actor calls sync, all cores busy: median", "actor calls sync, all cores busy: p99")


def emit_latencies(rows: tuple[str, str], samples_s: list[float]) -> None:
    for row, quantile in zip(rows, (0.5, 0.99), strict=True):
        emit(row, float(np.quantile(samples_s, quantile)) * 1e6, "µs")


def call(api: Any, actor: Any, window_s: float) -> list[float]:
    """Return what each call took, in seconds, one after the other for so long."""
    samples_s = []
    end = time.perf_counter() + window_s
    while (start := time.perf_counter()) < end:
        api.get(actor.ping.remote())
        samples_s.append(time.perf_counter() - start)
    return samples_s


def keep_busy(side: str, address: str) -> None:
    """Be the other driver, until standard input ends."""
    api = importlib.import_module(side)
    api.init(address=address, logging_level="error")

    @api.remote
    def compute() -> None:
        end = time.perf_counter() + BUSY_S
        while time.perf_counter() < end:
            pass

    pending = [compute.remote() for _ in range(BUSY_TASKS)]
    for round_number in range(sys.maxsize):
        done, pending = api.wait(pending, num_returns=BUSY_TASKS // 10)
        pending += [compute.remote() for _ in done]
        if round_number == BUSY_TASKS // 10:
            print(READY, flush=True)


def child(side: str, window_s: float) -> None:
    """Measure one side and print its rows."""
    api = importlib.import_module(side)
    cluster = importlib.import_module(f"{side}.cluster_utils").Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2}
    )
    api.init(address=cluster.address, logging_level="error")

    @api.remote(num_cpus=0)
    class Actor:
        def ping(self) -> bytes:
            return b"ok"

    actor = Actor.remote()
    call(api, actor, 0.5)
    emit_latencies(ALONE, call(api, actor, window_s))
    command = [sys.executable, __file__, "--child", side, "--busy", cluster.address]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        while READY not in (line := other.stdout.readline()):
            if not line:
                raise RuntimeError(f"the other driver of {side} has ended: {other.wait()}")
        emit_latencies(BUSY, call(api, actor, window_s))
    finally:
        other.kill()
        other.wait()
    api.shutdown()
    cluster.shutdown()


def main() -> None:
    parser = command_line(__doc__, quick="a quarter of the time", peers=PEERS, without_ours=True)
    parser.add_argument("--busy", metavar="ADDRESS", help="be the other driver of that cluster")
    arguments = parser.parse_args()
    if arguments.busy:
        keep_busy(arguments.child, arguments.busy)
        return
    if arguments.child:
        child(arguments.child, 1.0 if arguments.quick else WINDOW_S)
        return
    compare(__file__, "latency", "time of a call", [OURS], arguments)


if __name__ == "__main__":
    main()
