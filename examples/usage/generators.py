"""Generators: results that are used while others are still being made."""

# ruff: noqa: UP028 - "yield from" something that is no generator is an error in Ray 2.60

from __future__ import annotations

import asyncio

import numpy as np

import orchestrator as ray


@ray.remote
def count(n):
    for number in range(n):
        yield number


@ray.remote
def fails_at(n):
    for number in range(n):
        yield number
    raise ValueError(f"nothing after {n}")


@ray.remote(num_returns=3)
def three_blocks(size):
    """Each block is stored as it is yielded: the three are never in this process's memory together."""
    for number in range(3):
        yield np.full(size, number)


@ray.remote
class Reader:
    def lines(self, text):
        for line in text.splitlines():
            yield line

    async def ticks(self, n):
        for number in range(n):
            await asyncio.sleep(0.001)
            yield number


@ray.remote
def shout(line):
    return line.upper()


async def consume(reader):
    return [await ref async for ref in reader.ticks.remote(3)]


def main():
    ray.init(num_cpus=2)
    # What is yielded is a reference: it can be passed on without being looked at.
    print("values:", [ray.get(ref) for ref in count.remote(5)])
    print("blocks:", [int(ray.get(ref).sum()) for ref in three_blocks.remote(10)])
    reader = Reader.remote()
    shouted = [shout.remote(ref) for ref in reader.lines.remote("one\ntwo")]
    print("passed on:", ray.get(shouted))
    print("async:", asyncio.run(consume(reader)))

    # An error is the last item, and raises when it is looked at.
    seen = []
    try:
        for ref in fails_at.remote(2):
            seen.append(ray.get(ref))
    except ValueError:
        print("before the error:", seen)

    # Several generators at once: whichever has an item.
    unfinished, total = [count.remote(4), count.remote(3)], 0
    while unfinished:
        ready, unfinished = ray.wait(unfinished)
        try:
            total += ray.get(next(ready[0]))
            unfinished.append(ready[0])
        except StopIteration:
            pass
    print("of both together:", total)
    ray.shutdown()


if __name__ == "__main__":
    main()
