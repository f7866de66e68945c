"""What does a decision about nodes cost, in a cluster of 10 and of 10 000?

python benchmarks/scheduler_sim.py

The cluster is a table: no process is started but the one that decides. A tenth of the nodes have GPUs; all of
them begin empty.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from random import Random

from harness import command_line, emit, interleave, save, show

from orchestrator.autoscaler.config import AutoscalerConfig, NodeType
from orchestrator.autoscaler.demand import Demand, Shape
from orchestrator.autoscaler.planner import Existing, plan
from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass, Spread, WithLabels
from orchestrator.scheduling.cluster.bundles import choose
from orchestrator.scheduling.cluster.policies import NodeChooser
from orchestrator.scheduling.cluster.view import ClusterView, NodeReport

SIDE = "orchestrator"
SIZES = (10, 100, 1_000, 10_000)
#: CPUs of a node, so tasks that it holds.
CPUS = 32
ONE = ResourceSet.from_floats({"CPU": 1})
PLAIN = ResourceSet.from_floats({"CPU": CPUS, "memory": 128, "object_store_memory": 40})
WITH_GPU = PLAIN.add(ResourceSet.from_floats({"GPU": 8}))

PACK = SchedulingClass(ONE)
SPREAD = SchedulingClass(ONE, placement=Spread())
LABELS = SchedulingClass(ONE, placement=WithLabels(((("zone", "a"),),)))


def total_of(number: int) -> ResourceSet:
    return WITH_GPU if number % 10 == 0 else PLAIN


def report(number: int, version: int, available: ResourceSet) -> NodeReport:
    labels = {"zone": "abcd"[number % 4], "rack": str(number // 40)}
    return NodeReport(number, f"{number:016x}", version, total_of(number), available, labels)


def cluster(size: int) -> ClusterView:
    view = ClusterView()
    for number in range(1, size + 1):
        view.report(report(number, 1, total_of(number)))
    return view


def durations_us(calls: Iterator[Callable[[], object]]) -> list[float]:
    """Return how long each call has computed.

    Processor time: nothing here waits, and a busy machine does not show. The garbage collector is off, as
    its cost depends on who else has garbage.
    """
    gc.disable()
    try:
        samples = []
        for call in calls:
            began = time.thread_time_ns()
            call()
            samples.append((time.thread_time_ns() - began) / 1000)
    finally:
        gc.enable()
    return samples


def percentile(samples: list[float], part: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(part * len(samples)))]


def label(size: int) -> str:
    return f"{size:,} nodes".replace(",", " ")


def one_by_one(name: str, scheduling: SchedulingClass, size: int, tasks_max: int) -> None:
    """Decisions one at a time, until the cluster is full or there were enough of them."""
    view = cluster(size)
    chooser = NodeChooser(view, 1, Random(0))
    count = min(CPUS * size, tasks_max)
    samples = durations_us((lambda: chooser.place(scheduling, 1)) for _ in range(count))
    row = f"{name}, {label(size)}"
    emit(f"{row}: one decision, mean", statistics.mean(samples), "µs")
    emit(f"{row}: one decision, 99 of 100 below", percentile(samples, 0.99), "µs")


def half_full(size: int, tasks_max: int) -> None:
    """Decisions where the order matters: all nodes are more than half full, each to another degree."""
    view, rng = cluster(size), Random(1)
    for number in range(1, size + 1):
        view.promise(number, ONE, rng.randrange(CPUS // 2, CPUS - 4))
    chooser = NodeChooser(view, 1, rng)
    samples = durations_us((lambda: chooser.place(PACK, 1)) for _ in range(min(4 * size, tasks_max)))
    row = f"pack, all more than half full, {label(size)}"
    emit(f"{row}: one decision, mean", statistics.mean(samples), "µs")
    emit(f"{row}: one decision, 99 of 100 below", percentile(samples, 0.99), "µs")


def first_of_a_kind(size: int) -> None:
    """A decision for which nothing is remembered: all nodes are asked."""
    view = cluster(size)
    samples: list[float] = []
    for n in range(200):
        chooser = NodeChooser(view, None, Random(n))
        kind = SchedulingClass(ResourceSet.from_floats({"CPU": 1, "memory": 1 + n % 7}))
        samples += durations_us(iter([lambda c=chooser, k=kind: c.place(k, 1)]))  # type: ignore[misc]
    emit(f"the first of its kind, {label(size)}: one decision, median", statistics.median(samples), "µs")


def batches(size: int) -> None:
    for name, scheduling in (("pack", PACK), ("spread", SPREAD)):
        view = cluster(size)
        chooser = NodeChooser(view, 1, Random(0))
        count = CPUS * size
        (took_us,) = durations_us(iter([lambda c=chooser, s=scheduling, n=count: c.place(s, n)]))  # type: ignore[misc]
        emit(f"{name}, {label(size)}: all tasks in one decision, per task", took_us / count, "µs")


def with_news(size: int) -> None:
    """Decisions while nodes report: as many reports as decisions."""
    view, rng = cluster(size), Random(2)
    chooser = NodeChooser(view, 1, rng)
    reports, decisions = [], []
    for version in range(2, 4_002):
        number = rng.randrange(1, size + 1)
        free = total_of(number).subtract(ResourceSet.from_floats({"CPU": rng.randrange(CPUS)}))
        news = report(number, version, free)
        reports += durations_us(iter([lambda n=news: view.report(n)]))  # type: ignore[misc]
        decisions += durations_us(iter([lambda: chooser.place(PACK, 1)]))
    emit(f"a report of a node, {label(size)}", statistics.mean(reports), "µs")
    emit(
        f"pack, as many reports as decisions, {label(size)}: one decision, mean",
        statistics.mean(decisions),
        "µs",
    )


def bundles(size: int) -> None:
    view = cluster(size)
    wanted = [ONE] * 6 + [ResourceSet.from_floats({"CPU": 4, "GPU": 1})] * 2
    for strategy in ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"):
        if strategy == "STRICT_SPREAD" and size < 20:
            continue
        samples = durations_us((lambda s=strategy: choose(wanted, s, view)) for _ in range(100))  # type: ignore[misc]
        row = f"8 bundles, {strategy}, {label(size)}"
        emit(row, statistics.median(samples), "µs")


def planner(size: int) -> None:
    kinds = [
        NodeType("small", ResourceSet.from_floats({"CPU": 8})),
        NodeType("large", PLAIN),
        NodeType("gpu", WITH_GPU),
    ]
    config = AutoscalerConfig({one.name: one for one in kinds}, max_workers=2 * size, upscaling_speed=1.0)
    nodes = [
        Existing(str(n), "large", PLAIN, ResourceSet.from_floats({"CPU": n % 3, "memory": 50}))
        for n in range(size)
    ]
    shapes = [({"CPU": 1}, 10 * size), ({"CPU": 3, "memory": 4}, size), ({"CPU": 2, "GPU": 1}, size // 2)]
    demand = Demand(tuple((Shape(ResourceSet.from_floats(q)), n) for q, n in shapes))
    samples = durations_us((lambda: plan(config, nodes, demand)) for _ in range(5))
    emit(f"a plan of the autoscaler, {label(size)}, three shapes", statistics.median(samples) / 1000, "ms")


def measure(quick: bool) -> None:
    """Print all rows."""
    tasks_max = 5_000 if quick else 100_000
    for size in SIZES:
        for name, scheduling in (("pack", PACK), ("spread", SPREAD), ("labels", LABELS)):
            one_by_one(name, scheduling, size, tasks_max)
        half_full(size, tasks_max)
        first_of_a_kind(size)
        batches(size)
        with_news(size)
        bundles(size)
        planner(size)


def main() -> None:
    arguments = command_line(__doc__, quick="fewer decisions").parse_args()
    if arguments.child:
        measure(arguments.quick)
        return
    results = interleave(__file__, [SIDE], arguments.rounds, ["--quick"] if arguments.quick else [])
    title = "scheduler_sim" + (" (quick)" if arguments.quick else "")
    rows = sorted(results.values, key=lambda row: (row.replace(" 000 ", "000 ").partition(",")[0], len(row)))
    table = show(results, [SIDE], f"{title}, median of {arguments.rounds} rounds", rows)
    print(table)
    save("scheduler_sim", results, table, arguments)


if __name__ == "__main__":
    main()
