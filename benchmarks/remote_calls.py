"""How many calls a second does an actor on another node answer, and how many tasks does that node do? And
how many where arguments are large?

python benchmarks/remote_calls.py --vs ray

Both nodes are on this machine: what is measured is the way through the node processes, not a network. Ours
has each row twice: over TLS, and in the clear as on a trusted network. Ray's connections are in the clear.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import OURS, command_line, emit, installed, interleave, rate, save, show

SYNC = "remote actor calls sync"
ASYNC = "remote actor calls async"
TASKS_SYNC = "remote tasks sync"
TASKS_ASYNC = "remote tasks async"
#: The same argument each time, which was put here; and one that is made over there each time, for a task that
#: may run anywhere.
SAME_ARGUMENT = "remote tasks sync, the same 64 MB argument"
MADE_THERE = "two tasks, 64 MB from the first, over there, to the second"
LARGE_BYTES = 64_000_000
#: What a row in the clear ends with.
TRUSTED = ", trusted network"
#: Calls under way at once.
UNDER_WAY = 1000


def measure(api: Any, window_s: float, suffixes: list[str]) -> None:
    """Print the rows of one side: the same lines for all."""
    there = {"resources": {"there": 0.001}}

    @api.remote
    class Actor:
        def call(self) -> bytes:
            return b"ok"

    @api.remote
    def task() -> bytes:
        return b"ok"

    @api.remote
    def first_of(array: Any) -> int:
        return int(array[0])

    @api.remote
    def large() -> Any:
        return np.ones(LARGE_BYTES, np.uint8)

    def timed(row: str, function: Callable[[], Any], count: int = 1) -> None:
        figure = rate(function, count, warmup_s=window_s, window_s=window_s)
        for suffix in suffixes:
            emit(row + suffix, figure, "calls/s")

    actor, remote_task = Actor.options(**there).remote(), task.options(**there)
    api.get(actor.call.remote())
    timed(SYNC, lambda: api.get(actor.call.remote()))
    timed(ASYNC, lambda: api.get([actor.call.remote() for _ in range(UNDER_WAY)]), UNDER_WAY)
    timed(TASKS_SYNC, lambda: api.get(remote_task.remote()))
    timed(TASKS_ASYNC, lambda: api.get([remote_task.remote() for _ in range(UNDER_WAY)]), UNDER_WAY)
    here, remote_first = api.put(np.ones(LARGE_BYTES, np.uint8)), first_of.options(**there)
    timed(SAME_ARGUMENT, lambda: api.get(remote_first.remote(here)))
    remote_large = large.options(**there)
    timed(MADE_THERE, lambda: api.get(first_of.remote(remote_large.remote())))


def run_side(side: str, window_s: float) -> None:
    """Start clusters of two nodes, and measure."""
    api = importlib.import_module(side)
    cluster_class = importlib.import_module(f"{side}.cluster_utils").Cluster
    variants: list[tuple[dict[str, Any], list[str]]] = [({}, ["", TRUSTED])]
    if side in OURS:
        variants = [({}, [""]), ({"trusted_network": True}, [TRUSTED])]
    for options, suffixes in variants:
        cluster = cluster_class(initialize_head=True, head_node_args={"num_cpus": 1}, **options)
        cluster.add_node(num_cpus=2, resources={"there": 1})
        api.init(address=cluster.address)
        measure(api, window_s, suffixes)
        api.shutdown()
        cluster.shutdown()


def main() -> None:
    arguments = command_line(__doc__, quick="short windows", peers=["ray"]).parse_args()
    if arguments.child:
        run_side(arguments.child, 0.3 if arguments.quick else 1.0)
        return
    sides = [OURS[0], *installed(name for name in arguments.vs.split(",") if name)]
    results = interleave(__file__, sides, arguments.rounds, ["--quick"] if arguments.quick else [])
    title = "calls to another node" + (" (quick)" if arguments.quick else "")
    table = show(results, sides, f"{title}, median of {arguments.rounds} rounds")
    print(table)
    save("remote_calls", results, table, arguments)


if __name__ == "__main__":
    main()
