"""What a type checker makes of a program; `test_typing.py` has mypy read this file, nothing runs it.

An `ignore` marks an error that must be found: mypy complains about one that is of no use.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from typing_extensions import assert_type

import orchestrator as ray
import plasma
from orchestrator import ActorHandle, ObjectRef, ObjectRefGenerator


@ray.remote
def add(x: int, y: int = 1, *, scale: float = 1) -> int:
    return x + y


@ray.remote(num_cpus=2)
def text_of(x: int) -> str:
    return str(x)


@ray.remote(num_returns=2)
def halves(x: int) -> tuple[int, int]:
    return x // 2, x - x // 2


@ray.remote
def count(n: int) -> Iterator[int]:
    yield from range(n)


@ray.remote(num_cpus=0)
async def count_async(n: int) -> AsyncIterator[int]:
    yield n


@ray.remote
async def answer() -> int:
    return 42


@ray.remote
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.n = start

    def increment(self, by: int = 1) -> int:
        self.n += by
        return self.n


@ray.remote(num_cpus=1)
class Other:
    pass


def tasks() -> None:
    ref = add.remote(1, 2, scale=0.5)
    assert_type(ref, ObjectRef[int])
    assert_type(add.remote(ref, y=ref), ObjectRef[int])
    assert_type(text_of.options(num_cpus=1).remote(ref), ObjectRef[str])
    assert_type(answer.remote(), ObjectRef[int])
    assert_type(add(1), int)
    add("1")  # type: ignore[arg-type]
    _first, _second = halves.remote(3)
    _first, _second = text_of.options(num_returns=2).remote(3)


def objects() -> None:
    ref = add.remote(1)
    assert_type(ray.put("a"), ObjectRef[str])
    assert_type(ray.get(ref), int)
    assert_type(ray.get([ref, ref], timeout=1), list[int])
    ray.get(1)  # type: ignore[call-overload]
    assert_type(ray.wait([ref]), tuple[list[ObjectRef[int]], list[ObjectRef[int]]])
    assert_type(ray.progress([ref]), list[ObjectRef[int]])


def generators() -> None:
    assert_type(count.remote(3), ObjectRefGenerator[int])
    for ref in count.remote(3):
        assert_type(ray.get(ref), int)


async def with_asyncio() -> None:
    assert_type(await add.remote(1), int)
    async for ref in count_async.remote(3):
        assert_type(await ref, int)


def actors() -> None:
    counter = Counter.remote(1)
    assert_type(counter, ActorHandle)
    assert_type(Counter.options(name="a").remote(start=ray.put(1)), ActorHandle)
    assert_type(counter.increment.remote(2), Any)
    assert_type(Counter(3).increment(), int)
    assert_type(Other.remote(), ActorHandle)


def store_alone() -> None:
    with plasma.Store.create(1 << 20) as store:
        assert_type(store, plasma.Store)
