"""Objects: values in shared memory, passed by reference."""

from __future__ import annotations

import numpy as np

import orchestrator as ray


@ray.remote
def total(array):
    return int(array.sum())


@ray.remote
def total_of(refs):
    """References inside a list stay references: this task decides what to get."""
    return sum(int(ray.get(ref).sum()) for ref in refs)


@ray.remote
def make(n):
    return np.ones(n)


@ray.remote
def make_elsewhere(n):
    """A task may return a reference, rather than the object."""
    return [make.remote(n)]


table = None


@ray.remote
def captured():
    return int(ray.get(table).sum())


def main():
    global table
    ray.init(num_cpus=2)
    # Stored once, read in place by every task.
    table = ray.put(np.arange(1_000_000))
    print("sums:", set(ray.get([total.remote(table) for _ in range(4)])))
    print("captured by a function:", ray.get(captured.remote()))
    print("inside a list:", ray.get(total_of.remote([table, ray.put(np.ones(10))])))
    (inner,) = ray.get(make_elsewhere.remote(1000))
    print("made elsewhere:", ray.get(inner).sum())

    # What comes out of the store is shared, so it can't be written to; a copy can.
    array = ray.get(table)
    try:
        array[0] = 1
    except ValueError as error:
        print("read-only:", error)
    array = array.copy()
    array[0] = 1
    print("in a copy:", array[0])

    # The same object twice in one value is stored once, and is one object again.
    row = np.zeros(10)
    first, second = ray.get(ray.put([row, row]))
    print("identity is kept:", first is second)
    print("references are equal by what they refer to:", len({table, table}) == 1)
    ray.shutdown()


if __name__ == "__main__":
    main()
