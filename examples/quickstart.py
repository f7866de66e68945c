"""The whole idea in a minute: tasks, objects, actors, generators."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

import orchestrator


@orchestrator.remote
def count_primes(first: int, end: int) -> int:
    """A task: an ordinary function, run by another process."""
    return sum(all(n % d for d in range(2, math.isqrt(n) + 1)) for n in range(max(first, 2), end))


@orchestrator.remote
def mean_of_row(table: np.ndarray, row: int) -> float:
    """`table` is passed as a reference and arrives as a read-only view of memory that all processes share."""
    return float(table[row].mean())


@orchestrator.remote
class Counter:
    """An actor: an ordinary class, whose instance lives in a process of its own and keeps its state there."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, amount: int) -> int:
        self.total += amount
        return self.total


@orchestrator.remote
def running_sums(numbers: list[int]) -> Iterator[int]:
    """A generator: every value can be used as soon as it is yielded."""
    total = 0
    for number in numbers:
        total += number
        yield total


def main() -> None:
    orchestrator.init()

    # A loop becomes parallel: `.remote()` returns at once, with a reference to a result still to come.
    counts = [count_primes.remote(start, start + 20_000) for start in range(0, 200_000, 20_000)]
    print("primes below 200000:", sum(orchestrator.get(counts)))

    # Large data is put into shared memory once; ten tasks read it there, and nothing is copied.
    table = orchestrator.put(np.random.default_rng(0).random((10, 1_000_000)))
    means = orchestrator.get([mean_of_row.remote(table, row) for row in range(10)])
    print("row means:", " ".join(f"{mean:.4f}" for mean in means))

    # References are arguments, too: the second task waits for the first by itself.
    print("primes below the count of primes below 1000:", orchestrator.get(chain()))

    # Calls of an actor run one after another, in the order they were made.
    counter = Counter.remote()
    for amount in range(1, 11):
        last = counter.add.remote(amount)
    print("the counter stands at", orchestrator.get(last))

    # A generator streams.
    print("running sums:", *(orchestrator.get(ref) for ref in running_sums.remote([1, 2, 3, 4])))

    orchestrator.shutdown()


def chain() -> orchestrator.ObjectRef[int]:
    """A result is handed from task to task without passing through this process."""
    return count_primes.remote(0, count_primes.remote(0, 1000))


if __name__ == "__main__":
    main()
