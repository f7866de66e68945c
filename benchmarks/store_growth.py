"""Does an operation stay as cheap when the store holds a thousand times more? How much of it can be filled?

    python benchmarks/store_growth.py --vs ray,shared_memory

Cost of a put and of a get of 100 bytes while 10³, 10⁴, 10⁵ and 10⁶ objects are held, and of dropping them
all; then, for the store alone, how full it is when an allocation fails, after a long life of random sizes.
``orchestrator`` keeps values this small in the owner's heap until somebody else needs them; ``plasma`` is the
side that shows the shared table.
"""

from __future__ import annotations

import importlib
import random
import time
from collections.abc import Callable
from typing import Any

from harness import command_line, compare, emit

SIDES = ("plasma", "orchestrator")
PEERS = ("ray", "shared_memory")
COUNTS = (1_000, 10_000, 100_000, 1_000_000)
#: A peer stops where its operations get too slow to wait for, or run into its limits.
COUNTS_MAX = {"ray": 100_000, "shared_memory": 1_000}
VALUE = bytes(range(100))
SAMPLES = 1_000

FRAGMENTATION_STORE_BYTES = 256 << 20
FRAGMENTATION_STEPS = 200_000
#: From a small message to 1 MiB, evenly spread over the orders of magnitude.
SIZE_EXPONENT_RANGE = (6, 20)


def operations(
    side: str,
) -> tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], None], Callable[[], None]]:
    """(put, get, drop, close) of one small value. ``drop`` gets what ``put`` returned."""
    if side == "plasma":
        from plasma import Store

        # 64 bytes of header and 128 of data each, and room.
        store = Store.create(1 << 30, max_objects=1 << 21)
        return lambda: store.put(VALUE), store.load, store.delete, store.close
    if side == "shared_memory":
        from multiprocessing.shared_memory import SharedMemory

        def put() -> SharedMemory:
            segment = SharedMemory(create=True, size=len(VALUE))
            segment.buf[:] = VALUE
            return segment

        def get(segment: SharedMemory) -> bytes:
            attached = SharedMemory(name=segment.name)
            value = bytes(attached.buf)
            attached.close()
            return value

        def drop(segment: SharedMemory) -> None:
            segment.close()
            segment.unlink()

        return put, get, drop, lambda: None
    api = importlib.import_module(side)
    api.init()
    return lambda: api.put(VALUE), api.get, lambda ref: None, api.shutdown


def measure_growth(side: str, counts: tuple[int, ...]) -> None:
    put, get, drop, close = operations(side)
    held: list[Any] = []
    chooser = random.Random(1)
    for count in counts:
        while len(held) < count - SAMPLES:
            held.append(put())
        start = time.perf_counter()
        for _ in range(SAMPLES):
            held.append(put())
        emit(f"put, {count:,} held", (time.perf_counter() - start) / SAMPLES * 1e6, "µs")
        chosen = chooser.sample(held, SAMPLES)
        start = time.perf_counter()
        for key in chosen:
            get(key)
        emit(f"get, {count:,} held", (time.perf_counter() - start) / SAMPLES * 1e6, "µs")
    del chosen, key
    held_count = len(held)
    start = time.perf_counter()
    while held:
        drop(held.pop())
    emit("drop", (time.perf_counter() - start) / held_count * 1e6, "µs")
    close()


def measure_fragmentation(steps: int) -> None:
    """Random allocations and releases near the limit: how full is the store at the first failures?"""
    from plasma import Store
    from plasma.errors import ObjectStoreFullError

    rng = random.Random(2)
    store = Store.create(FRAGMENTATION_STORE_BYTES, max_objects=1 << 18)
    capacity_bytes = store.audit().bytes_free
    held: list[tuple[bytes, int]] = []
    used_bytes = 0
    fills: list[float] = []
    for number in range(steps):
        size_bytes = int(2 ** rng.uniform(*SIZE_EXPONENT_RANGE))
        object_id = number.to_bytes(16, "little")
        try:
            # Referenced: a store under pressure may evict what nobody holds, and here it must not.
            store.put_parts(object_id, [bytes(size_bytes)], referenced=True)
            held.append((object_id, size_bytes))
            used_bytes += size_bytes
        except ObjectStoreFullError:
            fills.append(used_bytes / capacity_bytes)
            for _ in range(max(1, len(held) // 10)):
                index = rng.randrange(len(held))
                held[index], held[-1] = held[-1], held[index]
                object_id, size_bytes = held.pop()
                store.drop_ref(object_id)
                used_bytes -= size_bytes
    store.close()
    # Warm: the first tenth of the failures comes from a store that hasn't lived yet.
    lived = fills[len(fills) // 10 :] or [0.0]
    emit("fill when an allocation fails, mean", 100 * sum(lived) / len(lived), "% of capacity")
    emit("fill when an allocation fails, worst", 100 * min(lived), "% of capacity")


def child(side: str, quick: bool) -> None:
    limit = 100_000 if quick else COUNTS[-1]
    limit = min(limit, COUNTS_MAX.get(side, limit))
    measure_growth(side, tuple(count for count in COUNTS if count <= limit))
    if side == "plasma":
        measure_fragmentation(FRAGMENTATION_STEPS // (10 if quick else 1))


def main() -> None:
    arguments = command_line(
        __doc__,
        quick="up to 100 000 objects, a tenth of the random steps",
        peers=PEERS,
        without_ours=True,
    ).parse_args()
    if arguments.child:
        child(arguments.child, arguments.quick)
        return
    compare(__file__, "store_growth", "growth", SIDES, arguments)


if __name__ == "__main__":
    main()
