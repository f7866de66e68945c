"""Tasks and actors that the tests of faults have done: each may be repeated as often as its process dies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import orchestrator as ray

#: Of an array: 400 kB, larger than what goes inside a message, and carried by the links.
LENGTH = 50_000


@ray.remote(max_retries=-1)
def array(x: int, length: int = LENGTH) -> np.ndarray:
    return np.full(length, x)


@ray.remote(max_retries=-1)
def nested(x: int, depth: int) -> int:
    if depth == 0:
        return x
    return sum(ray.get([nested.remote(x, depth - 1), nested.remote(x, depth - 1)]))


@ray.remote(max_retries=-1)
def total(arrays: list[ray.ObjectRef]) -> int:
    return int(sum(ray.get(one)[0] for one in arrays))


@ray.remote(max_retries=-1)
def boxed(x: int) -> list[ray.ObjectRef]:
    return [ray.put(np.full(LENGTH, x)), array.remote(x)]


@ray.remote(max_retries=-1)
def items(count: int) -> Iterator[np.ndarray]:
    for index in range(count):
        yield np.full(LENGTH, index)


@ray.remote(max_restarts=-1, max_task_retries=-1)
class Adder:
    def __init__(self, base: int) -> None:
        self.base = base

    def add(self, x: int) -> np.ndarray:
        return np.full(LENGTH, self.base + x)


@ray.remote(max_restarts=-1, max_task_retries=-1)
class AsyncAdder:
    def __init__(self, base: int) -> None:
        self.base = base

    async def add(self, x: int) -> int:
        return self.base + int((await array.remote(x))[0])
