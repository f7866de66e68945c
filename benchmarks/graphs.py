"""How long does a value take through a pipeline of two actors, compiled and as two calls?

python benchmarks/graphs.py --vs ray
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import OURS, command_line, emit, installed, interleave, rate, save, show

ROW_CALLS = "two calls, one after the other: round trip"
ROW_GRAPH = "compiled pipeline of two actors: round trip"
ROW_FLOW = "compiled pipeline of two actors: two executions under way"
ROW_ARRAY = "compiled pipeline of two actors: 8 MB array, round trip"
#: More, and Ray's driver waits for a channel that only its own `get` would empty.
UNDER_WAY = 2


def measure(api: Any, dag: Any, window_s: float) -> None:
    """Print the rows of one side: the same lines for all."""

    @api.remote(num_cpus=0)
    class Stage:
        def step(self, x: Any) -> Any:
            return x

    first, second = Stage.remote(), Stage.remote()

    def timed(row: str, function: Callable[[], Any], count: int = 1) -> None:
        emit(row, 1e6 / rate(function, count, warmup_s=window_s / 2, window_s=window_s), "µs")

    timed(ROW_CALLS, lambda: api.get(second.step.remote(first.step.remote(1))))
    with dag.InputNode() as x:
        graph = second.step.bind(first.step.bind(x))
    array = np.ones(1_000_000)
    compiled = graph.experimental_compile(_buffer_size_bytes=2 * array.nbytes)
    timed(ROW_GRAPH, lambda: api.get(compiled.execute(1)))

    def flow() -> None:
        refs = [compiled.execute(1) for _ in range(UNDER_WAY)]
        for ref in refs:
            api.get(ref)

    timed(ROW_FLOW, flow, UNDER_WAY)

    def large() -> None:
        # The result is let go before the next execution: Ray's channel waits for that.
        result = api.get(compiled.execute(array))
        del result

    timed(ROW_ARRAY, large)
    # With its actors: a plain teardown waits for them, on a busy machine for ever in Ray.
    compiled.teardown(kill_actors=True)


def main() -> None:
    arguments = command_line(__doc__, quick="short windows", peers=["ray"]).parse_args()
    if arguments.child:
        api = importlib.import_module(arguments.child)
        api.init()
        measure(api, importlib.import_module(f"{arguments.child}.dag"), 0.3 if arguments.quick else 1.0)
        api.shutdown()
        return
    sides = [OURS[0], *installed(name for name in arguments.vs.split(",") if name)]
    results = interleave(__file__, sides, arguments.rounds, ["--quick"] if arguments.quick else [])
    title = "graphs" + (" (quick)" if arguments.quick else "")
    table = show(results, sides, f"{title}, median of {arguments.rounds} rounds")
    peer = results.median(ROW_CALLS, "ray")
    ours = results.median(ROW_GRAPH, OURS[0])
    if peer and ours:
        table += f"\n\nOur compiled pipeline beside the peer's two calls: {peer / ours:.1f}×"
    print(table)
    save("graphs", results, table, arguments)


if __name__ == "__main__":
    main()
