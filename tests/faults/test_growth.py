"""What much work leaves behind: nothing that grows with it."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import psutil
import pytest

import orchestrator as ray
from orchestrator.core.runtime import require

MIB = 1 << 20


@ray.remote
def same(x):
    return x


def memory_bytes(session) -> int:
    """What the driver, the node and the workers have for themselves."""
    gc.collect()
    driver = psutil.Process()
    return sum(process.memory_full_info().uss for process in [driver, *driver.children(recursive=True)])


@pytest.mark.stress
def test_a_million_tasks_leave_nothing_in_any_process(session, rounds):
    """A hundred thousand as a rule, a million with --endurance; half a byte for each would be seen."""

    def submit(count):
        for _ in range(count // 5_000):
            assert sum(ray.get([same.remote(1) for _ in range(5_000)])) == 5_000

    submit(50_000)  # histories and caches of bounded size are filled
    before = memory_bytes(session)
    count = rounds(100_000, 1_000_000)
    submit(count)
    assert memory_bytes(session) - before < 16 * MIB + count // 100


@pytest.mark.stress
def test_puts_and_deletions_return_the_store_to_its_baseline(session, rounds):
    store = require().store
    data = np.arange(20_000)

    def put_and_drop(count):
        for _ in range(count):
            ray.put(data)

    put_and_drop(100)
    used, objects = store.stats()["used_bytes"], len(store.list())
    put_and_drop(rounds(20_000, 100_000))
    assert (store.stats()["used_bytes"], len(store.list())) == (used, objects)
    audit = store.audit()
    assert audit.ok, audit.problems


def test_a_reference_costs_the_driver_half_a_kilobyte_at_most(session):
    count = 10_000
    ray.get([same.remote(None) for _ in range(count)])
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        refs = [same.remote(None) for _ in range(count)]
        ray.wait(refs, num_returns=count)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(refs) == count
    assert (after - before) / count <= 500
