"""What checkers make of a program; `test_typing.py` has mypy and pyright read this file, nobody runs it.

An `ignore` marks an error that must be found: a checker complains about one that is of no use.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from typing_extensions import assert_type

import orchestrator as ray
import plasma
from orchestrator import DynamicObjectRefGenerator, ObjectRef, ObjectRefGenerator


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
    policy = ray.RetryPolicy(delay_s=0.5)
    again = add.options(timeout_s=1, retry_policy=policy, max_calls=2, name="again")
    assert_type(again.remote(1), ObjectRef[int])
    assert_type(again.remote(1).exception(timeout=1), BaseException | None)
    again.remote(1).add_done_callback(lambda done: print(done.task_id().hex()))


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
    items = count.remote(3)
    assert_type(next(items), ObjectRef[int])
    assert_type(items.next_ready(), bool)
    whole: ObjectRef[DynamicObjectRefGenerator[int]] = count.options(num_returns="dynamic").remote(3)
    assert_type([ray.get(ref) for ref in ray.get(whole)], list[int])


async def with_asyncio() -> None:
    assert_type(await add.remote(1), int)
    async for ref in count_async.remote(3):
        assert_type(await ref, int)


def store_alone() -> None:
    with plasma.Store.create(1 << 20) as store:
        assert_type(store, plasma.Store)
